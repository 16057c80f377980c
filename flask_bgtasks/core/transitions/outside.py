"""The changes that others make to a task: its owner, its readers, a process that finds it stuck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from ...errors import TransitionRefused
from ..model import Event, EventType, Status, Task, TaskKind, place_in_queue
from .transition import Durability, Transition, fail, finish


@dataclass(frozen=True, slots=True)
class RequestCancel:
    """Someone wants the task to stop. At once if no attempt holds it; asked twice, or too late, it changes nothing.

    An attempt whose lease ran out holds it no more: its process died, and maybe nobody is there to find that.
    """

    durability: ClassVar[Durability] = Durability.DISK

    def apply(self, task: Task, now: datetime) -> Transition:
        if task.done:
            return Transition(task)
        asked = task.evolve(cancel_requested_at=task.cancel_requested_at or now)
        if not task.leased(now):
            return finish(asked, now, Status.CANCELLED, (), task.progress)
        if task.cancel_requested_at is not None:
            return Transition(task)
        event = Event(task.seq + 1, EventType.CANCEL_REQUESTED, now, task.attempt)
        return Transition(asked.evolve(seq=event.seq, updated_at=now), (event,), event)


@dataclass(frozen=True, slots=True)
class Abandon:
    """No process has known the task's name for so long: it fails, with its name said.

    :raises TransitionRefused: an attempt holds it, or it has ended.
    """

    durability: ClassVar[Durability] = Durability.DISK

    waited: timedelta

    def apply(self, task: Task, now: datetime) -> Transition:
        if task.done or task.leased(now):
            why = "it has ended" if task.done else "an attempt runs it"
            raise TransitionRefused(task.request_id, status=task.status.value, change="abandon", why=why)
        message = (
            f"no task is called {task.name!r} any more: no process had a function of this name to run for "
            f"{self.waited.total_seconds():g} s (BGTASKS_UNKNOWN_TASK_SECONDS)"
        )
        return fail(task, now, message, error_type="UnknownTask")


@dataclass(frozen=True, slots=True)
class Reopen:
    """An explicit retry of a failed or cancelled task: the one way out of a terminal state. Checkpoints stay.

    :ivar private: the private part of its input, from the request that asks for it: the first one's was erased.
    :ivar turn: how many tasks of its owner wait already; a store that is given limits counts them.
    """

    durability: ClassVar[Durability] = Durability.DISK

    private: Mapping[str, Any] | None = None
    turn: int = 0

    def apply(self, task: Task, now: datetime) -> Transition:
        if task.status not in (Status.FAILED, Status.CANCELLED) or task.kind is TaskKind.TRACKED:
            why = (
                "tracked code cannot be run by the library"
                if task.kind is TaskKind.TRACKED
                else "only a failed or cancelled task can be retried"
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

    durability: ClassVar[Durability] = Durability.PROCESS

    via: str

    def apply(self, task: Task, now: datetime) -> Transition:
        if not task.done:
            raise TransitionRefused(
                task.request_id, status=task.status.value, change="seen", why="it has no outcome yet"
            )
        if task.seen_at is not None:
            return Transition(task)
        return Transition(task.evolve(seen_at=now, seen_via=self.via))


@dataclass(frozen=True, slots=True)
class MarkTold:
    """The outcome was written into a live stream. Like a sighting no event, and of a task that has ended only."""

    durability: ClassVar[Durability] = Durability.PROCESS

    seq: int

    def apply(self, task: Task, now: datetime) -> Transition:
        if not task.done or task.seq != self.seq or task.told_at is not None:
            return Transition(task)
        return Transition(task.evolve(told_at=now))


@dataclass(frozen=True, slots=True)
class Mute:
    """Its owner wants no notification of this task, or wants them again. Leaves no event."""

    durability: ClassVar[Durability] = Durability.DISK

    muted: bool

    def apply(self, task: Task, now: datetime) -> Transition:
        if self.muted == (task.muted_at is not None):
            return Transition(task)
        return Transition(task.evolve(muted_at=now if self.muted else None))
