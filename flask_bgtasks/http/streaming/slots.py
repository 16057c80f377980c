"""The places for streams and long polls in one process: each holds a server thread, so their number is limited.

Each owner, or each remote address without an owner, has a share of them, so that one client cannot take all.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType

MIN_SHARE = 2  # places; a browser has a stream, and a long poll beside it


class Slot:
    """One taken place. Given back by :meth:`release`, at the end of a ``with`` block, or when nobody holds it any more.

    The last is for answers that are thrown away before the server sees them: an ``after_request`` function raised, say.
    """

    __slots__ = ("_slots", "_whose")

    def __init__(self, slots: Slots, whose: str | None) -> None:
        self._slots: Slots | None = slots
        self._whose = whose

    def release(self) -> None:
        """Give the place back. Can be called twice."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots._give_back(self._whose)

    __del__ = release

    def __enter__(self) -> Slot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Slots:
    """Counts the places.

    :param limit: how many there are; asked once, in the first request that wants one.
    :param share: how many of them one client may have; None for half of them, at least :data:`MIN_SHARE`.
    """

    def __init__(self, limit: int | None = None, share: int | None = None) -> None:
        # Protects the counts. Re-entrant, because garbage collection may release a slot in a thread that holds it.
        self._lock = threading.RLock()
        self._limit = limit
        self._share = share
        self._taken = 0
        self._taken_by: Counter[str] = Counter()

    def take(self, find_limit: Callable[[], int], whose: str | None = None) -> Slot | None:
        """Take a place, None if all are taken, or all of this client's share.

        :param find_limit: asks how many there are, where no limit was given.
        :param whose: names the client; None for one that cannot be told from others, and has no share.
        """
        if self._limit is None:
            self._limit = find_limit()
        with self._lock:
            if self._taken >= self._limit:
                return None
            if whose is not None:
                if self._taken_by[whose] >= self.share:
                    return None
                self._taken_by[whose] += 1
            self._taken += 1
        return Slot(self, whose)

    @property
    def taken(self) -> int:
        """How many are taken now."""
        return self._taken

    @property
    def limit(self) -> int | None:
        """How many there are, None while nobody has asked for one."""
        return self._limit

    @property
    def share(self) -> int:
        """How many of them one client may have."""
        if self._share is not None:
            return self._share
        return max(MIN_SHARE, (self._limit or 0) // 2)

    def _give_back(self, whose: str | None) -> None:
        with self._lock:
            self._taken -= 1
            if whose is not None:
                self._taken_by[whose] -= 1
                if self._taken_by[whose] <= 0:
                    del self._taken_by[whose]
