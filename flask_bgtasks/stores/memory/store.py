"""Keeps tasks in the memory of one process: for tests and demos. Nothing survives the process.

One lock around everything; what goes in is copied through JSON, so that a caller's later mutation does not leak in.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ...core.model import Checkpoint, Event, Result, Status, StepHistory, Task, TaskKind
from ...core.transitions.attempt import Claim
from ...core.transitions.transition import Change, Durability, Transition, accepted
from ...errors import AtCapacity, IdempotencyConflict, QueueFull, TaskNotFound, TransitionRefused
from ..averages import average, superfluous_names, superfluous_steps
from ..base import DEATH_KEPT, Store, death_of, in_turn, joined, lost_holder, parted
from ..keys import read_cursor
from ..types import (
    Attempt,
    Clock,
    Created,
    Limits,
    NewDeliveries,
    NewDelivery,
    Page,
    Stats,
    TaskQuery,
    deliveries_of,
    order_of,
    system_clock,
)
from .contacts import MemoryContacts
from .outbox import MemoryOutbox


class MemoryStore(MemoryOutbox, MemoryContacts, Store):
    """``BGTASKS_STORE = "memory://"``. Each app has its own, so nothing in it is another app's.

    :param app_id: the app.
    :param clock: the store's time.
    :param max_events: rows of history kept per task.
    """

    def __init__(self, *, app_id: str = "", clock: Clock = system_clock, max_events: int = 10_000) -> None:
        super().__init__()
        self.app_id = app_id
        self._clock = clock
        self._max_events = max_events
        self._lock = threading.RLock()  # protects everything below
        self._tasks: dict[str, Task] = {}
        self._inputs: dict[str, str] = {}
        self._private: dict[str, str] = {}
        self._results: dict[str, Result] = {}
        self._events: dict[str, list[Event]] = {}
        self._checkpoints: dict[str, dict[str, Checkpoint]] = {}
        self._scopes: dict[str, str] = {}
        self._durations: dict[str, dict[str, StepHistory]] = {}
        self._changes = 0

    def now(self) -> datetime:
        return self._clock()

    # -- tasks ---------------------------------------------------------------------------------------------------

    def create(
        self,
        task: Task,
        *,
        input: Mapping[str, Any],
        deliveries: NewDeliveries = (),
        limits: Limits | None = None,
        claim: Claim | None = None,
        most_running: Mapping[str, int] = {},
        durability: Durability = Durability.DISK,
    ) -> Created:
        public, private = parted(input)
        text = json.dumps(public)
        most = most_running.get(task.name)
        with self._lock:
            now = self.now()
            found = self._by_scope(task, now)
            if found is not None:
                return Created(found, replayed=True)
            turn = self._check_limits(task.owner, limits)
            outcomes = [accepted(task, now, app=self.app_id, turn=turn)]
            self._inputs[task.request_id] = text
            if private is not None:
                self._private[task.request_id] = json.dumps(private)
            if task.idempotency_scope is not None:
                self._scopes[task.idempotency_scope] = task.request_id
            self._write(outcomes[0], deliveries)
            if claim is not None and (most is None or self._running(task.name) < most):
                outcomes.append(self._apply(outcomes[0].task, claim, deliveries))
        for outcome in outcomes:
            self._committed(outcome)
        return Created.of(outcomes, input)

    def _by_scope(self, task: Task, now: datetime) -> Task | None:
        if task.idempotency_scope is None:
            return None
        found = self._tasks.get(self._scopes.get(task.idempotency_scope, ""))
        if found is None:
            return None
        if found.expired(now):
            self._tasks[found.request_id] = found.evolve(idempotency_scope=None)
            return None
        if found.fingerprint != task.fingerprint:
            raise IdempotencyConflict(found.request_id)
        return found

    def _check_limits(self, owner: str | None, limits: Limits | None) -> int:
        """How many of the owner wait. :raises LimitReached: too many do."""
        if limits is None:
            return 0
        waiting = [task.owner for task in self._tasks.values() if task.status is Status.STARTED]
        if len(waiting) >= limits.max_queued:
            raise QueueFull(limits.max_queued)
        of_owner = waiting.count(owner) if limits.share(owner) is not None else 0
        limits.check_share(owner, of_owner)
        return of_owner

    def get(self, request_id: str) -> Task:
        try:
            return self._tasks[request_id]
        except KeyError:
            raise TaskNotFound(request_id) from None

    def claim(
        self,
        request_id: str,
        *,
        worker: str,
        lease: timedelta,
        deliveries: NewDeliveries = (),
        most_running: Mapping[str, int] = {},
    ) -> Attempt:
        with self._lock:
            task = self.get(request_id)
            limit = most_running.get(task.name)
            if limit is not None and self._running(task.name, besides=request_id) >= limit:
                raise AtCapacity(request_id, status=task.status.value, name=task.name, limit=limit)
            outcome = self._apply(task, Claim(worker, lease, self._died_in_company(task)), deliveries)
            attempt = Attempt(outcome.task, self._load_input(request_id), self.load_checkpoints(request_id))
        self._committed(outcome)
        return attempt

    def _died_in_company(self, task: Task) -> bool:
        """Whether the process that held a task, and is lost, held others too."""
        now = self.now()
        lost = lost_holder(task, now)
        if lost is None:
            return False
        death = death_of(lost)
        held = (one for one in self._tasks.values() if one.worker == lost and one.held)
        if any(one.request_id != task.request_id for one in held):
            self._marks[death] = now + DEATH_KEPT
        return self._marks.get(death, now) > now

    def _running(self, name: str, *, besides: str = "") -> int:
        now = self.now()
        return sum(
            task.name == name and task.leased(now) and task.request_id != besides for task in self._tasks.values()
        )

    def transition(
        self,
        request_id: str,
        change: Change,
        *,
        deliveries: NewDeliveries = (),
        limits: Limits | None = None,
        known: Task | None = None,
    ) -> Transition:
        with self._lock:
            before = self.get(request_id)
            if limits is not None:
                change = in_turn(change, before, self.now(), lambda: self._check_limits(before.owner, limits))
            outcome = self._apply(before, change, deliveries)
        self._committed(outcome)
        return outcome

    def _apply(self, before: Task, change: Change, deliveries: NewDeliveries) -> Transition:
        outcome = change.apply(before, self.now())
        if outcome.task is not before or outcome.events or outcome.checkpoint is not None:
            self._write(outcome, deliveries)
        return outcome

    def _write(self, outcome: Transition, deliveries: NewDeliveries) -> None:
        task = outcome.task
        history = self._events.setdefault(task.request_id, [])
        history.extend(replace(event, data=json.loads(json.dumps(event.data))) for event in outcome.events)
        del history[: -self._max_events]
        self._tasks[task.request_id] = task
        if outcome.result is not None:
            self._results[task.request_id] = outcome.result
        if outcome.drop_result:
            self._results.pop(task.request_id, None)
        if outcome.checkpoint is not None:
            self._checkpoints.setdefault(task.request_id, {})[outcome.checkpoint.key] = outcome.checkpoint
        if outcome.drop_checkpoints:
            self._checkpoints.pop(task.request_id, None)
        if outcome.drop_private:
            self._private.pop(task.request_id, None)
        if outcome.private is not None:
            self._private[task.request_id] = json.dumps(outcome.private)
        if outcome.sink_event is not None:
            for new in deliveries_of(outcome, deliveries):
                self._add_delivery(new, task.request_id, outcome.sink_event.seq)
        self._changes += 1

    def _load_input(self, request_id: str) -> Mapping[str, Any]:
        self.get(request_id)
        private = self._private.get(request_id)
        return joined(json.loads(self._inputs[request_id]), None if private is None else json.loads(private))

    def load_checkpoints(self, request_id: str) -> dict[str, Checkpoint]:
        with self._lock:
            return dict(self._checkpoints.get(request_id, {}))

    def load_result(self, request_id: str) -> Result | None:
        self.get(request_id)
        return self._results.get(request_id)

    def events(self, request_id: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        with self._lock:
            self.get(request_id)
            return [event for event in self._events[request_id] if event.seq > after][:limit]

    def find(self, query: TaskQuery) -> Page:
        before = None if query.cursor is None else read_cursor(query.cursor)
        with self._lock:
            found = [task for task in self._tasks.values() if query.matches(task)]
        found.sort(key=order_of, reverse=True)
        if before is not None:
            found = [task for task in found if order_of(task) < before]
        return Page.of(found, query.limit)

    def delete(self, request_id: str, *, deliveries: Sequence[NewDelivery] = ()) -> None:
        with self._lock:
            task = self.get(request_id)
            if not task.done:
                raise TransitionRefused(request_id, status=task.status.value, change="delete", why="it has not ended")
            self._erase(task)
            for new in deliveries:
                self._add_delivery(new, None, 0)

    def purge(self, *, limit: int = 100) -> int:
        with self._lock:
            now = self.now()
            over = [t for t in self._tasks.values() if t.expire_at is not None and t.expire_at + t.expires_after <= now]
            for task in over[:limit]:
                self._erase(task)
            return len(over[:limit])

    def _erase(self, task: Task) -> None:
        for table in (
            self._tasks,
            self._inputs,
            self._private,
            self._results,
            self._events,
            self._checkpoints,
        ):
            table.pop(task.request_id, None)
        if task.idempotency_scope is not None:
            self._scopes.pop(task.idempotency_scope, None)
        self._forget_devices_of(task.request_id)
        for key, (delivery, _) in list(self._deliveries.items()):
            if delivery.request_id == task.request_id:
                del self._deliveries[key]
        self._changes += 1

    # -- who runs what -------------------------------------------------------------------------------------------

    def runnable(
        self,
        *,
        limit: int,
        names: Collection[str] | None = None,
        queues: Collection[str] | None = None,
        most_running: Mapping[str, int] = {},
    ) -> list[Task]:
        with self._lock:
            now = self.now()
            full = {name for name, most in most_running.items() if self._running(name) >= most}
            fitting = [
                task
                for task in self._tasks.values()
                if (names is None or task.name in names or task.kind is TaskKind.TRACKED)
                and (queues is None or task.queue in queues)
                and task.name not in full
            ]
            begun = [task for task in fitting if task.status is Status.PROCESSING and _ran_out(task, now)]
            waiting = [
                task
                for task in fitting
                if task.status is Status.STARTED and task.kind is not TaskKind.TRACKED and _ran_out(task, now)
            ]
        begun.sort(key=lambda task: task.lease_until or now)
        waiting.sort(key=lambda task: task.place or task.created_at)
        return [*begun, *waiting][:limit]

    def next_due(self) -> float | None:
        with self._lock:
            now = self.now()
            held = [t.lease_until for t in self._tasks.values() if t.status is Status.PROCESSING and t.lease_until]
            return min(((until - now).total_seconds() for until in held if until > now), default=None)

    def workers(self) -> list[str]:
        with self._lock:
            now = self.now()
            names = {t.worker for t in self._tasks.values() if t.worker is not None and t.leased(now)}
            names.update(lease.worker for _, lease in self._deliveries.values() if lease is not None)
            return sorted(names)

    def expire_leases(self, worker: str) -> int:
        with self._lock:
            now = self.now()
            held = [t for t in self._tasks.values() if t.worker == worker and t.leased(now)]
            for task in held:
                self._tasks[task.request_id] = task.evolve(lease_until=now)
            for key, (delivery, lease) in self._deliveries.items():
                if lease is not None and lease.worker == worker:
                    self._deliveries[key] = (delivery, None)
            self._changes += 1
            return len(held)

    def stats(self) -> Stats:
        with self._lock:
            figures = Stats()
            for task in self._tasks.values():
                figures.by_status[task.status.value] = figures.by_status.get(task.status.value, 0) + 1
                figures.rejected += task.rejected
            waiting = [task.created_at for task in self._tasks.values() if task.status is Status.STARTED]
            figures.oldest_waiting = min(waiting, default=None)
            figures.deliveries_dead = sum(delivery.dead for delivery, _ in self._deliveries.values())
            figures.deliveries_pending = len(self._deliveries) - figures.deliveries_dead
            seconds = [
                (task.seen_at - task.completed_at).total_seconds()
                for task in self._tasks.values()
                if task.seen_at is not None and task.completed_at is not None
            ]
            figures.seen = len(seconds)
            figures.mean_seconds_to_seen = sum(seconds) / len(seconds) if seconds else None
            return figures

    def count_failed(self, name: str, *, since: datetime) -> int:
        with self._lock:
            return sum(
                task.name == name
                and task.status is Status.FAILED
                and not task.rejected
                and task.completed_at is not None
                and task.completed_at >= since
                for task in self._tasks.values()
            )

    # -- change feed ---------------------------------------------------------------------------------------------

    def versions(self, request_ids: Collection[str]) -> dict[str, int]:
        with self._lock:
            return {i: self._tasks[i].seq for i in request_ids if i in self._tasks}

    def change_token(self) -> Hashable | None:
        return self._changes

    # -- durations -----------------------------------------------------------------------------------------------

    def save_durations(self, name: str, seconds: Mapping[str, float]) -> None:
        with self._lock:
            if name not in self._durations:
                runs = {one: max((h.runs for h in steps.values()), default=0) for one, steps in self._durations.items()}
                for other in superfluous_names(runs):
                    del self._durations[other]
            known = self._durations.setdefault(name, {})
            for key, value in seconds.items():
                known[key] = average(known.get(key), value)
            for key in superfluous_steps(known, seconds):
                del known[key]

    def load_durations(self, name: str) -> dict[str, StepHistory]:
        with self._lock:
            return dict(self._durations.get(name, {}))

    # -- life ----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """There is nothing to open."""

    def close(self) -> None:
        """There is nothing to close: what is stored stays while the process lives."""


def _ran_out(task: Task, now: datetime) -> bool:
    """Whether nobody's lease on it holds any more."""
    return task.lease_until is None or task.lease_until <= now
