"""Runs a task: claims it, calls its function, finishes it. ``run(request_id)`` is all that a runner needs to know.

Knows the protocols of the store and the runner, never a concrete one. What a run writes is fenced by its attempt; what
goes wrong inside the task ends in the store, what goes wrong around it in the log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from blinker import Signal
from flask import Flask, Response

from . import calling, pipeline, signals
from .calling import Answer
from .definitions import Registry, TaskDefinition
from .delivery import Deliveries
from .errors import AlreadyClaimed, LeaseLost, StoreUnavailable, TaskCancelled, TaskFinished, TaskNotFound
from .flusher import CANCELLED, SUPERSEDED, Flusher
from .model import (
    Cancel,
    Change,
    Complete,
    Entry,
    Event,
    EventType,
    Fail,
    Kind,
    Outcome,
    Progress,
    RequestCancel,
    Status,
    StepHistory,
    Task,
)
from .pipeline import Running
from .plan import Node, Plan
from .settings import Settings
from .stores.base import Attempt, Store

log = logging.getLogger("flask_bgtasks")

T = TypeVar("T")

DURATIONS_FRESH_SECONDS = 10.0
"""How long the averages of earlier runs are used before they are read again."""

FINISH_PATIENCE_SECONDS = 60.0
"""How long the end of a task is tried again while the store is out of reach; then its lease runs out."""

_SIGNALS: dict[EventType, Signal] = {
    EventType.ACCEPTED: signals.task_accepted,
    EventType.STARTED: signals.task_started,
    EventType.REOPENED: signals.task_retrying,
    EventType.COMPLETED: signals.task_completed,
    EventType.FAILED: signals.task_failed,
    EventType.CANCELLED: signals.task_cancelled,
}


@dataclass(frozen=True, slots=True)
class Environment:
    """What runs need of the extension, as functions, so that the engine knows none of it."""

    view_of: Callable[[TaskDefinition], Callable[..., object]]
    before_run: Callable[[Task], None]


class Engine:
    """Runs the tasks of one app in this process.

    :param worker: who this process is; shown to operators.
    """

    def __init__(
        self,
        app: Flask,
        *,
        store: Store,
        settings: Settings,
        registry: Registry,
        deliveries: Deliveries,
        environment: Environment,
        worker: str,
    ) -> None:
        self._app = app
        self._store = store
        self._settings = settings
        self._registry = registry
        self._deliveries = deliveries
        self._environment = environment
        self._worker = worker
        self._flusher = Flusher(
            store,
            interval=settings.progress_interval,
            lease=settings.lease,
            offer=deliveries.offer_progress,
            flushed=self._progress_stored,
        )
        self._durations: dict[str, tuple[float, dict[str, StepHistory]]] = {}
        store.on_commit(self._committed)

    # -- running -----------------------------------------------------------------------------------------------------

    def run(self, request_id: str) -> None:
        """Run a task to its end, unless someone else has it, or it has ended. Called by runners, in their threads."""
        with self._attempt(request_id) as started:
            if started is None:
                return
            attempt, running, definition = started
            self._conclude(attempt.task, running, lambda: self._call(attempt, definition))

    def run_here(self, request_id: str, call: Callable[[], Response]) -> Response:
        """Run a task as ``call()`` in this thread and this request's context; its response goes to this client.

        :raises TransitionRefused: someone else runs it already.
        """
        attempt = self._claim(request_id)
        propagate = bool(self._app.config["PROPAGATE_EXCEPTIONS"] or self._app.testing or self._app.debug)
        response: Response | None = None

        def answer() -> Answer:
            nonlocal response
            made, response = calling.answer_of(
                self._app,
                call,
                name=attempt.task.name,
                max_bytes=self._settings.max_result_bytes,
                propagate=propagate,
            )
            return made

        running = self._running(attempt.task, self._registry.find(attempt.task.name))
        try:
            self._conclude(attempt.task, running, answer)
        except calling.Propagated as carried:
            raise carried.error from carried.error.__cause__
        if response is None:  # cancelled: there is no answer of the view's
            response = Response(f"task {request_id} was cancelled\n", status=409, mimetype="text/plain")
        return response

    @contextmanager
    def tracked(self, request_id: str) -> Iterator[Running]:
        """Run the block as the task's attempt. The task ends with it, unless ``update_status`` ended it before."""
        attempt = self._claim(request_id)
        running = self._running(attempt.task, self._registry.find(attempt.task.name))
        self._flusher.add(running)
        before = pipeline.enter(running)
        try:
            yield running
        except TaskCancelled:
            self._end(running, lambda taken: Cancel(attempt.number, *taken), attempt.task, Status.CANCELLED)
            raise
        except BaseException as error:
            answer = Answer(None, calling.describe(error), type(error).__name__)
            self._finish(attempt.task, running, answer)
            raise
        else:
            self._finish(attempt.task, running, Answer(running.result))
        finally:
            self._flusher.remove(running)
            pipeline.leave(before)

    def _claim(self, request_id: str) -> Attempt:
        return self._store.claim(
            request_id,
            worker=self._worker,
            lease=self._settings.lease,
            deliveries=self._deliveries.owed(""),
        )

    @contextmanager
    def _attempt(self, request_id: str) -> Iterator[tuple[Attempt, Running, TaskDefinition] | None]:
        try:
            attempt = self._claim(request_id)
        except (AlreadyClaimed, TaskFinished, TaskNotFound) as refused:
            log.debug("not run here: %s", refused)
            yield None
            return
        definition: TaskDefinition | None
        try:
            definition = self._registry[attempt.task.name]
        except LookupError as unknown:
            running = self._running(attempt.task, None)
            self._flusher.add(running)
            self._finish(attempt.task, running, Answer(None, str(unknown), type(unknown).__name__))
            yield None
            return
        yield attempt, self._running(attempt.task, definition), definition

    def _running(self, task: Task, definition: TaskDefinition | None) -> Running:
        plan = Plan(
            started=time.monotonic(),
            expected=definition.expected if definition else (),
            total_steps=definition.options.total_steps if definition else None,
            durations=self._load_durations(task.name),
        )
        running = Running(
            request_id=task.request_id,
            attempt=task.attempt,
            plan=plan,
            owner=task.owner,
            clock=self._store.now,
            max_output_bytes=self._settings.max_result_bytes,
            on_step=self._step_changed,
        )
        running.seq = task.seq
        if task.cancel_requested_at is not None:
            running.stop(CANCELLED)
        return running

    def _call(self, attempt: Attempt, definition: TaskDefinition) -> Answer:
        limit = self._settings.max_result_bytes
        function = self._environment.view_of(definition)
        if definition.kind is Kind.FUNCTION:
            return calling.call_function(self._app, function, attempt.input, max_bytes=limit)
        return calling.call_view(
            self._app,
            function,
            attempt.input,
            name=definition.name,
            max_bytes=limit,
            before=lambda: self._environment.before_run(attempt.task),
        )

    def _conclude(self, task: Task, running: Running, call: Callable[[], Answer]) -> None:
        """Call, and store how it ended."""
        self._flusher.add(running)
        before = pipeline.enter(running)
        try:
            running.check()
            answer = call()
        except TaskCancelled:
            self._end(running, lambda taken: Cancel(running.attempt, *taken), task, Status.CANCELLED)
            return
        except calling.Propagated as carried:
            self._finish(task, running, carried.answer)
            raise
        except Exception as error:  # not the task's own: its request could not be restored, say
            log.exception("task %s cannot be run", task.request_id)
            answer = Answer(None, calling.describe(error), type(error).__name__)
        except BaseException as error:  # SystemExit and its like end this thread, but not without a word
            self._finish(task, running, Answer(None, f"the task was ended by {type(error).__name__}", "Interrupted"))
            raise
        finally:
            pipeline.leave(before)
        self._finish(task, running, answer)

    # -- finishing ---------------------------------------------------------------------------------------------------

    def _finish(self, task: Task, running: Running, answer: Answer) -> None:
        if answer.error is not None:
            error, kind, result = answer.error, answer.error_type, answer.result
            self._end(
                running,
                lambda taken: Fail(
                    running.attempt, error, error_type=kind, result=result, entries=taken[0], progress=taken[1]
                ),
                task,
                Status.FAILED,
            )
            return
        ended = self._end(
            running,
            lambda taken: Complete(running.attempt, answer.result, entries=taken[0], progress=taken[1]),
            task,
            Status.COMPLETED,
        )
        if ended and running.plan.root.children:
            self._learn(task.name, running.plan)

    def _end(
        self,
        running: Running,
        change: Callable[[tuple[tuple[Entry, ...], Progress | None]], Change],
        task: Task,
        status: Status,
    ) -> bool:
        """Store the end and everything that was reported and not stored yet, in one transition; whether it counted."""
        with running.flush_lock:
            if self._flusher.get(running.request_id) is not running or running.stopped == SUPERSEDED:
                return False  # ended by hand, or taken over: there is nothing more to say
            self._flusher.remove(running)
            self._deliveries.drop_progress(running.request_id)
            taken = running.take()
            try:
                self._patiently(
                    lambda: self._store.transition(
                        running.request_id, change(taken), deliveries=self._deliveries.owed(task.name, status)
                    ),
                    running.request_id,
                )
            except (LeaseLost, TaskNotFound) as lost:
                log.warning("the end of an attempt does not count: %s", lost)
                return False
            except StoreUnavailable:
                log.exception("the end of task %s is lost, its lease runs out", running.request_id)
                return False
        return True

    def _patiently(self, write: Callable[[], T], request_id: str) -> T:
        deadline, pause = time.monotonic() + FINISH_PATIENCE_SECONDS, 0.05
        while True:
            try:
                return write()
            except StoreUnavailable as error:
                if time.monotonic() + pause > deadline:
                    raise
                log.warning("the end of task %s cannot be stored yet: %s", request_id, error)
                time.sleep(pause)
                pause = min(5.0, pause * 2)

    # -- changes from outside ----------------------------------------------------------------------------------------

    def cancel(self, request_id: str) -> Outcome:
        """Ask a task to stop: at once if it has not begun, at its next report if it runs, here or elsewhere."""
        return self._store.transition(request_id, RequestCancel(), deliveries=self._deliveries.owed(""))

    def change(self, task: Task, change: Change) -> Outcome:
        """Make a change that is not the end, on behalf of someone outside the run."""
        return self._store.transition(task.request_id, change, deliveries=self._deliveries.owed(task.name))

    def end_by_hand(self, task: Task, change: Change, status: Status) -> Outcome:
        """End a task on behalf of someone outside the run; an attempt that runs here reports no more."""
        running = self._flusher.get(task.request_id)
        self._deliveries.drop_progress(task.request_id)
        outcome = self._store.transition(task.request_id, change, deliveries=self._deliveries.owed(task.name, status))
        if running is not None:
            with running.flush_lock:
                self._flusher.remove(running)
        return outcome

    def close(self) -> None:
        """Have the flusher's thread end."""
        self._flusher.close()

    # -- what others are told ----------------------------------------------------------------------------------------

    def _committed(self, task: Task, events: Sequence[Event]) -> None:
        """This process changed a task: tell signals and wake the lanes. In the thread that changed it."""
        owed = False
        for event in events:
            signal = _SIGNALS.get(event.type)
            if signal is not None:
                owed = True
                if signal.receivers:
                    signals.send(signal, self._app, task=task, event=event)
                if event.type is EventType.STARTED and event.data.get("recovered"):
                    signals.send(signals.task_recovered, self._app, task=task, event=event)
            elif event.type is EventType.CANCEL_REQUESTED:
                owed = True
        if task.cancel_requested_at is not None:
            self._flusher.stop_running(task.request_id)
        if owed:
            self._deliveries.wake()

    def _progress_stored(self, task: Task, progress: Progress) -> None:
        signals.send(signals.task_progress, self._app, task=task, progress=progress)

    def _step_changed(self, type: EventType, request_id: str, node: Node) -> None:
        if type is EventType.STEP_STARTED:
            if signals.step_started.receivers:
                signals.send(signals.step_started, self._app, request_id=request_id, step=node.path)
        elif signals.step_finished.receivers:
            seconds = (node.finished or node.started) - node.started
            signals.send(signals.step_finished, self._app, request_id=request_id, step=node.path, seconds=seconds)

    # -- durations ---------------------------------------------------------------------------------------------------

    def _load_durations(self, name: str) -> dict[str, StepHistory]:
        known = self._durations.get(name)
        if known is not None and time.monotonic() - known[0] < DURATIONS_FRESH_SECONDS:
            return known[1]
        loaded = self._store.load_durations(name)
        self._durations[name] = (time.monotonic(), loaded)
        return loaded

    def _learn(self, name: str, plan: Plan) -> None:
        try:
            self._store.save_durations(name, plan.durations())
            self._durations.pop(name, None)
        except Exception:  # the task is completed: what it teaches is a bonus
            log.exception("the durations of task %r are not stored", name)
