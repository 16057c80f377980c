"""About how many tasks wait, so that not every create counts them. Knows no database."""

from __future__ import annotations

import threading
import time


class QueueGauge:
    """The waiting tasks of one store, as one process knows them.

    A count is trusted for a second or 256 creates of this process, and only while those could not reach the limit. So
    one process never exceeds it; several can, by what the others create within that second.
    """

    EXACT_UP_TO = 1000  # smaller limits are counted at each create: so few rows cost little
    TRUSTED_SECONDS = 1.0
    TRUSTED_CREATES = 256

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects the three below, which are one fact
        self._waiting = 0
        self._since = 0
        self._until = 0.0

    def needs_count(self, limit: int) -> bool:
        """Whether the waiting tasks must be counted before another one is created."""
        with self._lock:
            return (
                limit <= self.EXACT_UP_TO
                or self._since >= self.TRUSTED_CREATES
                or time.monotonic() >= self._until
                or self._waiting + self._since + 1 >= limit
            )

    def counted(self, waiting: int) -> None:
        """So many wait now."""
        with self._lock:
            self._waiting, self._since, self._until = waiting, 0, time.monotonic() + self.TRUSTED_SECONDS

    def created(self) -> None:
        """One more was created here."""
        with self._lock:
            self._since += 1
