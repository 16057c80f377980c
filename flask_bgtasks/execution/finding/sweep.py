"""Finds the tasks whose wake-up call seems to be lost, for runners that publish such calls to a queue beside the store.

Only the head of each of the store's queues is looked at: where calls are lost nobody takes from it, and what stands
there grows old; where they are not, what is behind it has its call still. A mark in the store says that a task that
waits since then was published again, and for how long nobody is to do that once more: so long as it has waited, but for
half a minute at least. So one process does it, a deep queue costs a few calls, and what is lost again waits twice as
long.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime, timedelta

from ...core.model import Status, Task
from ...errors import ShuttingDown, TaskNotFound
from ...runtime.fork import after_fork_in_child
from ...runtime.log_lines import Recurring
from ...stores.base import Store
from ...stores.conversions import micros
from ...wording import counted
from .fetcher import Fetcher

log = logging.getLogger("flask_bgtasks")

HEAD = 100
"""How many tasks of a queue are looked at, and how many of those that a look remembers."""

MAX_UNHEARD = 10_000
"""How many tasks that could not be published a process remembers; the others wait for :data:`PATIENCE`."""

PATIENCE = timedelta(seconds=30)
"""How long a task may wait for whom its call wakes. One that is due, or was given back, has no call yet."""


class Sweep:
    """Publishes again what nobody seems to have been told of.

    :param fetch: finds what may begin now, in the order of the queue.
    :param queues: the queues that are looked at.
    :param publish: the runner's ``submit_again``; what it raises is contained.
    """

    def __init__(
        self,
        store: Store,
        fetch: Fetcher,
        publish: Callable[[Task], object],
        *,
        queues: Callable[[], Collection[str]],
    ) -> None:
        self._store = store
        self._fetch = fetch
        self._publish = publish
        self._queues = queues
        self._outage = Recurring(log)
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        # Held for a look: that of the process's look-out, and one that a scheduler asks for, would publish the same.
        self._looking = threading.Lock()
        # What was not published when it was accepted. From any thread; each step on it is one, so it needs no lock.
        self._unheard: dict[str, None] = {}
        self._beyond_at = 0.0  # by time.monotonic: when it looks beyond the queues that tasks name. Under _looking.
        # By mark, until when this process does not ask for it again. Under _looking.
        self._asked: dict[str, float] = {}

    def unheard(self, request_id: str, error: Exception) -> None:
        """A task was accepted and could not be published: it is, as soon as that is possible again."""
        self._note(error)
        if len(self._unheard) < MAX_UNHEARD:
            self._unheard[request_id] = None

    def __call__(self) -> int:
        """Look once; how many were published.

        :raises StoreUnavailable: the store is unreachable. :raises ShuttingDown: this process stops.
        """
        with self._looking:
            return self._look()

    def _look(self) -> int:
        now = self._store.now()
        self._asked = {mark: until for mark, until in self._asked.items() if until > time.monotonic()}
        found = self._remembered()
        found += [task for task in self._heads() if now - _since(task) >= _patience(task)]
        published = 0
        for task in found:
            if _mark(task) in self._asked:
                continue
            self._asked[_mark(task)] = time.monotonic() + PATIENCE.total_seconds()
            if not self._store.take_mark(_mark(task), max(PATIENCE, now - _since(task))):
                self._unheard.pop(task.request_id, None)  # another process has published it
                continue
            if not self._publishes(task):
                break  # the others too, at the next look
            published += 1
        if published:
            log.info("%s published again that nobody had begun", counted(published, "task"))
        return published

    def _heads(self) -> list[Task]:
        """What stands first in each queue; now and then also what waits in one that no task here names any more."""
        queues = sorted(self._queues())
        heads = [task for queue in queues for task in self._fetch(HEAD, queues=(queue,))]
        if time.monotonic() >= self._beyond_at:
            self._beyond_at = time.monotonic() + PATIENCE.total_seconds()
            heads += [task for task in self._fetch(HEAD) if task.queue not in queues]
        return heads

    def _remembered(self) -> list[Task]:
        """Some of what could not be published before, and waits still."""
        found = []
        for request_id in list(itertools.islice(self._unheard, HEAD)):
            task = None
            with suppress(TaskNotFound):
                task = self._store.get(request_id)
            if task is None or task.done or task.held:  # somebody else has begun it
                self._unheard.pop(request_id, None)
            else:
                found.append(task)
        return found

    def _publishes(self, task: Task) -> bool:
        try:
            self._publish(task)
        except ShuttingDown:
            self._store.set_mark(_mark(task), timedelta(0))
            raise
        except Exception as error:
            self._asked.pop(_mark(task), None)
            self._store.set_mark(_mark(task), timedelta(0))
            self._note(error)
            return False
        self._unheard.pop(task.request_id, None)
        self._outage.over("tasks can be published again")
        return True

    def _note(self, error: Exception) -> None:
        self._outage.note("tasks cannot be published, and wait in the store: %s: %s", type(error).__name__, error)


def _mark(task: Task) -> str:
    return f"published:{task.request_id}:{micros(_since(task))}"


def _since(task: Task) -> datetime:
    """Since when a task might have begun: it was accepted, was given back, became due, or its process was lost."""
    return max(task.updated_at, task.lease_until or task.updated_at)


def _patience(task: Task) -> timedelta:
    """How long it is left to the call of its acceptance. A task that has begun before has none yet."""
    return PATIENCE if task.status is Status.STARTED else timedelta(0)
