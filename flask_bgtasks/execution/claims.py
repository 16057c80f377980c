"""Claims tasks for this process: when they are to be run, or together with their creation.

What was claimed with its creation is held here until its run begins, which is a moment later: as any attempt its lease
is renewed meanwhile, and a cancellation reaches it.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ..core.definitions import TaskDefinition, TaskRegistry
from ..core.model import OnInterrupt, Task, TaskKind
from ..core.steps import StepTree
from ..core.transitions.attempt import Claim, Release
from ..core.transitions.transition import Durability
from ..delivery.dispatcher import Dispatcher
from ..errors import BackgroundTasksError, OutcomeUnknown, TaskFinished
from ..pipeline.attempt import RunningAttempt, StepListener
from ..pipeline.checkpoint_log import CheckpointLog
from ..runtime import processes
from ..runtime.fork import after_fork_in_child
from ..settings import Settings
from ..stores.base import Store
from ..stores.types import Attempt, Created, Limits
from .durations import Durations
from .flusher import CANCELLED, Flusher

log = logging.getLogger("flask_bgtasks")

HELD_SECONDS = 5.0
"""How long an attempt waits for its run, which is under way already. Then whoever was to run it was ended: it is given
back, so that a process that lives on does not keep a task that nobody runs. If its run comes after all it claims the
task like any other."""


class Claims:
    """The attempts that one process has claimed.

    :param on_step: called with each step of theirs.
    :param overdue: ends an attempt that does not stop after its timeout.
    :param release: gives an attempt's lease back.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        registry: TaskRegistry,
        *,
        deliveries: Dispatcher,
        durations: Durations,
        flusher: Flusher,
        on_step: StepListener,
        overdue: Callable[[Task, RunningAttempt], None],
        release: Callable[[RunningAttempt], object],
    ) -> None:
        self._store = store
        self._settings = settings
        self._registry = registry
        self._deliveries = deliveries
        self._durations = durations
        self._flusher = flusher
        self._on_step = on_step
        self._overdue = overdue
        self._release = release
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        # By id: what was claimed with its creation and has not begun. Each step on it is one, so it needs no lock.
        self._held: dict[str, tuple[Attempt, RunningAttempt]] = {}

    def create(
        self, task: Task, input: Mapping[str, Any], *, limits: Limits | None, at_once: bool, promised: bool
    ) -> Created:
        """Store a task.

        :param at_once: whether it begins here right after: then it is claimed in the same transaction, and
            :meth:`begin` gives that attempt.
        :param promised: whether somebody is told that it will finish. Then it has survived a power cut before.
        :raises LimitReached: as many tasks wait as may. :raises IdempotencyConflict: as ``Store.create``.
        """
        asked = time.monotonic()
        claim = Claim(processes.me(), self._settings.lease) if at_once else None
        try:
            created = self._store.create(
                task,
                input=input,
                deliveries=self._deliveries.for_change,
                limits=limits,
                claim=claim,
                most_running=self._registry.most_running,
                durability=Durability.DISK if promised else Durability.PROCESS,
            )
        except OutcomeUnknown:
            if at_once:  # if it is there nobody runs it here: whoever looks for work may have it
                with suppress(BackgroundTasksError):
                    self._store.transition(task.request_id, Release(1), deliveries=self._deliveries.for_change)
            raise
        if created.attempt is not None:
            running = self._running(created.attempt, self._registry.find(task.name), asked)
            running.promised = promised
            running.releasable = task.kind is not TaskKind.TRACKED  # nothing of it has been done
            running.begin_by = asked + HELD_SECONDS
            running.late = functools.partial(self.give_back, task.request_id)
            self._held[task.request_id] = created.attempt, running
            self._flusher.add(running)
        return created

    def begin(self, request_id: str) -> tuple[Attempt, TaskDefinition | None, RunningAttempt]:
        """The attempt that is to be run now: the one that is held here, or a new one. Its time runs from now on.

        :returns: with the task's definition, None where this process has none.
        :raises TransitionRefused: it is not to be run now.
        """
        asked, held = time.monotonic(), self._held.pop(request_id, None)
        attempt = self._claim(request_id) if held is None else held[0]
        definition = self._registry.find(attempt.task.name)
        running = self._running(attempt, definition, asked) if held is None else held[1]
        task, now = attempt.task, time.monotonic()
        running.begin_by, running.plan.root.started = None, now
        if definition is not None and definition.options.timeout is not None:
            running.deadline = now + definition.options.timeout
            running.overdue = functools.partial(self._overdue, task, running)
        running.releasable = task.kind is not TaskKind.TRACKED and task.on_interrupt is not OnInterrupt.FAIL
        return attempt, definition, running

    @property
    def held(self) -> list[str]:
        """The ids of what was claimed with its creation and has not begun."""
        return list(self._held)

    def give_back(self, request_id: str) -> None:
        """An attempt that is held is not begun here after all: whoever looks for work may have its task."""
        held = self._held.pop(request_id, None)
        if held is not None:
            self._release(held[1])

    def _claim(self, request_id: str) -> Attempt:
        attempt = self._store.claim(
            request_id,
            worker=processes.me(),
            lease=self._settings.lease,
            deliveries=self._deliveries.for_change,
            most_running=self._registry.most_running,
        )
        if attempt.task.done:
            log.error("task %s is not run again: %s", request_id, attempt.task.error_message)
            raise TaskFinished(request_id, status=attempt.task.status.value, change="claim")
        return attempt

    def _running(self, attempt: Attempt, definition: TaskDefinition | None, asked: float) -> RunningAttempt:
        """An attempt as its pipeline is to see it.

        :param asked: when it was asked for, by ``time.monotonic``: from then on its lease holds at least.
        """
        task = attempt.task
        plan = StepTree(
            started=time.monotonic(),
            expected=definition.expected if definition else (),
            total_steps=definition.options.total_steps if definition else None,
            durations=self._durations.of(task.name),
        )
        running = RunningAttempt(
            request_id=task.request_id,
            attempt=task.attempt,
            plan=plan,
            owner=task.owner,
            clock=self._store.now,
            max_output_bytes=self._settings.max_result_bytes,
            on_step=self._on_step,
        )
        running.task = task
        running.leased_at = asked
        if task.kind is not TaskKind.TRACKED:
            running.checkpoints = CheckpointLog(
                attempt.checkpoints,
                save=functools.partial(self._flusher.save_checkpoint, running),
                confirm=functools.partial(self._flusher.confirm, running),
                max_bytes=self._settings.max_result_bytes,
                whose=f"task {task.request_id}, attempt {task.attempt}",
            )
        if task.attempt > 1 and task.progress is not None:
            running.behind = (task.progress.percentage, f"resumed, attempt {task.attempt}")
        if task.cancel_requested_at is not None:
            running.stop(CANCELLED)
        return running
