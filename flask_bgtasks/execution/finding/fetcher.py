"""Fetches the tasks that may begin in this process now, for the runner's free threads.

The store keeps the queue; this adds what only the process knows: which functions it has, how many of each may run, and
whether the holder of an expired lease is in fact alive.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from ...core.model import Task
from ...runtime import processes
from ...stores.protocols.leases import Leases


class Fetcher:
    """Asks the store for work.

    :param names: the names of the tasks that this process can run.
    :param most_running: how many may run at once, over all processes, by name.
    :param lease: seconds that a claim holds; a living holder renews it at a third.
    :param queues: only these, None for all.
    """

    def __init__(
        self,
        store: Leases,
        *,
        names: Callable[[], Collection[str]],
        most_running: Callable[[], Mapping[str, int]],
        lease: float,
        queues: Collection[str] | None = None,
    ) -> None:
        self._store = store
        self._names = names
        self._most_running = most_running
        self._patience = lease / 3 + 1.0
        self._queues = queues
        self._suspects: dict[tuple[str, datetime | None], float] = {}

    def __call__(
        self, limit: int, *, names: Collection[str] | None = None, queues: Collection[str] | None = None
    ) -> list[Task]:
        """At most so many tasks that may begin now, in the order in which they should.

        :param names: only these, None for all that this process can run. :param queues: only these.
        :raises StoreUnavailable: the store is unreachable.
        """
        # What is not believed to be lost stands in front of the queue: it must not hide all that is behind it.
        room = limit + len(self._suspects)
        found = self._store.runnable(
            limit=room,
            names=self._names() if names is None else names,
            queues=self._queues if queues is None else queues,
            most_running=self._most_running(),
        )
        return [task for task in found if not task.held or self._is_lost(task)][:limit]

    def _is_lost(self, task: Task) -> bool:
        """Whether a task whose lease ran out has lost its process.

        A process of this host that lives has not let its lease run out: the clock jumped, or the machine slept. It is
        given the time that it needs to renew it, by a clock that does not jump.
        """
        if task.worker is None or not processes.alive(task.worker):
            return True
        now = time.monotonic()
        for key, since in list(self._suspects.items()):
            if now - since > 10 * self._patience:
                self._suspects.pop(key, None)
        since = self._suspects.setdefault((task.request_id, task.lease_until), now)
        return now - since >= self._patience
