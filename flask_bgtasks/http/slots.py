"""The places for streams and long polls in one process: each holds a server thread, so there are only so many."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType


class Slot:
    """One taken place. Given back by :meth:`release`, at the end of a ``with`` block, or when nobody holds it any more.

    The last is for answers that are thrown away before the server sees them: an ``after_request`` function raised, say.
    """

    __slots__ = ("_slots",)

    def __init__(self, slots: Slots) -> None:
        self._slots: Slots | None = slots

    def release(self) -> None:
        """Give the place back. Can be called twice."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots._give_back()

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
    """

    def __init__(self, limit: int | None = None) -> None:
        # Protects the count. Re-entrant, because garbage collection may release a slot in a thread that holds it.
        self._lock = threading.RLock()
        self._limit = limit
        self._taken = 0

    def take(self, find_limit: Callable[[], int]) -> Slot | None:
        """Take a place, None if all are taken.

        :param find_limit: asks how many there are, where no limit was given.
        """
        if self._limit is None:
            self._limit = find_limit()
        with self._lock:
            if self._taken >= self._limit:
                return None
            self._taken += 1
        return Slot(self)

    @property
    def taken(self) -> int:
        """How many are taken now."""
        return self._taken

    @property
    def limit(self) -> int | None:
        """How many there are, None while nobody has asked for one."""
        return self._limit

    def _give_back(self) -> None:
        with self._lock:
            self._taken -= 1
