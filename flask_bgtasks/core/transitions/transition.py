"""Changes of tasks and their outcomes, and what all changes have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

from ..model import Checkpoint, Entry, Event, EventType, Progress, Result, Status, Task, is_refusal, place_in_queue
from ..text.clean import clean, optional_text, text_of


@dataclass(frozen=True, slots=True)
class Transition:
    """The outcome of a change: the changed task, and the new rows of its history.

    ``sink_event`` is the one event that is delivered to sinks, if any. ``result`` and ``checkpoint`` are stored beside
    the task. ``private`` replaces the private part of its input, ``drop_private`` erases it.
    """

    task: Task
    events: tuple[Event, ...] = ()
    sink_event: Event | None = None
    result: Result | None = None
    drop_result: bool = False
    checkpoint: Checkpoint | None = None
    drop_checkpoints: bool = False
    private: Mapping[str, Any] | None = None
    drop_private: bool = False


class Durability(Enum):
    """What a change survives once it is stored."""

    PROCESS = "process"
    """A killed process. A power cut may take it: the next change of its kind says the same again, or better."""

    SERVER = "server"
    """A power cut of a database server: processes elsewhere outlive the server, and rely on the change. In a database
    that is a file it survives a killed process only: a power cut ends every process that relies on it as well."""

    DISK = "disk"
    """A power cut, wherever the database is."""


class Change(Protocol):
    """One kind of change of a task. Each kind says what its changes survive."""

    @property
    def durability(self) -> Durability:
        """What the change survives once a store has accepted it."""

    def apply(self, task: Task, now: datetime) -> Transition:
        """Apply the change to a task, and return the outcome. ``now`` is the store's time.

        :raises TransitionRefused: the task's status does not allow it (a subclass says why).
        :raises LeaseLost: the calling attempt does not hold the task.
        """


def accepted(task: Task, now: datetime, *, app: str = "", turn: int = 0) -> Transition:
    """A new task as it is stored, with its first event.

    :param app: the app that the task belongs to.
    :param turn: how many tasks of its owner wait already.
    """
    event = Event(1, EventType.ACCEPTED, now, 0, {"name": task.name})
    place = place_in_queue(now, priority=task.priority, turn=turn)
    stored = task.evolve(app=app, seq=1, created_at=now, updated_at=now, place=place)
    return Transition(stored, (event,), event)


def numbered(entries: tuple[Entry, ...], seq: int, attempt: int) -> list[Event]:
    """An attempt's reports as events, numbered from ``seq + 1``."""
    return [Event(seq + n, e.type, e.at, attempt, e.data) for n, e in enumerate(entries, 1)]


def fail(
    task: Task,
    now: datetime,
    message: str,
    *,
    error_type: str | None,
    entries: tuple[Entry, ...] = (),
    progress: Progress | None = None,
    result: Result | None = None,
) -> Transition:
    """The task has failed, with these reports of its attempt and the message in its history."""
    message = text_of(message)
    failed = task.evolve(error_message=message, error_type=optional_text(error_type))
    data: dict[str, Any] = {"error_message": message}
    if result is not None and is_refusal(result.status_code):
        data |= {"rejected": True, "result_status": result.status_code}
    return finish(failed, now, Status.FAILED, entries, progress or task.progress, result=result, data=data)


def finish(
    task: Task,
    now: datetime,
    status: Status,
    entries: tuple[Entry, ...],
    progress: Progress | None,
    *,
    result: Result | None = None,
    data: Mapping[str, Any] | None = None,
) -> Transition:
    """The task has reached a terminal state: nobody holds it, and it expires after the time that it is kept."""
    events = numbered(entries, task.seq, task.attempt)
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
