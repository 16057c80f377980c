"""What may change about a task, into what, and what history it leaves: each change a value, applied to a task.

Pure: no I/O, no Flask, no clock; a change is applied at a time that is given. Every store applies these same changes,
so a rule stands here once: also that no text and no number of an app's keeps a change from being stored. Knows the
model and the errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from ..errors import AlreadyClaimed, LeaseLost, TaskFinished, TransitionRefused, counted
from .model import (
    Checkpoint,
    Entry,
    Event,
    EventType,
    OnInterrupt,
    Progress,
    Result,
    Status,
    Task,
    TaskKind,
    is_refusal,
    place_in_queue,
)
from .text.clean import clean, optional_text, text_of


@dataclass(frozen=True, slots=True)
class Transition:
    """What a change makes of a task: the task after it, and the rows that go into the history with it.

    ``owed`` is the one event that sinks are told of, if there is any. ``result`` and ``checkpoint`` are bodies to store
    beside the task. ``private`` replaces the private part of its input, ``drop_private`` erases that.
    """

    task: Task
    events: tuple[Event, ...] = ()
    owed: Event | None = None
    result: Result | None = None
    drop_result: bool = False
    checkpoint: Checkpoint | None = None
    drop_checkpoints: bool = False
    private: Mapping[str, Any] | None = None
    drop_private: bool = False


class Change(Protocol):
    """One allowed change of a task."""

    def apply(self, task: Task, now: datetime) -> Transition:
        """The task after the change. ``now`` is the store's time.

        :raises TransitionRefused: not in this state (a subclass says why).
        :raises LeaseLost: the attempt that asks does not hold the task.
        """


def accepted(
    task: Task, now: datetime, *, app: str = "", turn: int = 0, reserved: timedelta | None = None
) -> Transition:
    """A new task as it is stored, with its first event.

    :param app: whose task it is.
    :param turn: how many tasks of its owner wait already.
    :param reserved: how long nobody is to be given it who looks for work.
    """
    event = Event(1, EventType.ACCEPTED, now, 0, {"name": task.name})
    place = place_in_queue(now, priority=task.priority, turn=turn)
    until = None if reserved is None else now + reserved
    stored = task.evolve(app=app, seq=1, created_at=now, updated_at=now, place=place, lease_until=until)
    return Transition(stored, (event,), event)


MAX_SUSPICIONS = 10
"""Deaths of its process beside other tasks, without a checkpoint between them, after which a task is not run again. Our
choice: where suspects are isolated (runners.isolation) a task that ends its process is proven long before, and where
they cannot be, somebody has to end what may go on for ever."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Take the right to run the task: the next attempt begins.

    Of a task whose lease ran out this finds that its process died; a task that is not to be run again after that ends
    here, and the outcome's task is in a terminal state.

    :ivar in_company: whether its process, if it died, ran other tasks when it did; the store knows. Then the death is
        not charged to any of them: they are suspects.
    """

    worker: str
    lease: timedelta
    in_company: bool = False

    def apply(self, task: Task, now: datetime) -> Transition:
        if task.done:
            raise TaskFinished(task.request_id, status=task.status.value, change="claim")
        if task.status is Status.PROCESSING and task.lease_until is not None and task.lease_until > now:
            raise AlreadyClaimed(task.request_id, status=task.status.value, worker=task.worker, until=task.lease_until)
        crashed = task.held
        if crashed:
            suspected = {"suspicions": task.suspicions + 1} if self.in_company else {"crashes": task.crashes + 1}
            task = task.evolve(**suspected)
            if task.cancel_requested_at is not None:
                return _finish(task, now, Status.CANCELLED, (), task.progress)
            reason = _not_again(task)
            if reason is not None:
                return _failed(task, now, reason, error_type="Interrupted")
        attempt = task.attempt + 1
        event = Event(task.seq + 1, EventType.STARTED, now, attempt, {"recovered": True} if crashed else {})
        claimed = task.evolve(
            status=Status.PROCESSING,
            attempt=attempt,
            seq=event.seq,
            updated_at=now,
            started_at=task.started_at or now,
            worker=self.worker,
            lease_until=now + self.lease,
        )
        return Transition(claimed, (event,), event)


def _not_again(task: Task) -> str | None:
    """Why a task whose process died is not run again, None if it is."""
    if task.kind is TaskKind.TRACKED:
        return "its process died; what ran where it stood cannot be run again from here"
    if task.on_interrupt is OnInterrupt.FAIL:
        return "its process died while it ran, and it is not to be run again (on_interrupt='fail')"
    if task.crashes >= task.max_attempts:
        return (
            f"its process died in {counted(task.crashes, 'attempt')} of {task.max_attempts} (max_attempts): "
            "the task itself seems to end it, and is not run again"
        )
    if task.suspicions >= MAX_SUSPICIONS:
        return (
            f"its process died in {counted(task.suspicions, 'attempt')} while other tasks ran in it, and none of them "
            "came to a checkpoint: whether this task ends it is not known, and it is not run again"
        )
    return None


@dataclass(frozen=True, slots=True)
class Renew:
    """Prolong the lease. Leaves no event: the history is not a heartbeat log."""

    attempt: int
    lease: timedelta

    def apply(self, task: Task, now: datetime) -> Transition:
        _check_holder(task, self.attempt)
        return Transition(task.evolve(lease_until=now + self.lease))


@dataclass(frozen=True, slots=True)
class Report:
    """Store what the attempt reported since the last time: steps and output in order, then the newest progress.

    With a ``checkpoint``, its value too, which a later attempt gets back: the task has come further than any attempt
    whose process died, so that those count no more.
    """

    attempt: int
    entries: tuple[Entry, ...] = ()
    progress: Progress | None = None
    checkpoint: Checkpoint | None = None

    def apply(self, task: Task, now: datetime) -> Transition:
        _check_holder(task, self.attempt)
        events = _numbered(self.entries, task.seq, self.attempt)
        progress = task.progress
        if self.progress is not None:
            progress = _never_back(self.progress, task.progress) or self.progress
            data = progress_data(progress)
            events.append(
                Event(task.seq + len(events) + 1, EventType.PROGRESS, progress.updated_at, self.attempt, data)
            )
        seq = task.seq + len(events)
        after = task.evolve(seq=seq, updated_at=now, progress=progress)
        if self.checkpoint is not None and (task.crashes or task.suspicions):
            after = after.evolve(crashes=0, suspicions=0)
        return Transition(after, tuple(events), checkpoint=self.checkpoint)


@dataclass(frozen=True, slots=True)
class Complete:
    """The attempt reached its end: the task is completed.

    ``drop_checkpoints``: there are some, and nobody will want them any more. ``data`` goes into the event.
    """

    attempt: int
    result: Result | None = None
    entries: tuple[Entry, ...] = ()
    progress: Progress | None = None
    drop_checkpoints: bool = False
    data: Mapping[str, Any] | None = None

    def apply(self, task: Task, now: datetime) -> Transition:
        _check_holder(task, self.attempt)
        last = _storable(self.progress) or task.progress or Progress(now, self.attempt)
        last = replace(last, percentage=100.0, eta_seconds=0.0, updated_at=now, attempt=self.attempt)
        done = _finish(task, now, Status.COMPLETED, self.entries, last, result=self.result, data=self.data)
        return replace(done, drop_checkpoints=True) if self.drop_checkpoints else done


@dataclass(frozen=True, slots=True)
class Fail:
    """The attempt failed and is not tried again. ``result`` is what the view answered, where it did."""

    attempt: int
    message: str
    error_type: str | None = None
    result: Result | None = None
    entries: tuple[Entry, ...] = ()
    progress: Progress | None = None

    def apply(self, task: Task, now: datetime) -> Transition:
        _check_holder(task, self.attempt)
        progress = _never_back(self.progress, task.progress)
        return _failed(
            task,
            now,
            self.message,
            error_type=self.error_type,
            entries=self.entries,
            progress=progress,
            result=self.result,
        )


@dataclass(frozen=True, slots=True)
class Retry:
    """The attempt failed, and the task is tried again after ``wait``. Until then nobody holds it."""

    attempt: int
    message: str
    wait: timedelta
    retries: int
    entries: tuple[Entry, ...] = ()
    progress: Progress | None = None

    def apply(self, task: Task, now: datetime) -> Transition:
        _check_holder(task, self.attempt)
        if task.cancel_requested_at is not None:
            progress = _never_back(self.progress, task.progress)
            return _finish(task, now, Status.CANCELLED, self.entries, progress)
        failures = task.failures + 1
        until = now + self.wait
        message = text_of(self.message)
        data = {
            "error_message": message,
            "failures": failures,
            "retries": self.retries,
            "seconds": round(self.wait.total_seconds(), 3),
        }
        details = f"trying again ({failures} of {self.retries}): {message}"
        failed = task.evolve(failures=failures)
        return _let_go(failed, now, self.entries, self.progress, EventType.RETRYING, data, details, until=until)


@dataclass(frozen=True, slots=True)
class Release:
    """The attempt's process ends in good order before the task does: whoever is there goes on at once.

    Not for a task that is not to be run again: that keeps its lease, as long as its process lives.
    """

    attempt: int
    entries: tuple[Entry, ...] = ()
    progress: Progress | None = None

    def apply(self, task: Task, now: datetime) -> Transition:
        _check_holder(task, self.attempt)
        details = "interrupted by a restart; going on shortly"
        return _let_go(task, now, self.entries, self.progress, EventType.RELEASED, {}, details, until=now)


@dataclass(frozen=True, slots=True)
class Expire:
    """The attempt ended without a word, and its process knows it: its lease ends now. The next claim says the rest."""

    attempt: int
    entries: tuple[Entry, ...] = ()
    progress: Progress | None = None

    def apply(self, task: Task, now: datetime) -> Transition:
        reported = Report(self.attempt, self.entries, self.progress).apply(task, now)
        return replace(reported, task=reported.task.evolve(lease_until=now))


@dataclass(frozen=True, slots=True)
class Cancel:
    """The attempt noticed that it was cancelled, and stopped."""

    attempt: int
    entries: tuple[Entry, ...] = ()
    progress: Progress | None = None

    def apply(self, task: Task, now: datetime) -> Transition:
        _check_holder(task, self.attempt)
        return _finish(task, now, Status.CANCELLED, self.entries, _never_back(self.progress, task.progress))


@dataclass(frozen=True, slots=True)
class RequestCancel:
    """Someone wants the task to stop. At once if no attempt holds it; asked twice, or too late, it changes nothing.

    An attempt whose lease ran out holds it no more: its process died, and maybe nobody is there to find that.
    """

    def apply(self, task: Task, now: datetime) -> Transition:
        if task.done:
            return Transition(task)
        asked = task.evolve(cancel_requested_at=task.cancel_requested_at or now)
        if not task.leased(now):
            return _finish(asked, now, Status.CANCELLED, (), task.progress)
        if task.cancel_requested_at is not None:
            return Transition(task)
        event = Event(task.seq + 1, EventType.CANCEL_REQUESTED, now, task.attempt)
        return Transition(asked.evolve(seq=event.seq, updated_at=now), (event,), event)


@dataclass(frozen=True, slots=True)
class Abandon:
    """No process has known the task's name for so long: it fails, with its name said.

    :raises TransitionRefused: an attempt holds it, or it has ended.
    """

    waited: timedelta

    def apply(self, task: Task, now: datetime) -> Transition:
        if task.done or task.leased(now):
            why = "it has ended" if task.done else "an attempt runs it"
            raise TransitionRefused(task.request_id, status=task.status.value, change="abandon", why=why)
        message = (
            f"no task is called {task.name!r} any more: no process had a function of this name to run for "
            f"{self.waited.total_seconds():g} s (BGTASKS_UNKNOWN_TASK_SECONDS)"
        )
        return _failed(task, now, message, error_type="UnknownTask")


@dataclass(frozen=True, slots=True)
class Reopen:
    """An explicit retry of a failed or cancelled task: the one way out of a terminal state. Checkpoints stay.

    :ivar private: the private part of its input, from the request that asks for it: the first one's was erased.
    :ivar turn: how many tasks of its owner wait already; a store that is given limits counts them.
    """

    private: Mapping[str, Any] | None = None
    turn: int = 0

    def apply(self, task: Task, now: datetime) -> Transition:
        if task.status not in (Status.FAILED, Status.CANCELLED) or task.kind is TaskKind.TRACKED:
            why = (
                "what ran where it stood cannot be run from here"
                if task.kind is TaskKind.TRACKED
                else "only a failed or cancelled task is retried"
            )
            raise TransitionRefused(task.request_id, status=task.status.value, change="retry", why=why)
        event = Event(task.seq + 1, EventType.REOPENED, now, task.attempt)
        reopened = task.evolve(
            status=Status.STARTED,
            seq=event.seq,
            updated_at=now,
            place=place_in_queue(now, priority=task.priority, turn=self.turn),
            failures=0,
            crashes=0,
            suspicions=0,
            completed_at=None,
            expire_at=None,
            error_message=None,
            error_type=None,
            result_status=None,
            result_type=None,
            result_size=None,
            worker=None,
            lease_until=None,
            cancel_requested_at=None,
            seen_at=None,
            seen_via=None,
            told_at=None,
        )
        return Transition(reopened, (event,), event, drop_result=True, private=self.private or None)


@dataclass(frozen=True, slots=True)
class MarkSeen:
    """A client showed the outcome. The first sighting counts; no event, so the terminal event stays the newest."""

    via: str

    def apply(self, task: Task, now: datetime) -> Transition:
        if not task.done:
            raise TransitionRefused(
                task.request_id, status=task.status.value, change="seen", why="there is no outcome yet"
            )
        if task.seen_at is not None:
            return Transition(task)
        return Transition(task.evolve(seen_at=now, seen_via=self.via))


@dataclass(frozen=True, slots=True)
class MarkTold:
    """The outcome was written into a live stream. Like a sighting no event, and of a task that has ended only."""

    seq: int

    def apply(self, task: Task, now: datetime) -> Transition:
        if not task.done or task.seq != self.seq or task.told_at is not None:
            return Transition(task)
        return Transition(task.evolve(told_at=now))


@dataclass(frozen=True, slots=True)
class Mute:
    """Its owner wants no notification of this task, or wants them again. Leaves no event."""

    muted: bool

    def apply(self, task: Task, now: datetime) -> Transition:
        if self.muted == (task.muted_at is not None):
            return Transition(task)
        return Transition(task.evolve(muted_at=now if self.muted else None))


def progress_data(progress: Progress) -> dict[str, Any]:
    """The fields of a progress event, as the published ``request_progress`` schema names them."""
    return {
        "step": progress.step,
        "step_number": progress.step_number,
        "total_steps": progress.total_steps,
        "details": progress.details,
        "progress_percentage": progress.percentage,
        "eta_seconds": progress.eta_seconds,
    }


def _check_holder(task: Task, attempt: int) -> None:
    if task.attempt != attempt or not task.held:
        raise LeaseLost(task.request_id, attempt=attempt, holder=task.attempt, status=task.status.value)


def _numbered(entries: tuple[Entry, ...], seq: int, attempt: int) -> list[Event]:
    return [Event(seq + n, e.type, e.at, attempt, e.data) for n, e in enumerate(entries, 1)]


def _never_back(new: Progress | None, old: Progress | None) -> Progress | None:
    """The new progress, its percentage lifted to what was already shown."""
    new = _storable(new)
    if new is None or old is None or new.percentage >= old.percentage:
        return new or old
    return replace(new, percentage=old.percentage)


def _storable(progress: Progress | None) -> Progress | None:
    """The progress with clean, bounded texts and finite numbers, whoever has made it."""
    if progress is None:
        return None
    eta = progress.eta_seconds
    return replace(
        progress,
        step=optional_text(progress.step),
        details=optional_text(progress.details),
        percentage=progress.percentage if 0 <= progress.percentage <= 100 else 0.0,
        eta_seconds=eta if eta is None or math.isfinite(eta) else None,
    )


def _let_go(
    task: Task,
    now: datetime,
    entries: tuple[Entry, ...],
    progress: Progress | None,
    type: EventType,
    data: Mapping[str, Any],
    details: str,
    *,
    until: datetime,
) -> Transition:
    """The attempt is over and the task is not: nobody holds it, and nobody may take it before ``until``."""
    events = _numbered(entries, task.seq, task.attempt)
    last = _never_back(progress, task.progress) or Progress(now, task.attempt)
    last = replace(last, details=text_of(details), eta_seconds=None, updated_at=now, attempt=task.attempt)
    event = Event(task.seq + len(events) + 1, type, now, task.attempt, {**data, **progress_data(last)})
    free = task.evolve(seq=event.seq, updated_at=now, progress=last, worker=None, lease_until=until)
    return Transition(free, (*events, event), event)


def _failed(
    task: Task,
    now: datetime,
    message: str,
    *,
    error_type: str | None,
    entries: tuple[Entry, ...] = (),
    progress: Progress | None = None,
    result: Result | None = None,
) -> Transition:
    message = text_of(message)
    failed = task.evolve(error_message=message, error_type=optional_text(error_type))
    data: dict[str, Any] = {"error_message": message}
    if result is not None and is_refusal(result.status_code):
        data |= {"rejected": True, "result_status": result.status_code}
    return _finish(failed, now, Status.FAILED, entries, progress or task.progress, result=result, data=data)


def _finish(
    task: Task,
    now: datetime,
    status: Status,
    entries: tuple[Entry, ...],
    progress: Progress | None,
    *,
    result: Result | None = None,
    data: Mapping[str, Any] | None = None,
) -> Transition:
    events = _numbered(entries, task.seq, task.attempt)
    percentage = progress.percentage if progress else 0.0
    final = Event(
        task.seq + len(events) + 1,
        EventType(status.value),
        now,
        task.attempt,
        {**(data or {}), "progress_percentage": percentage},
    )
    finished = task.evolve(
        status=status,
        seq=final.seq,
        updated_at=now,
        completed_at=now,
        expire_at=now + task.expires_after,
        progress=progress,
        worker=None,
        lease_until=None,
        result_status=result.status_code if result else None,
        result_type=clean(result.content_type) if result else None,
        result_size=len(result.body) if result else None,
    )
    return Transition(finished, (*events, final), final, result, drop_private=True)
