"""Validates ids and cursors from outside before a database is asked. Pure.

What one database refuses (a NUL in PostgreSQL, a slash in Firestore, a number beyond 64 bits in SQLite) names nothing
in any of them, so it is treated alike everywhere: an id like that is not there, a cursor like that is a `ValueError`.
"""

from __future__ import annotations

import base64
import re
from datetime import datetime

from .conversions import micros, moment

MAX_KEY_BYTES = 1500  # of a document's id; Firestore docs, "Quotas and limits"

_CURSOR = re.compile(r"([0-9]{1,18})\|(.*)")  # 18 digits fit 64 bits, and are beyond the year 30,000


def can_exist(key: str) -> bool:
    """Whether something may be stored under this id: visible text, at most 1,500 bytes, that is no path in Firestore.

    Source: Firestore docs, "Constraints on document IDs".
    """
    return (
        bool(key)
        and key.isprintable()
        and "/" not in key
        and key not in (".", "..")
        and not (key.startswith("__") and key.endswith("__"))
        and len(key.encode("utf-8")) <= MAX_KEY_BYTES
    )


def write_cursor(created_at: datetime, request_id: str) -> str:
    """What asks for the page after this task."""
    text = f"{micros(created_at)}|{request_id}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """When the last task of the page before was created, and its id. :raises ValueError: no page gave this cursor."""
    try:
        match = _CURSOR.fullmatch(base64.b64decode(cursor.encode("ascii"), b"-_", validate=True).decode())
        if match is None or not can_exist(match[2]):
            raise ValueError("another form")
        return moment(int(match[1])), match[2]
    except (ValueError, OverflowError) as error:
        raise ValueError(f"cursor={cursor[:80]!r}: not a cursor of an earlier page") from error
