"""Wake-up calls, for runners that publish them to a queue beside the store: whoever gets one runs what stands first.

A call carries a task's id, and yet is no order to run that one: the store's queue says what comes next. What is told of
each end here begins the next one where a name may not run more often; the sweep repeats what was lost (:mod:`.sweep`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from ...core.definitions import TaskRegistry
from ...core.model import Task
from ...errors import ShuttingDown, StoreUnavailable, TaskNotFound
from ...runners.base import Runner
from ...runtime.background_thread import Contained
from ...stores.base import Store
from .fetcher import Fetcher
from .sweep import Sweep

log = logging.getLogger("flask_bgtasks")

AHEAD = 8
"""How many tasks a wake-up call looks at: several come at once, and each finds the same ones first."""

MAX_ROUNDS = 5
"""How often it looks, where others were quicker with all of those."""

EARLY = timedelta(seconds=60)
"""How early the call of a retry may come, by a queue whose clock is ahead of the store's: then it comes once more."""


class WakeUpCalls:
    """Publishes and answers them. Complete once it is given the runner.

    :param fetch: finds what may begin. :param run: runs a task, unless someone else has it; whether it did.
    """

    def __init__(self, store: Store, registry: TaskRegistry, fetch: Fetcher, run: Callable[[str], bool]) -> None:
        self._store = store
        self._registry = registry
        self._fetch = fetch
        self._run = run
        # Of a thread that answers: the names of which something ended meanwhile. In a queue that runs at once, as in
        # tests, what comes next would else run inside of what has ended, and so on, until there is no more stack.
        self._here = threading.local()

    def attach(self, runner: Runner, sweep: Sweep) -> None:
        """Take the runner that publishes. :param sweep: is told of what cannot be published."""
        self._runner = runner
        self._sweep = sweep

    def answer(self, request_id: str, queue: str) -> bool:
        """Run what stands first in a queue, if anything does.

        :param request_id: whose wake-up call this is; it comes again where others are always quicker.
        :returns: whether the call has done what it was for (:data:`~flask_bgtasks.runners.base.Wake`).
        :raises StoreUnavailable: the store is unreachable.
        """
        if getattr(self._here, "freed", None) is not None:  # within another call
            return self._answered(request_id, queue)
        self._here.freed = freed = list[str]()
        try:
            return self._answered(request_id, queue)
        finally:
            try:
                while freed:
                    self._begin_next(freed.pop())
            finally:
                self._here.freed = None

    def _answered(self, request_id: str, queue: str) -> bool:
        for _ in range(MAX_ROUNDS):
            found = self._fetch(AHEAD, queues=(queue,))
            if not found:
                return not self._needed_again(request_id)
            begun = next((task for task in found if self._begun(task.request_id)), None)
            if begun is not None:
                # A process that is told to stop gives back what it runs, and tells nobody of it.
                return not (self._runner.draining and self._needed_again(begun.request_id))
        if not self._runner.repeats:
            self._runner.submit(request_id, queue=queue)
        return False

    def _needed_again(self, request_id: str) -> bool:
        """Whether a wake-up call is still needed for a task that cannot begin now.

        Not while it waits for its turn: when another of its name ends the next one is published. Nor for a retry that
        is due later, which has a call of its own. But whoever runs it may have died; and a task whose function is not
        known here is left to a process that knows it.
        """
        try:
            task = self._store.get(request_id)
        except TaskNotFound:
            return False
        if task.done or task.held:
            return not task.done
        if task.retry_at is not None and task.retry_at - self._store.now() > EARLY:
            return False
        return self._registry.most_running.get(task.name) is None

    def _begun(self, request_id: str) -> bool:
        """Run a task; one that cannot even be claimed does not stand in the way of those behind it."""
        try:
            return self._run(request_id)
        except StoreUnavailable:
            raise
        except Exception:
            log.exception("task %s cannot be begun", request_id)
            return False

    def publish(self, task: Task) -> None:
        """Hand a stored task to the runner; what it raises is remembered for the next look."""
        try:
            self._runner.submit(task.request_id, priority=task.priority, queue=task.queue)
        except ShuttingDown:
            log.debug("stopping: task %s is left to another process", task.request_id)
        except Exception as error:
            self._sweep.unheard(task.request_id, error)

    def publish_again(self, task: Task) -> None:
        """Hand it to the runner once more. :raises Exception: what that raises."""
        self._runner.submit_again(task.request_id, priority=task.priority, queue=task.queue)

    def ended(self, name: str) -> None:
        """An attempt has ended: where its name has a limit the next one may begin, whatever the runner."""
        if self._registry.most_running.get(name) is None:
            return
        freed = getattr(self._here, "freed", None)
        if freed is None:
            self._begin_next(name)
        else:
            freed.append(name)

    def _begin_next(self, name: str) -> None:
        with Contained("the next task of the name %r is not begun yet", name):
            if not self._runner.publishes:
                self._runner.look()
                return
            for waiting in self._fetch(1, names=(name,)):  # whoever was told of it before was refused
                self.publish(waiting)
