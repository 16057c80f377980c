"""The changes that a running attempt makes: it claims the task, reports, and ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

from ...errors import AlreadyClaimed, LeaseLost, TaskFinished
from ...wording import counted
from ..model import Checkpoint, Entry, Event, EventType, OnInterrupt, Progress, Result, Status, Task, TaskKind
from ..text.clean import optional_text, text_of
from .transition import Durability, Transition, fail, finish, numbered

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

    # A power cut that takes a claim back from a file has ended every process that could hold it: the task waits again,
    # and is claimed once more. The holder of a claim in a database server may outlive the server.
    durability: ClassVar[Durability] = Durability.SERVER

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
                return finish(task, now, Status.CANCELLED, (), task.progress)
            reason = _not_again(task)
            if reason is not None:
                return fail(task, now, reason, error_type="Interrupted")
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
        return "its process died; tracked code cannot be run again by the library"
    if task.on_interrupt is OnInterrupt.FAIL:
        return "its process died while it ran, and it must not be run again (on_interrupt='fail')"
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

    durability: ClassVar[Durability] = Durability.PROCESS

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

    @property
    def durability(self) -> Durability:
        """A checkpoint survives a power cut.

        So does the number of an event in a database server, which its readers outlive: given again, to another event,
        they would never ask for that (docs/decisions/0023).
        """
        return Durability.SERVER if self.checkpoint is None else Durability.DISK

    def apply(self, task: Task, now: datetime) -> Transition:
        _check_holder(task, self.attempt)
        events = numbered(self.entries, task.seq, self.attempt)
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
    durability: Durability = Durability.DISK

    def apply(self, task: Task, now: datetime) -> Transition:
        _check_holder(task, self.attempt)
        last = _storable(self.progress) or task.progress or Progress(now, self.attempt)
        last = replace(last, percentage=100.0, eta_seconds=0.0, updated_at=now, attempt=self.attempt)
        done = finish(task, now, Status.COMPLETED, self.entries, last, result=self.result, data=self.data)
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
    durability: Durability = Durability.DISK

    def apply(self, task: Task, now: datetime) -> Transition:
        _check_holder(task, self.attempt)
        progress = _never_back(self.progress, task.progress)
        return fail(
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

    durability: ClassVar[Durability] = Durability.DISK

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
            return finish(task, now, Status.CANCELLED, self.entries, progress)
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

    durability: ClassVar[Durability] = Durability.DISK

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

    durability: ClassVar[Durability] = Durability.PROCESS

    attempt: int
    entries: tuple[Entry, ...] = ()
    progress: Progress | None = None

    def apply(self, task: Task, now: datetime) -> Transition:
        reported = Report(self.attempt, self.entries, self.progress).apply(task, now)
        return replace(reported, task=reported.task.evolve(lease_until=now))


@dataclass(frozen=True, slots=True)
class Cancel:
    """The attempt noticed that it was cancelled, and stopped."""

    durability: ClassVar[Durability] = Durability.DISK

    attempt: int
    entries: tuple[Entry, ...] = ()
    progress: Progress | None = None

    def apply(self, task: Task, now: datetime) -> Transition:
        _check_holder(task, self.attempt)
        return finish(task, now, Status.CANCELLED, self.entries, _never_back(self.progress, task.progress))


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
    events = numbered(entries, task.seq, task.attempt)
    last = _never_back(progress, task.progress) or Progress(now, task.attempt)
    last = replace(last, details=text_of(details), eta_seconds=None, updated_at=now, attempt=task.attempt)
    event = Event(task.seq + len(events) + 1, type, now, task.attempt, {**data, **progress_data(last)})
    free = task.evolve(seq=event.seq, updated_at=now, progress=last, worker=None, lease_until=until)
    return Transition(free, (*events, event), event)
