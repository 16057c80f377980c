"""Ids of tasks. They come from callers, answers and files, and go into the addresses of calls that carry credentials.

Anything that is not a UUID is rejected here. Pure.
"""

from __future__ import annotations

import re
import uuid

from ...errors import InvalidRequestId

_FORM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def is_request_id(value: object) -> bool:
    """Whether this is the id of a task, exactly as the server writes it."""
    return isinstance(value, str) and _FORM.fullmatch(value) is not None


def as_request_id(given: str) -> str:
    """The id that somebody gave, as the server writes it. :raises InvalidRequestId: it is none."""
    try:
        return str(uuid.UUID(given.strip()))
    except (ValueError, AttributeError):
        raise InvalidRequestId(given) from None
