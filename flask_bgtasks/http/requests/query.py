"""Reads query parameters. A wrong one is a problem that names the parameter, its value, and what is expected. Pure."""

from __future__ import annotations

import math
import re

from ...core.model import Status
from ..problems import Problem

MAX_IDS = 100
MAX_LISTED = 100
MAX_TEXT = 1000  # characters, of a task's name
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def bad(name: str, value: str, expected: str) -> Problem:
    """The problem with a parameter: ``wait='x': expected a number of seconds``."""
    return Problem("invalid-parameter", f"{name}={value[:80]!r}: expected {expected}", parameter=name)


def seconds(name: str, text: str, *, maximum: float) -> float:
    """A time to wait, cut to ``maximum``.

    :raises Problem: not a number of seconds, or negative.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise bad(name, text, "a number of seconds, 0 or more")
    return min(value, maximum)


def whole(name: str, text: str | None, *, default: int, maximum: int) -> int:
    """A whole number from 1 to ``maximum``. :raises Problem: something else."""
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= maximum):
        raise bad(name, text, f"a whole number from 1 to {maximum}")
    return int(text)


def text(name: str, value: str | None) -> str | None:
    """A text to compare with, None where it was not given, or is empty. :raises Problem: it can be none."""
    if not value:
        return None
    if len(value) > MAX_TEXT or CONTROL.search(value):
        raise bad(name, value, f"at most {MAX_TEXT} characters, none of them a control character")
    return value


def flag(name: str, text: str | None) -> bool | None:
    """``true`` or ``false``, None where it was not given. :raises Problem: something else."""
    if text is None:
        return None
    if text not in ("true", "false"):
        raise bad(name, text, "true or false")
    return text == "true"


def ids(text: str) -> list[str]:
    """Task ids with commas between them, each once. :raises Problem: more than :data:`MAX_IDS`."""
    found = [part.strip() for part in text.split(",")]
    if len(found) > MAX_IDS:
        raise Problem("invalid-parameter", f"ids: expected at most {MAX_IDS}, got {len(found)}", parameter="ids")
    return list(dict.fromkeys(filter(None, found)))


def statuses(text: str | None) -> frozenset[Status] | None:
    """States with commas between them, None where they were not given. :raises Problem: an unknown one."""
    if text is None:
        return None
    try:
        return frozenset(Status(part.strip()) for part in text.split(","))
    except ValueError:
        raise bad("status", text, f"one or more of {', '.join(s.value for s in Status)}") from None
