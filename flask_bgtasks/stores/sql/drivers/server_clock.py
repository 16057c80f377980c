"""Estimates a server's time: its last answer, plus the time since then on a monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

MAX_ROUND_TRIP_SECONDS = 1.0
"""An answer that took longer says too little about when it was given: what is known already is kept."""


class ServerClock:
    """Set by whoever talks to the server anyway, read by code that must not: reports of progress.

    As wrong as half a round trip, and as the drift of this machine's clock since the last answer.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._known: tuple[datetime, float] | None = None  # one fact, set in one assignment: it needs no lock

    def tell(self, at: datetime, *, asked: float) -> None:
        """The server said its time in answer to a question that was sent at ``asked`` (by ``monotonic``)."""
        answered = self._monotonic()
        if self._known is None or answered - asked <= MAX_ROUND_TRIP_SECONDS:
            self._known = (at, (asked + answered) / 2)

    def now(self) -> datetime | None:
        """The server's time; None if it has never said it."""
        known = self._known
        return None if known is None else known[0] + timedelta(seconds=self._monotonic() - known[1])
