"""The task, its history and what belongs to it, as values. How a task may change stands in :mod:`.transitions`.

Pure: no I/O, no Flask, no clock. Knows no other module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any


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


class TaskKind(str, Enum):
    """What a task runs."""

    VIEW = "view"  # a Flask view, from a captured request
    FUNCTION = "function"  # a function under ``@bgtasks.task``, from its arguments
    TRACKED = "tracked"  # code that runs where it stands; the library records, it does not schedule


class OnInterrupt(str, Enum):
    """What happens to a task whose process died, or was stopped, while it ran."""

    RETRY = "retry"  # it runs again, from its last checkpoint
    FAIL = "fail"


class EventType(str, Enum):
    """The types of events in a task's history; also the ``event:`` names of the stream."""

    ACCEPTED = "accepted"
    STARTED = "started"
    STEP_STARTED = "step_started"
    STEP_FINISHED = "step_finished"
    PROGRESS = "progress"
    OUTPUT = "output"
    RETRYING = "retrying"  # the attempt failed; another one follows
    RELEASED = "released"  # the attempt's process is stopping; another one goes on
    CANCEL_REQUESTED = "cancel_requested"
    REOPENED = "reopened"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @classmethod
    def _missing_(cls, value: object) -> EventType | None:
        """A type that a newer version of the library has stored: passed on as it is, and taken for no other one."""
        if not isinstance(value, str):
            return None
        newer = str.__new__(cls, value)
        newer._name_, newer._value_ = value.upper(), value
        # In the map by which members are found, so that there is one of each, and not among those that are listed.
        known: EventType = cls._value2member_map_.setdefault(value, newer)  # type: ignore[assignment]
        return known

    @property
    def terminal(self) -> bool:
        """Whether the history ends here, unless the task is reopened."""
        return self in _TERMINAL_EVENTS


_TERMINAL_EVENTS = frozenset({EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED})

PASSING = frozenset({408, 425, 429})
"""Client errors that the same request may not meet again: RFC 9110 (15.5.9), RFC 8470 (5.2), RFC 6585 (4)."""

LOGIN_LOST = "LoginLost"
"""The ``error_type`` of a task whose run answered 401 or 403, though its request was let in."""


def is_refusal(status_code: int | None) -> bool:
    """Whether an answer of this status refuses the request for good: the client's fault, and no failure of the app."""
    return status_code is not None and 400 <= status_code < 500 and status_code not in PASSING


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a task. The latest value wins."""

    updated_at: datetime
    attempt: int
    percentage: float = 0.0
    step: str | None = None
    step_number: int = 0
    total_steps: int | None = None
    details: str | None = None
    eta_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class TokenNote:
    """What was known of a task's ``user_token`` when the task was accepted.

    :param kind: of the address; None to tell it by its looks. :param lang: the language of its device.
    :param registered: it was among the devices of the task's owner: where it is not any more, it is not theirs.
    """

    kind: str | None = None
    lang: str | None = None
    registered: bool = False


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
    """The answer of a view, or a function's return value as JSON. ``body`` is kept byte for byte."""

    body: bytes
    status_code: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def is_json(self) -> bool:
        """Whether the content type says that the body is one JSON text (RFC 8259; RFC 6839, 3.1, for ``+json``).

        ``application/jsonl`` and ``application/json-seq`` are not: they hold many.
        """
        media_type = self.content_type.partition(";")[0].strip().lower()
        return media_type == "application/json" or media_type.endswith("+json")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The stored value of a step that finished, for later attempts.

    :param key: names it within its task.
    :param head: what is known of it besides: its name, its place, the output that it gave.
    :param body: the value as JSON.
    """

    key: str
    head: Mapping[str, Any]
    body: bytes


QUEUE_STEP = timedelta(minutes=10)
"""What one step of priority, and one task of the same owner that waits already, are worth in the queue."""

HIGHEST_PRIORITY = 1000


def place_in_queue(now: datetime, *, priority: int, turn: int = 0) -> datetime:
    """A waiting task's place: the queue is served in this order, as if the task had been accepted then.

    One number for three rules. First come, first served; a step of priority counts as ten minutes of waiting, so that
    low priorities are overtaken and never starve; each further task of an owner stands ten minutes later than the one
    before, so that somebody's thousand do not hold up somebody else's first. The idea is that of virtual finishing
    times in fair queueing (Demers, Keshav, Shenker: "Analysis and Simulation of a Fair Queueing Algorithm", 1989).

    :param priority: -1000 to 1000. :param turn: how many tasks of its owner wait already.
    """
    return now + QUEUE_STEP * (turn - priority)


@dataclass(frozen=True)
class Task:
    """One accepted request for work, as the store knows it. Small: input and result body are kept beside it."""

    request_id: str
    name: str
    kind: TaskKind
    created_at: datetime
    updated_at: datetime
    expires_after: timedelta
    app: str = ""  # whose it is: the id of the app that accepted it; the store sets it
    status: Status = Status.STARTED
    owner: str | None = None
    attempt: int = 0
    seq: int = 0
    queue: str = "default"
    priority: int = 0
    place: datetime | None = None  # in the queue, while it waits
    max_attempts: int = 3
    on_interrupt: OnInterrupt = OnInterrupt.RETRY
    failures: int = 0  # attempts that failed and were followed by another
    crashes: int = 0  # attempts that are proven to have ended their process, since its last checkpoint
    suspicions: int = 0  # attempts whose process died while others ran in it too, since its last checkpoint
    progress: Progress | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    expire_at: datetime | None = None
    error_message: str | None = None
    error_type: str | None = None
    result_status: int | None = None
    result_type: str | None = None
    result_size: int | None = None
    worker: str | None = None  # whose process runs it
    lease_until: datetime | None = None  # until when nobody else may take it
    cancel_requested_at: datetime | None = None
    seen_at: datetime | None = None
    seen_via: str | None = None
    told_at: datetime | None = None  # the outcome went into a live stream: nobody says that it was looked at
    muted_at: datetime | None = None  # its owner wants no notification of it
    user_token: str | None = None
    token_note: TokenNote | None = None
    idempotency_scope: str | None = None
    fingerprint: str | None = None

    @property
    def done(self) -> bool:
        """Whether the task is in a terminal state."""
        return self.status in _TERMINAL

    @property
    def held(self) -> bool:
        """Whether an attempt runs it, as far as the store knows: its lease may have expired."""
        return self.status is Status.PROCESSING and self.worker is not None

    def leased(self, now: datetime) -> bool:
        """Whether an attempt holds it, and its lease has not expired."""
        return self.held and self.lease_until is not None and self.lease_until > now

    @property
    def rejected(self) -> bool:
        """Whether it failed because its view refused the request, with a 4xx that is the view's own answer."""
        return self.status is Status.FAILED and is_refusal(self.result_status)

    @property
    def login_lost(self) -> bool:
        """Whether it failed because its run did not find the login of the original request."""
        return self.status is Status.FAILED and self.error_type == LOGIN_LOST

    @property
    def retry_at(self) -> datetime | None:
        """When the next attempt may begin, while the task waits between two of them."""
        return self.lease_until if self.status is Status.PROCESSING and self.worker is None else None

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
