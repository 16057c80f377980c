"""The values that go into a store and come out of it: limits, attempts, deliveries, queries, pages, figures.

Pure data; knows the model and its changes. The protocols say what a store does with these values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from ..core.model import Checkpoint, Status, Task
from ..core.transitions.transition import Transition
from ..errors import AnonymousQueueFull, OwnerQueueFull
from .keys import write_cursor

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """The time of this machine, in UTC."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many tasks may wait (status ``started``): in all, for one owner, and without an owner.

    :ivar max_queued_anonymous: the share of tasks without an owner; None if they have no limit of their own.
    """

    max_queued: int = 10_000
    max_queued_per_owner: int = 100
    max_queued_anonymous: int | None = None

    def share(self, owner: str | None) -> int | None:
        """How many tasks of this owner, or without an owner, may wait; None if only :attr:`max_queued` counts."""
        return self.max_queued_anonymous if owner is None else self.max_queued_per_owner

    def check_share(self, owner: str | None, waiting: int) -> None:
        """:raises LimitReached: the owner's share, or the share of tasks without an owner, is used up."""
        share = self.share(owner)
        if share is not None and waiting >= share:
            raise AnonymousQueueFull(share) if owner is None else OwnerQueueFull(share)


@dataclass(frozen=True, slots=True)
class Created:
    """The task that ``create`` stored or, by its idempotency key, found (``replayed``).

    :param task: as it was accepted, or as it was found.
    :param attempt: its first attempt, where it was claimed with its creation.
    """

    task: Task
    replayed: bool = False
    attempt: Attempt | None = None

    @classmethod
    def of(cls, outcomes: Sequence[Transition], input: Mapping[str, Any]) -> Created:
        """What was stored: a new task as it was accepted and, where that is the second outcome, its claim."""
        attempts = [Attempt(begun.task, input, {}) for begun in outcomes[1:]]
        return cls(outcomes[0].task, attempt=attempts[0] if attempts else None)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The right to run a task, with the input and the checkpoints to run it with.

    ``task.attempt`` is the fencing token of everything that this attempt writes.

    :param checkpoints: the values that earlier attempts stored, by key; read in the transaction of the claim.
    """

    task: Task
    input: Mapping[str, Any]
    checkpoints: Mapping[str, Checkpoint]


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A delivery to record with a change: an event, a notification or a message for one sink.

    :param payload: JSON; for a notification that belongs to no task, its text.
    :param channel: deliveries of one task, sink and channel are made in order; two channels are independent.
    :param delay: time until the delivery is due.
    """

    sink: str
    kind: str = "event"
    payload: Mapping[str, Any] | None = None
    channel: str = ""
    delay: timedelta = timedelta(0)


NewDeliveries = Sequence[NewDelivery] | Callable[[Transition], Sequence[NewDelivery]]
"""The deliveries to record with a change, or a function that derives them from the outcome of the change: some outcomes
are known only once the change has been applied."""


def deliveries_of(outcome: Transition, deliveries: NewDeliveries) -> Sequence[NewDelivery]:
    """The deliveries to record with a change; none, if the change has no event for sinks."""
    if outcome.sink_event is None:
        return ()
    return deliveries(outcome) if callable(deliveries) else deliveries


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event or notification for one sink; kept until it is done or dead.

    :param lease: the store's token of the lease under which ``due_deliveries`` returned it, else None. Each lease has
        its own token, which fences the settlement of the delivery.
    """

    id: int
    sink: str
    kind: str
    request_id: str | None
    seq: int
    payload: Mapping[str, Any] | None
    tries: int
    created_at: datetime
    due_at: datetime
    dead: bool = False
    error: str | None = None
    channel: str = ""
    lease: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Settlement:
    """The outcome of a try at a delivery: done (the default), to be retried at ``due_at``, or ``dead``.

    :param error: what went wrong. A delivery that is postponed without an error was not tried: the try does not count,
        and the error of the last try stays.
    :param replaced_by: deliveries of the same task and event that replace this one. Recorded in the transaction that
        settles it, and only for the holder of its lease.
    """

    due_at: datetime | None = None
    dead: bool = False
    error: str | None = None
    replaced_by: Sequence[NewDelivery] = ()


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """Which tasks to find, newest first. None means any; ``ids`` at most 100."""

    owner: str | None = None
    ids: Sequence[str] | None = None
    statuses: Collection[Status] | None = None
    seen: bool | None = None
    idempotency_scope: str | None = None
    name: str | None = None
    limit: int = 50
    cursor: str | None = None

    def matches(self, task: Task) -> bool:
        """Whether the query selects this task, regardless of the cursor."""
        return (
            (self.owner is None or task.owner == self.owner)
            and (self.ids is None or task.request_id in self.ids)
            and (self.statuses is None or task.status in self.statuses)
            and (self.seen is None or (task.seen_at is not None) == self.seen)
            and (self.idempotency_scope is None or task.idempotency_scope == self.idempotency_scope)
            and (self.name is None or task.name == self.name)
        )


def order_of(task: Task) -> tuple[datetime, str]:
    """The sort key of found tasks, highest first; a cursor contains it."""
    return task.created_at, task.request_id


@dataclass(frozen=True, slots=True)
class Page:
    """One page of found tasks; ``cursor`` fetches the next page, None if there is none."""

    tasks: list[Task]
    cursor: str | None = None

    @classmethod
    def of(cls, found: Sequence[Task], limit: int) -> Page:
        """The first ``limit`` of these tasks, with a cursor if there are more."""
        page = list(found[:limit])
        return cls(page, write_cursor(*order_of(page[-1])) if len(found) > len(page) and page else None)


@dataclass(slots=True)
class Stats:
    """Figures over the app's tasks.

    :param rejected: how many of the failed tasks were refused by their view (:attr:`~flask_bgtasks.Task.rejected`).
    :param deliveries_pending: deliveries that are neither done nor dead.
    :param mean_seconds_to_seen: from the end of a task to when a client showed it.
    """

    by_status: dict[str, int] = field(default_factory=dict)
    rejected: int = 0
    oldest_waiting: datetime | None = None
    deliveries_pending: int = 0
    deliveries_dead: int = 0
    seen: int = 0
    mean_seconds_to_seen: float | None = None
