"""How an attempt ends: completed, failed, retried, cancelled, given back. One transition each.

The end is stored together with all reports that are not stored yet; later reports are ignored. If an end cannot be
stored as it is, the task ends as failed, with the reason: only an unreachable store, or another attempt, can keep an
end from being stored. Knows the store, the flusher and the deliveries; calls no task.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from ..core.definitions import TaskOptions
from ..core.model import Entry, Progress, Task
from ..core.text.clean import text_of
from ..core.text.redaction import redact
from ..core.transitions.attempt import Cancel, Complete, Expire, Fail, Release, Retry
from ..core.transitions.transition import Change, Durability, Transition
from ..delivery.dispatcher import Dispatcher
from ..errors import BackgroundTasksError, LeaseLost, StoreUnavailable, TaskNotFound
from ..pipeline.attempt import RunningAttempt
from ..runtime.background_thread import Contained
from ..stores.protocols.tasks import Tasks
from .flusher import OVER, RELEASED, Flusher
from .invocation import CallResult
from .retry import wait_before_retry

log = logging.getLogger("flask_bgtasks")

T = TypeVar("T")

FINISH_PATIENCE_SECONDS = 60.0
"""How long the end of a task is tried again while the store is unreachable; then its lease runs out."""

Taken = tuple[tuple[Entry, ...], "Progress | None"]


class Finalizer:
    """Ends the attempts of one process."""

    def __init__(self, store: Tasks, flusher: Flusher, deliveries: Dispatcher) -> None:
        self._store = store
        self._flusher = flusher
        self._deliveries = deliveries

    def finish(
        self, task: Task, running: RunningAttempt, answer: CallResult, options: TaskOptions | None, *, can_wait: bool
    ) -> float | None:
        """Store what an attempt came to.

        :param options: of the task; None where it cannot be tried again.
        :param can_wait: whether the next attempt can be put off.
        :returns: the seconds after which another attempt has to follow, None if it has ended.
        """
        if answer.error is None:
            self._complete(running, answer)
            return None
        if running.gave_up and running.releasable and isinstance(answer.exception, StoreUnavailable):
            # It could not store a checkpoint in a minute: nothing that it did is wrong, and it goes on from the last.
            self._end(running, lambda taken: Release(running.attempt, *taken))
            return None
        error, kind, result = answer.error, answer.error_type, answer.result
        wait = None if options is None else _wait(options, task, answer)
        if options is None or wait is None:
            self._end(
                running,
                lambda taken: Fail(
                    running.attempt,
                    error,
                    kind,
                    result=result,
                    entries=taken[0],
                    progress=taken[1],
                    durability=self._of_end(running),
                ),
            )
            return None
        wait, retries = wait if can_wait else 0.0, options.retries
        span = timedelta(seconds=wait)
        ended = self._end(running, lambda taken: Retry(running.attempt, error, span, retries, *taken))
        return wait if ended is not None and not ended.task.done else None

    def _complete(self, running: RunningAttempt, answer: CallResult) -> None:
        remarks, drop = [], False
        checkpoints = running.checkpoints
        if checkpoints is not None:
            try:
                checkpoints.unreached()
            except Exception:  # the remarks are a bonus
                log.exception("cannot tell which checkpoints task %s left out", running.request_id)
            remarks, drop = checkpoints.remarks, checkpoints.used
        data = {"remarks": list(remarks)} if remarks else None
        self._end(
            running,
            lambda taken: Complete(
                running.attempt,
                answer.result,
                entries=taken[0],
                progress=taken[1],
                drop_checkpoints=drop,
                data=data,
                durability=self._of_end(running),
            ),
        )

    def _of_end(self, running: RunningAttempt) -> Durability:
        """What its end has to survive: a power cut, if anybody was promised that it comes, or is told that it has."""
        return Durability.DISK if running.promised or self._deliveries.tells_of_ends else Durability.SERVER

    def cancel(self, running: RunningAttempt) -> None:
        """It noticed that it was cancelled, and stopped."""
        self._end(running, lambda taken: Cancel(running.attempt, *taken))

    def interrupt(self, running: RunningAttempt) -> None:
        """Its thread is being ended from outside: its lease ends now, and whoever looks finds it lost."""
        self._end(running, lambda taken: Expire(running.attempt, *taken), patience=0.0)

    def release(self) -> int:
        """Give back the leases of what still runs here, so that another process goes on at once; how many.

        What cannot be run again elsewhere keeps its lease: it may reach its end before the process does.
        """
        released = 0
        for running in self._flusher.all():
            if running.releasable and self.give_back(running):
                released += 1
        return released

    def give_back(self, running: RunningAttempt) -> bool:
        """Give back one lease; whether that is stored, and was to be done at all."""
        with running.flush_lock:
            if self._flusher.get(running.request_id) is not running or running.stopped in OVER:
                return False
            self._flusher.remove(running)
            running.stopped = RELEASED
            self._deliveries.drop_progress(running.request_id)
            try:
                self._flusher.flush_ahead(running)
                change = Release(running.attempt, *running.take())
                self._store.transition(running.request_id, change, deliveries=self._deliveries.for_change)
            except BackgroundTasksError as error:
                log.warning("the lease of task %s cannot be given back and will expire: %s", running.request_id, error)
                return False
        return True

    def by_hand(self, task: Task, change: Change) -> Transition:
        """End a task on behalf of someone outside the run; an attempt that runs here reports no more."""
        running = self._flusher.get(task.request_id)
        self._deliveries.drop_progress(task.request_id)
        outcome = self._store.transition(task.request_id, change, deliveries=self._deliveries.for_change)
        if running is not None:
            with running.flush_lock:
                self._flusher.remove(running)
        return outcome

    def _end(
        self, running: RunningAttempt, change: Callable[[Taken], Change], *, patience: float = FINISH_PATIENCE_SECONDS
    ) -> Transition | None:
        """Store the end and everything that was reported before it, in one transition; None if it does not count."""
        with running.flush_lock:
            if self._flusher.get(running.request_id) is not running or running.stopped in OVER:
                self._flusher.remove(running)
                return None  # ended by hand, given back, or taken over: there is nothing more to say
            self._flusher.remove(running)
            self._deliveries.drop_progress(running.request_id)
            try:
                try:
                    self._patiently(lambda: self._flusher.flush_ahead(running), running.request_id, patience)
                    return self._store_end(running, change(_taken(running)), patience)
                except (LeaseLost, TaskNotFound, StoreUnavailable):
                    raise
                except Exception as error:
                    log.exception("the end of task %s cannot be stored as it is", running.request_id)
                    return self._store_end(running, _instead(running, change, error), patience)
            except (LeaseLost, TaskNotFound) as lost:
                log.warning("the end of an attempt is ignored: %s", lost)
            except Exception:
                log.exception("the end of task %s is lost; its lease will expire", running.request_id)
            finally:
                self._flusher.look_again()  # it may have looked between the removal and the end
        return None

    def _store_end(self, running: RunningAttempt, made: Change, patience: float) -> Transition:
        return self._patiently(
            lambda: self._store.transition(
                running.request_id, made, deliveries=self._deliveries.for_change, known=running.task
            ),
            running.request_id,
            patience,
        )

    def _patiently(self, write: Callable[[], T], request_id: str, patience: float) -> T:
        deadline, pause = time.monotonic() + patience, 0.05
        while True:
            try:
                return write()
            except StoreUnavailable as error:
                if time.monotonic() + pause > deadline:
                    raise
                log.warning("the end of task %s cannot be stored yet: %s", request_id, error)
                time.sleep(pause)
                pause = min(5.0, pause * 2)


def _wait(options: TaskOptions, task: Task, answer: CallResult) -> float | None:
    """Seconds until the next attempt; None if there is none, or if what the app's exception is made of raises."""
    with Contained("cannot decide whether task %s is retried", task.request_id):
        return wait_before_retry(options, task.failures, answer)
    return None


def _taken(running: RunningAttempt) -> Taken:
    """What was reported and is not stored yet; nothing, if it cannot be put together."""
    try:
        return running.take()
    except Exception:
        log.exception("the last progress of task %s is lost", running.request_id)
        return (), None


def _instead(running: RunningAttempt, change: Callable[[Taken], Change], error: Exception) -> Change:
    """The end that can be stored where another one cannot: without what was reported last, and without a result."""
    wanted = change(((), None))
    if isinstance(wanted, Fail):
        return Fail(wanted.attempt, text_of(wanted.message), wanted.error_type and text_of(wanted.error_type))
    if isinstance(wanted, Complete):
        why = f"the task ended, but its end cannot be stored: {type(error).__name__}: {redact(text_of(error))}"
        return Fail(wanted.attempt, why, type(error).__name__)
    return wanted
