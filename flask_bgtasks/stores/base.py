"""The store protocol: the one authority on tasks, which accepts a change or refuses it, atomically.

A store reads a task, lets :mod:`flask_bgtasks.core.model` say what becomes of it, and writes that, all in one
transaction. What the adapters share stands here; an adapter brings only its own way of reading and writing.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from ..core.model import Checkpoint, Entry, Event, Progress, Result, Status, StepHistory, Task
from ..core.transitions import Change, Renew, Reopen, Report, Transition
from ..errors import AnonymousQueueFull, OwnerQueueFull
from ..runtime.background_thread import Contained
from .contacts import Contacts

Clock = Callable[[], datetime]
CommitListener = Callable[[Task, "tuple[Event, ...]"], None]

MAX_STEP_NAMES = 200
"""Whose durations are kept for a task: what names its steps after its data has new ones in every run."""

MAX_TASK_NAMES = 500
"""That durations are kept for: ``track_request`` takes any name."""

MAX_LEASES_SEEN = 1000
"""Leases on the deliveries of one sink that are looked at together. One process takes 128 at once."""

CHECKPOINT = "checkpoint:"
"""What the name of a checkpoint's part begins with, where a store keeps a task's parts by name."""


DEATH_KEPT = timedelta(days=7)
"""How long it is known of a dead process that several tasks ran in it: until all of them are claimed again."""


def death_of(worker: str) -> str:
    """The key of the mark that a process died while several tasks ran in it.

    The first of them that is claimed again finds the others; the last finds nobody, but this.
    """
    return f"died:{worker}"


def lost_holder(task: Task, now: datetime) -> str | None:
    """The process that held a task until its lease ran out; None if none did, or one still does."""
    return task.worker if task.held and not task.leased(now) else None


PRIVATE = "private"
"""The key of a task's input whose value is kept apart, and erased when the task ends: it is of somebody's login."""


def parted(input: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any]:
    """An input without its private part, and that part; None where there is none."""
    private = input.get(PRIVATE)
    if not private:
        return input, None
    return {key: value for key, value in input.items() if key != PRIVATE}, private


def joined(input: Mapping[str, Any], private: Any) -> Mapping[str, Any]:
    """The opposite of :func:`parted`."""
    return input if private is None else {**input, PRIVATE: private}


def new_token() -> int:
    """The token of a new lease: random, so that no lease is taken for another one, not even of a reused id."""
    return secrets.randbits(62)


def system_clock() -> datetime:
    """The time of this machine, in UTC."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many tasks may wait (status ``started``): in all, for one owner, and without an owner.

    :ivar max_queued_anonymous: the share of those without an owner; None where they have none of their own.
    """

    max_queued: int = 10_000
    max_queued_per_owner: int = 100
    max_queued_anonymous: int | None = None

    def share(self, owner: str | None) -> int | None:
        """How many tasks of this owner, or of nobody, may wait; None where only :attr:`max_queued` counts."""
        return self.max_queued_anonymous if owner is None else self.max_queued_per_owner

    def check_share(self, owner: str | None, waiting: int) -> None:
        """:raises LimitReached: as many tasks of this owner, or of nobody, wait as may."""
        most = self.share(owner)
        if most is not None and waiting >= most:
            raise AnonymousQueueFull(most) if owner is None else OwnerQueueFull(most)


def in_turn(change: Change, before: Task, now: datetime, count: Callable[[], int]) -> Change:
    """A change that has its task wait as a new one would: behind what waits of the same owner, if there is room for it.

    :param count: how many of the owner's tasks wait. :raises LimitReached: by ``count``, where as many wait as may.
    :raises TransitionRefused: whatever waits, the task cannot be opened again.
    """
    if not isinstance(change, Reopen):
        return change
    change.apply(before, now)
    return replace(change, turn=count())


@dataclass(frozen=True, slots=True)
class Created:
    """What :meth:`Store.create` stored or, by its idempotency key, found (``replayed``)."""

    task: Task
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """The right to run a task, and what to run it with.

    :param checkpoints: the values that earlier attempts stored, by key; read with the claim, as one.
    """

    task: Task
    input: Mapping[str, Any]
    checkpoints: Mapping[str, Checkpoint]

    @property
    def number(self) -> int:
        """The fencing token of everything that this attempt writes."""
        return self.task.attempt


@dataclass(frozen=True, slots=True)
class Owed:
    """A delivery to record with a change: which sink, and what of: an event, a notification, a message.

    :param payload: JSON; a notification that stands for itself carries its text in it.
    :param channel: deliveries of one task, sink and channel are made in order; those of two channels know nothing of
        each other.
    :param delay: how long it is not due yet.
    """

    sink: str
    kind: str = "event"
    payload: Mapping[str, Any] | None = None
    channel: str = ""
    delay: timedelta = timedelta(0)


Owing = Callable[[Transition], Sequence[Owed]]
"""Says what a change owes, by its outcome: not every end is known before it is reached."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event or notification owed to one sink; kept until it is done or dead.

    :param lease: the store's token of the lease under which :meth:`Store.due_deliveries` gave it out, None otherwise.
        No two leases have the same: whatever settles the delivery is fenced by it.
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
    """How a try at a delivery ended: done (the first two as they are by default), again at ``due_at``, or ``dead``.

    :param error: what went wrong. Without one a delivery that is put off was not tried: that is not counted, and the
        error of the last try stays.
    :param owes: what is owed in its place, of the same task and event. Recorded in the same transaction in which it is
        done, and only by who holds its lease: who has lost it adds nothing.
    """

    due_at: datetime | None = None
    dead: bool = False
    error: str | None = None
    owes: Sequence[Owed] = ()


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


@dataclass(frozen=True, slots=True)
class Page:
    """One page of found tasks; ``cursor`` asks for the next, None when there is none."""

    tasks: list[Task]
    cursor: str | None = None


@dataclass(slots=True)
class Stats:
    """Figures over the app's tasks.

    :param rejected: of the failed tasks, those whose view refused the request (:attr:`~flask_bgtasks.Task.rejected`).
    :param mean_seconds_to_seen: from the end of a task to when a client showed it.
    """

    by_status: dict[str, int] = field(default_factory=dict)
    rejected: int = 0
    oldest_waiting: datetime | None = None
    deliveries_owed: int = 0
    deliveries_dead: int = 0
    seen: int = 0
    mean_seconds_to_seen: float | None = None


class Store(Contacts, ABC):
    """One authority on tasks. Every method is atomic and may be called from any thread.

    A store is opened for one app. Several apps may keep their tasks in one database; each sees, counts, runs, delivers
    and notifies only its own, and another app's task is one that does not exist. Only :meth:`purge` and
    :meth:`~Contacts.prune_devices` erase what is over of all apps.

    Listeners given to :meth:`on_commit` are called after the commit, in the thread that asked for the change, outside
    every lock of the store.
    """

    app_id: str = ""
    """The app that the store is opened for. Whoever opens it may leave this to the extension, which sets it before the
    first call. Empty for a store that is used without an app."""

    def __init__(self) -> None:
        self._listeners: list[CommitListener] = []

    # -- tasks ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def now(self) -> datetime:
        """The store's time, by which leases and expiry are judged."""

    @abstractmethod
    def create(
        self,
        task: Task,
        *,
        input: Mapping[str, Any],
        deliveries: Sequence[Owed] | Owing = (),
        limits: Limits | None = None,
        reserved: timedelta | None = None,
    ) -> Created:
        """Store a new task, its first event and what is owed for it. When it returns, the task survives a power cut.

        :param task: in status ``started``, ``seq`` 0; the store sets its ``app``, ``created_at`` and ``updated_at``.
        :param input: what to run it with, JSON. What stands under :data:`PRIVATE` is erased when the task ends.
        :param limits: refuse when as many wait already; None for no limit.
        :param reserved: for who creates it and runs it where it stands: so long :meth:`runnable` does not give it away.
        :returns: the stored task; or the one that has the same ``idempotency_scope`` and ``fingerprint`` already.
        :raises IdempotencyConflict: the scope is taken by a task with another fingerprint.
        :raises QueueFull: as many tasks wait as the limit allows.
        :raises OwnerQueueFull: the owner has as many tasks waiting as the limit allows.
        :raises AnonymousQueueFull: as many tasks without an owner wait as their share allows.
        """

    @abstractmethod
    def get(self, request_id: str) -> Task:
        """:raises TaskNotFound: no such task of this app."""

    @abstractmethod
    def transition(
        self,
        request_id: str,
        change: Change,
        *,
        deliveries: Sequence[Owed] | Owing = (),
        limits: Limits | None = None,
    ) -> Transition:
        """Apply a change; store the task, its new events, its result and the deliveries owed for it together.

        ``deliveries`` are recorded only when the change has an event that is owed (:attr:`Transition.owed`).

        :param limits: of a task that is opened again: refuse when as many wait already, as :meth:`create` does, and
            put it behind what of its owner waits (:func:`in_turn`); None for no limit.
        :raises LimitReached: as many tasks wait as a limit allows.
        :raises TaskNotFound: no such task.
        :raises TransitionRefused: not in this state.
        :raises LeaseLost: the attempt does not hold the task.
        """

    @abstractmethod
    def claim(
        self,
        request_id: str,
        *,
        worker: str,
        lease: timedelta,
        deliveries: Sequence[Owed] | Owing = (),
        most_running: Mapping[str, int] = {},
    ) -> Attempt:
        """Take the right to run a task.

        :param request_id: the task, as ``submit`` returned it.
        :param worker: which process asks, as :func:`flask_bgtasks.runtime.processes.me` names it.
        :param lease: how long the claim holds without :meth:`renew`, at least one second.
        :param most_running: how many tasks may run at once, by name; names that are not there have no limit.
        :returns: the attempt, its number one higher than the last, with all that it is run with: either the claim is
            stored and its input and checkpoints are here, or nothing was changed. Its task is ``done`` where the claim
            found that the last process died with it, and that it is not to be run again
            (:class:`~flask_bgtasks.core.transitions.Claim`).
        :raises TaskNotFound: no such task.
        :raises AlreadyClaimed: someone alive holds it; ``until`` says how long.
        :raises AtCapacity: as many tasks of this name run as may.
        :raises TaskFinished: it is in a terminal state.
        """

    def renew(self, request_id: str, *, attempt: int, lease: timedelta) -> Task:
        """Prolong a claim by ``lease`` from now. :raises LeaseLost: it is no longer held."""
        return self.transition(request_id, Renew(attempt, lease)).task

    def save_progress(
        self, request_id: str, *, attempt: int, progress: Progress | None, entries: Sequence[Entry] = ()
    ) -> Task:
        """Store the newest progress, and the steps and output since the last time, in order, in one transaction.

        Survives a killed process; a power cut may take the last few. :raises LeaseLost: the attempt is over.
        """
        return self.transition(request_id, Report(attempt, tuple(entries), progress)).task

    def save_checkpoint(
        self,
        request_id: str,
        *,
        attempt: int,
        checkpoint: Checkpoint,
        progress: Progress | None,
        entries: Sequence[Entry] = (),
    ) -> Task:
        """Store a finished step's value, with what was reported until then, in one transaction.

        When it returns, the value survives a power cut. :raises LeaseLost: the attempt is over; nothing was stored.
        """
        return self.transition(request_id, Report(attempt, tuple(entries), progress, checkpoint)).task

    @abstractmethod
    def load_checkpoints(self, request_id: str) -> dict[str, Checkpoint]:
        """The values that earlier attempts stored, by key."""

    @abstractmethod
    def load_input(self, request_id: str) -> Mapping[str, Any]:
        """What to run the task with. :raises TaskNotFound: no such task."""

    @abstractmethod
    def load_result(self, request_id: str) -> Result | None:
        """What the task answered, None while there is nothing. :raises TaskNotFound: no such task."""

    @abstractmethod
    def events(self, request_id: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """The history above ``after``, oldest first. The first may be above ``after + 1``: older rows are trimmed.

        :raises TaskNotFound: no such task.
        """

    @abstractmethod
    def find(self, query: TaskQuery) -> Page:
        """Tasks by what they are. :raises ValueError: a malformed cursor."""

    @abstractmethod
    def delete(self, request_id: str, *, deliveries: Sequence[Owed] = ()) -> None:
        """Erase the task with its input, result, history and deliveries, and record what is owed for that.

        :raises TaskNotFound: no such task. :raises TransitionRefused: it is not in a terminal state.
        """

    @abstractmethod
    def purge(self, *, limit: int = 100) -> int:
        """Erase at most ``limit`` tasks that expired as long ago as they were kept before; how many were.

        Of all apps: when a task is over stands in the task, and one whose app is gone has to be erased too.
        """

    # -- who runs what -------------------------------------------------------------------------------------------

    @abstractmethod
    def runnable(
        self,
        *,
        limit: int,
        names: Collection[str] | None = None,
        queues: Collection[str] | None = None,
        most_running: Mapping[str, int] = {},
    ) -> list[Task]:
        """The tasks that may begin now, in the order in which they should.

        First those that have begun already (their lease ran out, was given back, or their pause is over), then those
        that wait, by their place in the queue.

        :param limit: at most so many.
        :param names: only tasks of these names, None for any. What was tracked where it stood is given for any names,
            once its lease ran out: nobody can run it, but somebody has to end it.
        :param queues: only tasks of these queues, None for any.
        :param most_running: leave out the names of which as many run already.
        """

    @abstractmethod
    def workers(self) -> list[str]:
        """The processes that hold a lease, on a task or on a delivery of this app."""

    @abstractmethod
    def expire_leases(self, worker: str) -> int:
        """End this app's leases of a process that is known to be dead; how many tasks it held."""

    @abstractmethod
    def count_failed(self, name: str, *, since: datetime) -> int:
        """How many tasks of this name failed at ``since`` or later, and have not been opened again.

        A task whose view refused the request (:attr:`~flask_bgtasks.Task.rejected`) is no failure.
        """

    @abstractmethod
    def stats(self) -> Stats:
        """Figures over the app's tasks; may cost a scan of an index."""

    # -- following -----------------------------------------------------------------------------------------------

    @abstractmethod
    def versions(self, request_ids: Collection[str]) -> dict[str, int]:
        """The newest ``seq`` of each of these tasks, in one query; those that are gone are left out."""

    @abstractmethod
    def change_token(self) -> Hashable | None:
        """A value that differs when anything in the store may have changed since it was last asked for.

        Costs microseconds. None where the store has no such thing, and a reader has to ask :meth:`versions`.
        """

    def on_commit(self, listener: CommitListener, *, first: bool = False) -> None:
        """Have ``listener(task, events)`` called after every change that this process makes.

        :param first: before those that are there: for caches, which have to know before anyone is woken who may ask.
        """
        self._listeners.insert(0 if first else len(self._listeners), listener)

    def _committed(self, outcome: Transition) -> None:
        for listener in self._listeners:
            # The change is stored: a listener must not make it look refused.
            with Contained("a listener failed after the commit of task %s", outcome.task.request_id):
                listener(outcome.task, outcome.events)

    # -- outbox --------------------------------------------------------------------------------------------------

    @abstractmethod
    def owe(self, delivery: Owed, *, request_id: str | None = None) -> None:
        """Record a delivery that belongs to no change of a task (``send_push``)."""

    @abstractmethod
    def due_deliveries(self, sink: str, *, worker: str, lease: timedelta, limit: int = 100) -> list[Delivery]:
        """Take the deliveries of this sink that are due: the oldest of each task and channel only, so that order holds.

        Those returned are leased to this worker: nobody gets them before they are settled, or the lease is ended
        (:meth:`end_delivery_leases`, :meth:`expire_leases`). The store ends no lease by itself: clocks differ.

        :param lease: how long the worker means to hold them without :meth:`renew_deliveries`.
        """

    @abstractmethod
    def renew_deliveries(self, deliveries: Sequence[Delivery], *, lease: timedelta) -> dict[int, Delivery]:
        """Prolong the leases on deliveries by ``lease`` from now.

        :returns: by id, with their renewed leases, those that are still held; what is missing was lost.
        """

    @abstractmethod
    def delivery_leases(self, sink: str) -> dict[int, Hashable]:
        """The leases on deliveries of this sink, by the delivery's id: each a value that changes when it is renewed.

        At most :data:`MAX_LEASES_SEEN`, those that were to end first.
        """

    @abstractmethod
    def end_delivery_leases(self, sink: str, leases: Mapping[int, Hashable]) -> int:
        """End these leases, as :meth:`delivery_leases` gave them, where they are unchanged; how many were.

        Whoever held one has lost it: how its try ended does not count.
        """

    @abstractmethod
    def settle_delivery(self, delivery: Delivery, settlement: Settlement) -> None:
        """Record how a try ended. Done deliveries are erased, dead ones kept to be seen and replayed.

        Recorded for who has the lease only, whatever the outcome: whoever has lost it would take the delivery from the
        one that tries it now.

        What is owed in a done one's place is recorded with it, in one transaction.
        """

    @abstractmethod
    def dead_deliveries(self, *, sink: str | None = None, limit: int = 100) -> list[Delivery]:
        """Dead letters, newest first, of one sink or of all."""

    @abstractmethod
    def replay_deliveries(self, ids: Collection[int]) -> int:
        """Have dead letters delivered after all: due now, as if never tried; how many there were."""

    # -- durations -----------------------------------------------------------------------------------------------

    @abstractmethod
    def save_durations(self, name: str, seconds: Mapping[str, float]) -> None:
        """Take the durations of a completed run's steps into the averages of that task name. Keys are step paths.

        Bounded as a table: what is over :data:`MAX_STEP_NAMES` and :data:`MAX_TASK_NAMES` is forgotten, what was met in
        the fewest runs first.
        """

    @abstractmethod
    def load_durations(self, name: str) -> dict[str, StepHistory]:
        """The averages of earlier runs by step path, in the order in which the steps were first met."""

    # -- whose they are ------------------------------------------------------------------------------------------

    def apps(self) -> dict[str, int]:
        """The apps that keep their tasks here, each with how many it has; as far as this store can tell."""
        return {self.app_id: sum(self.stats().by_status.values())}

    def adopt(self, app_id: str) -> int:
        """Make everything that belongs to another app this app's: for one that got another id; how many tasks it had.

        What this app has already, a device or an average say, stays as it is. A store that keeps one app's tasks only
        has nothing to adopt.
        """
        return 0

    # -- life ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def check(self) -> None:
        """Open the store and read from it. :raises ConfigurationError: with what is wrong and how to mend it."""

    @abstractmethod
    def close(self) -> None:
        """Close connections; the next call opens them again."""


def owed_by(outcome: Transition, deliveries: Sequence[Owed] | Owing) -> Sequence[Owed]:
    """What a change owes: nothing, if it has no event that sinks are told of."""
    if outcome.owed is None:
        return ()
    return deliveries(outcome) if callable(deliveries) else deliveries


def average(old: StepHistory | None, seconds: float) -> StepHistory:
    """An exponentially weighted mean: the last few runs count most, so that a changed pipeline is learnt quickly."""
    if old is None:
        return StepHistory(1, seconds)
    weight = max(NEWEST_RUN_WEIGHT, 1 / (old.runs + 1))
    return StepHistory(old.runs + 1, old.seconds + weight * (seconds - old.seconds))


def superfluous_steps(known: Mapping[str, StepHistory], current: Collection[str]) -> list[str]:
    """The steps of a task whose durations are to be forgotten: those met in the fewest runs, and of these the oldest.

    :param known: in the order in which they were first met. :param current: the newest run's, which stay.
    """
    others = [step for step in known if step not in current]
    others.sort(key=lambda step: known[step].runs)
    return others[: max(0, len(known) - MAX_STEP_NAMES)]


def superfluous_names(most_runs: Mapping[str, int]) -> list[str]:
    """The tasks whose durations are to be forgotten before another one's are kept: a tenth of them, once there are
    too many, so that not every new name has to count.

    :param most_runs: of any step of each task that there is.
    """
    if len(most_runs) < MAX_TASK_NAMES:
        return []
    over = len(most_runs) - MAX_TASK_NAMES + MAX_TASK_NAMES // 10
    return sorted(most_runs, key=lambda name: most_runs[name])[:over]


NEWEST_RUN_WEIGHT = 0.2  # beyond five runs the newest counts a fifth
