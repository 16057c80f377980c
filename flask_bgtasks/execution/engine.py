"""Runs a task: claims it, calls its function, and stores its end. ``run(request_id)`` is all that a runner needs.

Knows the protocols of the store and the runner, never a concrete one. The attempt's number fences everything that a run
writes. Errors inside the task are stored; errors around it are logged.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from flask import Flask

from ..auth.credentials import Credentials
from ..core.definitions import TaskDefinition, TaskRegistry
from ..core.model import LOGIN_LOST, Event, Task, TaskKind
from ..core.transitions.outside import RequestCancel
from ..core.transitions.transition import Change, Transition
from ..delivery.dispatcher import Dispatcher
from ..errors import (
    AlreadyClaimed,
    AtCapacity,
    CancelRequested,
    ShuttingDown,
    TaskFinished,
    TaskNotFound,
    TaskTimeout,
)
from ..pipeline import reporting
from ..pipeline.attempt import RunningAttempt
from ..runners.base import Runner
from ..runtime.background_thread import BackgroundThread, may_end_process
from ..settings import Settings
from ..stores.base import Store
from ..stores.types import Attempt, Created, Limits
from . import invocation
from .announcer import Announcer
from .claims import Claims
from .durations import Durations
from .finalizer import Finalizer
from .finding.wake_up_calls import WakeUpCalls
from .flusher import OVER, TIMED_OUT, Flusher
from .foreground import Foreground
from .invocation import CallResult
from .retry import wait_before_retry

log = logging.getLogger("flask_bgtasks")

MAX_RAISED = 100
"""How many exceptions of runs are kept for requests that wait for them, in testing and debug mode."""


class Engine:
    """Runs the tasks of one app in this process. It is complete once it is given the runner that calls it.

    :param call_view: calls a task's view in the context of its run, with what was stored of its request.
    :param before_run: restores the user and what the app wants in ``g``, in the run's request context.
    """

    def __init__(
        self,
        app: Flask,
        *,
        store: Store,
        settings: Settings,
        registry: TaskRegistry,
        deliveries: Dispatcher,
        credentials: Credentials,
        call_view: Callable[[TaskDefinition, Mapping[str, Any]], object],
        before_run: Callable[[Attempt], None],
    ) -> None:
        self._app = app
        self._store = store
        self._settings = settings
        self._registry = registry
        self._deliveries = deliveries
        self._credentials = credentials
        self._call_view = call_view
        self._before_run = before_run
        self._announcer = Announcer(app, wake=deliveries.wake)
        self._durations = Durations(store)
        self._flusher = Flusher(
            store,
            interval=settings.progress_interval,
            lease=settings.lease,
            offer=deliveries.offer_progress,
            flushed=self._announcer.progress_stored,
        )
        self._finalizer = Finalizer(store, self._flusher, deliveries)
        self._claims = Claims(
            store,
            settings,
            registry,
            deliveries=deliveries,
            durations=self._durations,
            flusher=self._flusher,
            on_step=self._announcer.step_changed,
            overdue=self._overdue,
            release=self._finalizer.give_back,
        )
        self._raised: dict[str, BaseException] = {}
        store.on_commit(self._announcer.committed)
        store.on_commit(self._heed_cancellation)

    def attach(self, runner: Runner, calls: WakeUpCalls) -> None:
        """Take the runner that calls :meth:`run`: asked for further attempts, told of free places.

        :param calls: is told of each end.
        """
        self._runner = runner
        self._calls = calls

    def _heed_cancellation(self, task: Task, events: Sequence[Event]) -> None:
        if task.cancel_requested_at is not None:
            self._flusher.stop_running(task.request_id)

    # -- running -----------------------------------------------------------------------------------------------------

    def create(
        self,
        task: Task,
        input: Mapping[str, Any],
        *,
        limits: Limits | None = None,
        at_once: bool = False,
        promised: bool = True,
    ) -> Created:
        """Store a task, to be begun here right after or to wait. See :meth:`~.claims.Claims.create`."""
        return self._claims.create(task, input, limits=limits, at_once=at_once, promised=promised)

    def give_back(self, request_id: str) -> None:
        """What was to be begun here at once is not."""
        self._claims.give_back(request_id)

    def give_back_waiting(self) -> None:
        """What waits for a runner that was stopped is not begun here: nobody waits for it to end."""
        for request_id in self._claims.held:
            if self._runner.cancel(request_id):  # not what a thread has taken already, and is about to begin
                self._claims.give_back(request_id)

    def run(self, request_id: str) -> bool:
        """Run a task to its end, unless someone else has it, or it has ended. Called by runners, in their threads.

        :returns: whether it was run.
        """
        try:
            attempt, definition, running = self._claims.begin(request_id)
        except (AlreadyClaimed, AtCapacity, TaskFinished, TaskNotFound) as refused:
            log.debug("not run here: %s", refused)
            return False
        try:
            definition = definition or self._registry[attempt.task.name]
        except LookupError as unknown:
            self._flusher.add(running)
            self._finish(attempt.task, running, CallResult(None, str(unknown), type(unknown).__name__, unknown))
            return True
        try:
            self._conclude(attempt.task, running, functools.partial(self._call, attempt, definition))
        except BaseException as error:  # SystemExit and its like end this thread, but not without a word
            if self._runner.publishes and may_end_process(error):  # a signal, as children of Celery workers get
                self._interrupted(running)
                raise
            answer = CallResult(None, f"the task was ended by {type(error).__name__}", "Interrupted", error)
            self._finish(attempt.task, running, answer)
            raise
        return True

    def _interrupted(self, running: RunningAttempt) -> None:
        """This process is being ended in the middle of a task: it goes on elsewhere.

        It counts as a death where the process was not told to stop before: the task itself may have ended it.
        """
        if not (self._runner.draining and running.releasable and self._finalizer.give_back(running)):
            self._finalizer.interrupt(running)

    def foreground(self, request_id: str) -> Foreground:
        """Begin a task in this thread and this request's context; the caller calls the view and tells how it ended.

        :raises TransitionRefused: someone else runs it already, or has to.
        """
        attempt, definition, running = self._claims.begin(request_id)
        task = attempt.task
        self._flusher.add(running)
        return Foreground(
            running,
            name=task.name,
            max_bytes=self._settings.max_result_bytes,
            finish=functools.partial(self._finish, task, running),
            retried=functools.partial(_is_retried, definition, task),
            stop=functools.partial(self._stop, task, running),
            interrupt=functools.partial(self._finalizer.interrupt, running),
        )

    @contextmanager
    def tracked(self, request_id: str) -> Iterator[RunningAttempt]:
        """Run the block as the task's attempt. The task ends with it, unless ``update_status`` ended it before."""
        attempt, _, running = self._claims.begin(request_id)
        self._flusher.add(running)
        before = reporting.enter(running)
        try:
            yield running
        except CancelRequested:
            self._finalizer.cancel(running)
            raise
        except BaseException as error:
            answer = CallResult(None, invocation.describe(error), type(error).__name__, error)
            self._finish(attempt.task, running, answer)
            raise
        else:
            self._finish(attempt.task, running, CallResult(running.result))
        finally:
            self._flusher.remove(running)
            reporting.leave(before)

    def _call(self, attempt: Attempt, definition: TaskDefinition) -> CallResult:
        limit = self._settings.max_result_bytes
        if definition.kind is TaskKind.FUNCTION:
            assert definition.function is not None
            return invocation.call_function(self._app, definition.function, attempt.input, max_bytes=limit)
        input = self._credentials.opened(attempt.task, attempt.input)
        answer = invocation.call_view(
            self._app,
            lambda: self._call_view(definition, input),
            input,
            name=definition.name,
            max_bytes=limit,
            before=lambda: self._before_run(attempt),
        )
        if answer.exception is not None and invocation.propagates(self._app):
            self._remember(attempt.task.request_id, answer.exception)
        return self._with_login(attempt.task, input, answer)

    def _with_login(self, task: Task, input: Mapping[str, Any], answer: CallResult) -> CallResult:
        """An answer that asks for a login, which the request had and the run lacks, is not passed on as the view's."""
        if answer.error is None:
            return answer
        code = answer.result.status_code if answer.result is not None else getattr(answer.exception, "code", None)
        lost = self._credentials.lost(task, input, code)
        return answer if lost is None else CallResult(None, str(lost), LOGIN_LOST, lost)

    def _conclude(self, task: Task, running: RunningAttempt, call: Callable[[], CallResult]) -> bool:
        """Call, and store how it ended; whether another attempt follows."""
        self._flusher.add(running)
        before = reporting.enter(running)
        try:
            self._flusher.confirm(running)
            running.check()
            answer = call()
        except CancelRequested:
            return self._stop(task, running)
        except Exception as error:  # not the task's own: its request could not be restored, say
            log.exception("task %s cannot be run", task.request_id)
            answer = CallResult(None, invocation.describe(error), type(error).__name__, error)
        finally:
            reporting.leave(before)
        return self._finish(task, running, answer)

    def _stop(self, task: Task, running: RunningAttempt) -> bool:
        """An attempt was told to stop, and did; whether somebody else goes on with its task."""
        if running.stopped in OVER:
            self._flusher.remove(running)
            return True
        if running.stopped == TIMED_OUT:
            return self._finish(task, running, self._timed_out(task))
        self._finalizer.cancel(running)
        self._calls.ended(task.name)
        return False

    # -- exceptions, for tests ---------------------------------------------------------------------------------------

    def _remember(self, request_id: str, error: BaseException) -> None:
        self._raised[request_id] = error
        while len(self._raised) > MAX_RAISED:
            self._raised.pop(next(iter(self._raised)), None)

    def take_raised(self, request_id: str) -> BaseException | None:
        """What a run in this process raised and nobody handled, once; kept in testing and debug mode only."""
        return self._raised.pop(request_id, None)

    # -- finishing ---------------------------------------------------------------------------------------------------

    def _finish(self, task: Task, running: RunningAttempt, answer: CallResult) -> bool:
        """Store what an attempt came to; whether another one follows."""
        definition = self._registry.find(task.name)
        options = definition.options if definition is not None and task.kind is not TaskKind.TRACKED else None
        answer = self._for_clients(task, answer)
        wait = self._finalizer.finish(task, running, answer, options, can_wait=self._runner.can_wait)
        if answer.error is None and running.plan.root.last is not None:
            self._durations.learn(task.name, running.plan)
        try:
            if wait is not None:
                self._run_later(task, wait)
        except Exception:  # the end is stored, and whoever looks for work finds what is left to do
            log.exception("the runner cannot take what follows task %s", task.request_id)
        self._calls.ended(task.name)
        return wait is not None

    def _run_later(self, task: Task, wait: float) -> None:
        with suppress(ShuttingDown):  # the store keeps it for whoever looks
            self._runner.submit(task.request_id, delay=max(wait, 0.001), priority=task.priority, queue=task.queue)

    def _for_clients(self, task: Task, answer: CallResult) -> CallResult:
        """The answer without what only the log is to say."""
        shown = self._settings.show_errors
        given = invocation.for_clients(answer, self._app.debug or self._app.testing if shown is None else shown)
        if given.error != answer.error:
            # A warning: error trackers make an event of every error in a log, and have the exception itself already.
            what = (task.request_id, task.name, task.attempt, answer.error_type, answer.error)
            log.warning("task %s (%s), attempt %d failed: %s: %s", *what)
        return given

    def _timed_out(self, task: Task) -> CallResult:
        timeout = self._registry[task.name].options.timeout or 0.0
        error = TaskTimeout(task.request_id, timeout)
        return CallResult(None, str(error), type(error).__name__, error)

    def _overdue(self, task: Task, running: RunningAttempt) -> None:
        """It was told to stop and does not: it is ended without its doing, and its place given to another."""
        timeout = self._registry[task.name].options.timeout
        log.error("task %s does not stop after its timeout of %g s; its thread is lost", task.request_id, timeout)
        self._finish(task, running, self._timed_out(task))
        self._runner.give_up(task.request_id)

    # -- changes from outside ----------------------------------------------------------------------------------------

    def cancel(self, request_id: str) -> Transition:
        """Ask a task to stop: at once if nobody runs it, at its next report if someone does, here or elsewhere."""
        return self._store.transition(request_id, RequestCancel(), deliveries=self._deliveries.for_change)

    def change(self, task: Task, change: Change, *, limits: Limits | None = None) -> Transition:
        """Make a change that is not the end, on behalf of someone outside the run.

        :param limits: of what may wait, where it has the task wait. :raises LimitReached: as many do already.
        """
        return self._store.transition(task.request_id, change, deliveries=self._deliveries.for_change, limits=limits)

    def end_by_hand(self, task: Task, change: Change) -> Transition:
        """End a task on behalf of someone outside the run; an attempt that runs here reports no more."""
        outcome = self._finalizer.by_hand(task, change)
        self._calls.ended(task.name)
        return outcome

    def rehearsed(self, task: Task, input: Mapping[str, Any]) -> AbstractContextManager[Mapping[str, Any]]:
        """The context that a run of a task which is not stored yet would have; gives what its view would be given."""
        attempt = Attempt(task, input, {})
        opened = self._credentials.opened(task, input)
        before = functools.partial(self._before_run, attempt)
        return invocation.run_context(self._app, opened, before=before)

    @property
    def running(self) -> int:
        """How many attempts run here, in the runner's threads and in requests' own."""
        return len(self._flusher.all())

    def release(self) -> int:
        """Give back the leases of what still runs here; how many."""
        return self._finalizer.release()

    @property
    def threads(self) -> Sequence[BackgroundThread]:
        """The threads that write reports and renew leases."""
        return self._flusher.threads

    def close(self) -> None:
        """Have the flusher's threads end."""
        self._flusher.close()


def _is_retried(definition: TaskDefinition | None, task: Task, answer: CallResult) -> bool:
    """Whether an attempt with this outcome is followed by another one."""
    if definition is None or answer.error is None:
        return False
    return wait_before_retry(definition.options, task.failures, answer) is not None
