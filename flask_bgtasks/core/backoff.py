"""How long to wait before the next try: exponential back-off with full jitter. Pure, except for randomness."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from werkzeug.http import parse_date

rng = random.SystemRandom()
"""Not the module's own numbers: two children of one fork would throw the same, and a test that seeds those for itself
would find them moved by our threads."""

MAX_RETRY_AFTER = 30 * 86400.0  # seconds that anybody is believed; what a date can hold is more, infinity is not

MAX_DOUBLINGS = 30  # beyond them any ceiling is reached


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits drawn at random below a limit that doubles, so that tasks which failed together spread out.

    Source: "Exponential Backoff And Jitter" (AWS Architecture Blog), "full jitter".

    :param first: the upper limit of the first wait, in seconds.
    :param longest: the highest upper limit, in seconds.
    """

    first: float = 2.0
    longest: float = 300.0

    def __post_init__(self) -> None:
        for name in ("first", "longest"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
                raise ValueError(f"Backoff({name}={value!r}): expected seconds, 0 or more")

    def ceiling(self, tries: int) -> float:
        """The longest that is waited after so many failed tries, from 1."""
        return min(self.longest, self.first * 2.0 ** min(max(0, tries - 1), MAX_DOUBLINGS))

    def wait(self, tries: int) -> float:
        """Seconds to wait after so many failed tries."""
        return rng.uniform(0, self.ceiling(tries))


def retry_after_seconds(value: Any) -> float | None:
    """The seconds that a ``Retry-After`` asks to wait: a number of them or a date (RFC 9110, section 10.2.3).

    What is longer than :data:`MAX_RETRY_AFTER` is cut to that.

    :param value: the header's text; or a number or a time, as exceptions carry it. None where it is none of these.
    """
    if isinstance(value, str):
        text = value.strip()
        if text.isascii() and text.isdigit():
            return min(float(text), MAX_RETRY_AFTER)
        value = _date(text)
    if isinstance(value, datetime):
        at = value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)
        return min(max(0.0, (at - datetime.now(timezone.utc)).total_seconds()), MAX_RETRY_AFTER)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return float(min(value, MAX_RETRY_AFTER))
    return None


def _date(text: str) -> datetime | None:
    try:
        return parse_date(text)
    except OverflowError:  # of a year with twenty digits, say
        return None
