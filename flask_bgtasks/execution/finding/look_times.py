"""When the look-out asks the store: often by itself, and seldom while other processes announce what they do.

What is announced is looked for at once. What nobody announces is known before: when a pause or a lease ends, from the
last look, and that a process of this host has died, from the kernel, which is asked without a query.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from ...announcements.announcement import Announcement
from ...core.backoff import rng
from ...runtime import processes

NET_SECONDS = 4.0
"""Mean time between two looks while announcements are heard: what is lost of them costs at most about that."""

MAX_NEIGHBOURS = 1000
"""Processes of this host that are remembered, of all of an app's: the oldest are forgotten."""


class LookTimes:
    """The times of the look-out of one process, which asks this several times a second.

    :param holds: whether the announcements of others are heard.
    """

    def __init__(self, holds: Callable[[], bool]) -> None:
        self._holds = holds
        self.reset()

    def reset(self) -> None:
        """Forget everything: in a child of fork."""
        # _lock protects both: an earlier time that is announced during a look must not be lost, nor a process.
        self._lock = threading.Lock()
        self._look_by = float("-inf")  # by time.monotonic
        self._neighbours: dict[str, None] = {}  # the processes of this host that were heard of, or held something

    def is_time(self) -> bool:
        """Whether to look now. A look that is answered by yes has begun."""
        seldom = self._holds()
        if seldom and time.monotonic() < self._look_by and not self._has_neighbour_died():
            return False
        with self._lock:
            self._look_by = time.monotonic() + NET_SECONDS * rng.uniform(0.75, 1.25)
        return True

    def looked(self, workers: Iterable[str], next_due: Callable[[], float | None]) -> None:
        """A look is over.

        :param workers: those that held something.
        :param next_due: in how many seconds something else may begin; only called where it matters.
        """
        for worker in workers:
            self._remember(worker)
        if self._holds() and (seconds := next_due()) is not None:
            self.look_within(seconds)

    def look_within(self, seconds: float) -> None:
        """Look at the latest after so many seconds."""
        with self._lock:
            self._look_by = min(self._look_by, time.monotonic() + seconds)

    def heard(self, said: Announcement) -> None:
        """What another process announced."""
        if said.process is not None:
            self._remember(said.process)
        if said.everything:
            self.look_within(0)
        if said.due_in is not None:
            self.look_within(said.due_in)

    def _remember(self, worker: str) -> None:
        if worker in self._neighbours or worker == processes.me() or not processes.is_here(worker):
            return
        if processes.alive(worker) is False:  # one whose leases the last look has ended
            return
        with self._lock:
            self._neighbours[worker] = None
            while len(self._neighbours) > MAX_NEIGHBOURS:
                del self._neighbours[next(iter(self._neighbours))]

    def _has_neighbour_died(self) -> bool:
        with self._lock:
            neighbours = list(self._neighbours)
        died = [worker for worker in neighbours if processes.alive(worker) is False]
        with self._lock:
            for worker in died:
                self._neighbours.pop(worker, None)
        return bool(died)
