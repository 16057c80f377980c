"""The task and its state machine: what may change, into what, and what history it leaves.

Pure: no I/O, no Flask, no clock; a change is applied to a task at a time that is given. Every store applies
these same changes, so a rule stands here once. Nothing here knows of another module but the errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Protocol

from .errors import AlreadyClaimed, LeaseLost, TaskFinished, TransitionRefused


class Status(str, Enum):
    """The published states. Waiting to retry, recovering and cancelling are fields, not states."""

    STARTED = "started"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether this state is final."""
        return self in _TERMINAL


_TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


class Kind(str, Enum):
    """What a task runs."""

    VIEW = "view"  # a Flask view, from a captured request
    FUNCTION = "function"  # a function under ``@bgtasks.task``, from its arguments
    TRACKED = "tracked"  # code that runs where it stands; the library records, it does not schedule


class EventType(str, Enum):
    """What can stand in a task's history; also the ``event:`` names of the stream."""

    ACCEPTED = "accepted"
    STARTED = "started"
    STEP_STARTED = "step_started"
    STEP_FINISHED = "step_finished"
    PROGRESS = "progress"
    OUTPUT = "output"
    CANCEL_REQUESTED = "cancel_requested"
    REOPENED = "reopened"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether the history ends here, unless the task is reopened."""
        return self in _TERMINAL_EVENTS


_TERMINAL_EVENTS = frozenset({EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED})


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a task is now. The latest value wins."""

    updated_at: datetime
    attempt: int
    percentage: float = 0.0
    step: str | None = None
    step_number: int = 0
    total_steps: int | None = None
    details: str | None = None
    eta_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One row of a task's history. ``seq`` counts 1, 2, 3 … within the task."""

    seq: int
    type: EventType
    at: datetime
    attempt: int
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a running attempt wants in the history; it gets its number when it is stored."""

    type: EventType
    at: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StepHistory:
    """How long a step of a task took in earlier runs: how many runs were averaged, and the mean in seconds."""

    runs: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """What the task's view answered, or a function's value as JSON. ``body`` is kept byte for byte."""

    body: bytes
    status_code: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Task:
    """One accepted request for work, as the store knows it. Small: input and result body are kept beside it."""

    request_id: str
    name: str
    kind: Kind
    created_at: datetime
    updated_at: datetime
    expires_after: timedelta
    status: Status = Status.STARTED
    owner: str | None = None
    attempt: int = 0
    seq: int = 0
    queue: str = "default"
    priority: int = 0
    progress: Progress | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    expire_at: datetime | None = None
    error_message: str | None = None
    error_type: str | None = None
    result_status: int | None = None
    result_type: str | None = None
    result_size: int | None = None
    worker: str | None = None
    lease_until: datetime | None = None
    cancel_requested_at: datetime | None = None
    seen_at: datetime | None = None
    seen_via: str | None = None
    user_token: str | None = None
    idempotency_scope: str | None = None
    fingerprint: str | None = None

    @property
    def done(self) -> bool:
        """Whether the task is in a terminal state."""
        return self.status in _TERMINAL

    def expired(self, now: datetime) -> bool:
        """Whether the time to keep this task is over."""
        return self.expire_at is not None and self.expire_at <= now

    def evolve(self, **changes: Any) -> Task:
        """This task with some fields changed.

        As :func:`dataclasses.replace`, which walks all the fields in Python: 12 microseconds, three times a task.
        """
        return made_of({**self.__dict__, **changes})


def made_of(fields: dict[str, Any]) -> Task:
    """A task of all these fields, which are taken as they are: for stores, which read thousands a second."""
    task = object.__new__(Task)
    task.__dict__.update(fields)
    return task


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change makes of a task: the task after it, and the rows that go into the history with it.

    ``owed`` is the one event that sinks are told of, if there is any. ``result`` is the body to store beside the task.
    """

    task: Task
    events: tuple[Event, ...] = ()
    owed: Event | None = None
    result: Result | None = None
    drop_result: bool = False


class Change(Protocol):
    """One allowed change of a task."""

    def apply(self, task: Task, now: datetime) -> Outcome:
        """The task after the change. ``now`` is the store's time.

        :raises TransitionRefused: not in this state (a subclass says why).
        :raises LeaseLost: the attempt that asks does not hold the task.
        """


def accepted(task: Task) -> Outcome:
    """The first event of a new task."""
    event = Event(1, EventType.ACCEPTED, task.created_at, 0, {"name": task.name})
    return Outcome(task.evolve(seq=1), (event,), event)


@dataclass(frozen=True, slots=True)
class Claim:
    """Take the right to run the task: the next attempt begins. Also takes over from an expired lease."""

    worker: str
    lease: timedelta

    def apply(self, task: Task, now: datetime) -> Outcome:
        if task.done:
            raise TaskFinished(task.request_id, status=task.status.value, change="claim")
        if task.status is Status.PROCESSING and task.lease_until is not None and task.lease_until > now:
            raise AlreadyClaimed(task.request_id, status=task.status.value, worker=task.worker, until=task.lease_until)
        attempt = task.attempt + 1
        data = {"recovered": True} if task.status is Status.PROCESSING else {}
        event = Event(task.seq + 1, EventType.STARTED, now, attempt, data)
        claimed = task.evolve(
            status=Status.PROCESSING,
            attempt=attempt,
            seq=event.seq,
            updated_at=now,
            started_at=task.started_at or now,
            worker=self.worker,
            lease_until=now + self.lease,
        )
        return Outcome(claimed, (event,), event)


@dataclass(frozen=True, slots=True)
class Renew:
    """Prolong the lease. Leaves no event: the history is not a heartbeat log."""

    attempt: int
    lease: timedelta

    def apply(self, task: Task, now: datetime) -> Outcome:
        _check_holder(task, self.attempt)
        return Outcome(task.evolve(lease_until=now + self.lease))


@dataclass(frozen=True, slots=True)
class Report:
    """Store what the attempt reported since the last time: steps and output in order, then the newest progress."""

    attempt: int
    entries: tuple[Entry, ...] = ()
    progress: Progress | None = None

    def apply(self, task: Task, now: datetime) -> Outcome:
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
        return Outcome(task.evolve(seq=seq, updated_at=now, progress=progress), tuple(events))


@dataclass(frozen=True, slots=True)
class Complete:
    """The attempt reached its end: the task is completed."""

    attempt: int
    result: Result | None = None
    entries: tuple[Entry, ...] = ()
    progress: Progress | None = None

    def apply(self, task: Task, now: datetime) -> Outcome:
        _check_holder(task, self.attempt)
        last = self.progress or task.progress or Progress(now, self.attempt)
        last = replace(last, percentage=100.0, eta_seconds=0.0, updated_at=now, attempt=self.attempt)
        return _finish(task, now, Status.COMPLETED, self.entries, last, result=self.result)


@dataclass(frozen=True, slots=True)
class Fail:
    """The attempt failed and is not tried again. ``result`` is what the view answered, where it did."""

    attempt: int
    message: str
    error_type: str | None = None
    result: Result | None = None
    entries: tuple[Entry, ...] = ()
    progress: Progress | None = None

    def apply(self, task: Task, now: datetime) -> Outcome:
        _check_holder(task, self.attempt)
        failed = task.evolve(error_message=self.message, error_type=self.error_type)
        return _finish(
            failed,
            now,
            Status.FAILED,
            self.entries,
            _never_back(self.progress, task.progress),
            result=self.result,
            data={"error_message": self.message},
        )


@dataclass(frozen=True, slots=True)
class Cancel:
    """The attempt noticed that it was cancelled, and stopped."""

    attempt: int
    entries: tuple[Entry, ...] = ()
    progress: Progress | None = None

    def apply(self, task: Task, now: datetime) -> Outcome:
        _check_holder(task, self.attempt)
        return _finish(task, now, Status.CANCELLED, self.entries, _never_back(self.progress, task.progress))


@dataclass(frozen=True, slots=True)
class RequestCancel:
    """Someone wants the task to stop. At once if no attempt has begun; asked twice, or too late, it changes nothing."""

    def apply(self, task: Task, now: datetime) -> Outcome:
        if task.done or task.cancel_requested_at is not None:
            return Outcome(task)
        asked = task.evolve(cancel_requested_at=now)
        if task.status is Status.STARTED:
            return _finish(asked, now, Status.CANCELLED, (), task.progress)
        event = Event(task.seq + 1, EventType.CANCEL_REQUESTED, now, task.attempt)
        return Outcome(asked.evolve(seq=event.seq, updated_at=now), (event,), event)


@dataclass(frozen=True, slots=True)
class Reopen:
    """An explicit retry of a failed or cancelled task: the one way out of a terminal state."""

    def apply(self, task: Task, now: datetime) -> Outcome:
        if task.status not in (Status.FAILED, Status.CANCELLED) or task.kind is Kind.TRACKED:
            why = (
                "what ran where it stood cannot be run from here"
                if task.kind is Kind.TRACKED
                else "only a failed or cancelled task is retried"
            )
            raise TransitionRefused(task.request_id, status=task.status.value, change="retry", why=why)
        event = Event(task.seq + 1, EventType.REOPENED, now, task.attempt)
        reopened = task.evolve(
            status=Status.STARTED,
            seq=event.seq,
            updated_at=now,
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
        )
        return Outcome(reopened, (event,), event, drop_result=True)


@dataclass(frozen=True, slots=True)
class MarkSeen:
    """A client showed the outcome. The first sighting counts; no event, so the terminal event stays the newest."""

    via: str

    def apply(self, task: Task, now: datetime) -> Outcome:
        if not task.done:
            raise TransitionRefused(
                task.request_id, status=task.status.value, change="seen", why="there is no outcome yet"
            )
        if task.seen_at is not None:
            return Outcome(task)
        return Outcome(task.evolve(seen_at=now, seen_via=self.via))


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
    if task.attempt != attempt or task.status is not Status.PROCESSING:
        raise LeaseLost(task.request_id, attempt=attempt, holder=task.attempt, status=task.status.value)


def _numbered(entries: tuple[Entry, ...], seq: int, attempt: int) -> list[Event]:
    return [Event(seq + n, e.type, e.at, attempt, e.data) for n, e in enumerate(entries, 1)]


def _never_back(new: Progress | None, old: Progress | None) -> Progress | None:
    """The new progress, its percentage lifted to what was already shown."""
    if new is None or old is None or new.percentage >= old.percentage:
        return new or old
    return replace(new, percentage=old.percentage)


def _finish(
    task: Task,
    now: datetime,
    status: Status,
    entries: tuple[Entry, ...],
    progress: Progress | None,
    *,
    result: Result | None = None,
    data: Mapping[str, Any] | None = None,
) -> Outcome:
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
        result_type=result.content_type if result else None,
        result_size=len(result.body) if result else None,
    )
    return Outcome(finished, (*events, final), final, result)
