"""The Firestore store: each operation of the protocol in a few calls, and one commit where something changes."""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from ...core.model import Checkpoint, Event, Result, Status, Task
from ...core.transitions.attempt import Claim
from ...core.transitions.transition import Change, Durability, Transition, accepted
from ...errors import (
    AtCapacity,
    ConfigurationError,
    IdempotencyConflict,
    QueueFull,
    StoreUnavailable,
    TaskNotFound,
    TransitionRefused,
)
from ...firebase.firestore.client import ONCE, field
from .. import conversions
from ..base import PRIVATE, in_turn, joined, parted
from ..conversions import CHECKPOINT
from ..keys import can_exist, read_cursor
from ..types import (
    Attempt,
    Created,
    Limits,
    NewDeliveries,
    NewDelivery,
    Page,
    Stats,
    TaskQuery,
    deliveries_of,
    order_of,
)
from . import rows
from .apps import FirestoreApps
from .contacts import FirestoreContacts
from .database import DELIVERIES, NAMES, SCOPES, TASKS, count
from .durations import FirestoreDurations
from .leases import FirestoreLeases

GET_AT_ONCE = 100


class FirestoreStore(FirestoreLeases, FirestoreContacts, FirestoreDurations, FirestoreApps):
    """``BGTASKS_STORE = "firestore://project"`` or ``"firestore://project/database"``.

    :param firestore: the way to the database.
    :param app_id: the app whose tasks these are.
    :param clock: the store's time, for tests; None for Firestore's own.
    :param max_events: rows of history kept per task.
    """

    # -- tasks ---------------------------------------------------------------------------------------------------------

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
        body = json.dumps(public).encode("ascii")
        reference = self._reference(task.request_id)
        most = most_running.get(task.name)

        def attempt() -> list[Transition] | Task:
            batch = self._firestore.client.batch()
            now = self.now()
            found = self._take_scope(batch, task, now)
            if found is not None:
                return found
            turn = 0 if limits is None else self._check_limits(task.owner, limits)
            outcomes = [accepted(task, now, app=self.app_id, turn=turn)]
            if claim is not None and (most is None or self._has_room(batch, task, most)):
                outcomes.append(claim.apply(outcomes[0].task, now))
            ours = {"order": self._next_id(), PRIVATE: private is not None}
            batch.create(reference, {**rows.task_values(outcomes[-1].task), **ours})
            if private is not None:
                self._add_private(batch, reference, private)
            self._add_part(batch, reference, "input", None if private is None else PRIVATE, body)
            for outcome in outcomes:
                self._add_history(batch, outcome, deliveries_of(outcome, deliveries))
            batch.commit(**ONCE)
            return outcomes

        done = self._attempted(attempt)
        if isinstance(done, Task):
            return Created(done, replayed=True)
        for outcome in done:
            self._committed(outcome)
        return Created.of(done, input)

    def _take_scope(self, batch: Any, task: Task, now: datetime) -> Task | None:
        """The task that has this task's idempotency scope; where none has it, the batch takes it."""
        if task.idempotency_scope is None:
            return None
        reference = self._keyed(SCOPES, task.idempotency_scope)
        snapshot = reference.get(**ONCE)
        if not snapshot.exists:
            batch.create(reference, {"request_id": task.request_id})
            return None
        holder = self._reference(snapshot.get("request_id")).get(**ONCE)
        found = rows.task(holder.to_dict()) if holder.exists else None
        if found is None or found.expired(now):
            option = self._firestore.client.write_option(last_update_time=snapshot.update_time)
            batch.update(reference, {"request_id": task.request_id}, option=option)
            if found is not None:
                batch.update(holder.reference, {"idempotency_scope": None})
            return None
        if found.fingerprint != task.fingerprint:
            raise IdempotencyConflict(found.request_id)
        return found

    def _check_limits(self, owner: str | None, limits: Limits) -> int:
        """How many of the owner wait. :raises LimitReached: too many do."""
        waiting = self._own(TASKS).where(filter=field("status", "==", Status.STARTED.value))
        if count(waiting.limit(limits.max_queued)) >= limits.max_queued:
            raise QueueFull(limits.max_queued)
        share = limits.share(owner)
        if share is None:
            return 0
        of_owner = count(waiting.where(filter=field("owner", "==", owner)).limit(share))
        limits.check_share(owner, of_owner)
        return of_owner

    def get(self, request_id: str) -> Task:
        with self._calls():
            return self._read(request_id)[1]

    def transition(
        self,
        request_id: str,
        change: Change,
        *,
        deliveries: NewDeliveries = (),
        limits: Limits | None = None,
        known: Task | None = None,
    ) -> Transition:
        if limits is None:
            return self._changed(request_id, change, deliveries)

        def check(batch: Any, before: Task) -> Change:
            return in_turn(change, before, self.now(), lambda: self._check_limits(before.owner, limits))

        return self._changed(request_id, change, deliveries, check)

    def claim(
        self,
        request_id: str,
        *,
        worker: str,
        lease: timedelta,
        deliveries: NewDeliveries = (),
        most_running: Mapping[str, int] = {},
    ) -> Attempt:
        read: list[tuple[Mapping[str, Any], dict[str, Checkpoint]]] = []

        def check(batch: Any, before: Task) -> Claim:
            change = Claim(worker, lease, self._died_in_company(batch, before))
            # What it is run with is read before the commit, which is refused if the task has changed since: as one.
            wanted = change.apply(before, self.now()).task
            read[:] = [(self._load_input(request_id), self.load_checkpoints(request_id) if wanted.attempt > 1 else {})]
            limit = most_running.get(before.name)
            if limit is None or before.done:
                return change
            if not self._has_room(batch, before, limit):
                raise AtCapacity(request_id, status=before.status.value, name=before.name, limit=limit)
            return change

        outcome = self._changed(request_id, Claim(worker, lease), deliveries, check)
        return Attempt(outcome.task, *read[0])

    def _has_room(self, batch: Any, task: Task, limit: int) -> bool:
        """Whether fewer tasks of its name run than may. Of two that count at once, one is refused its commit."""
        turn = self._keyed(NAMES, task.name)
        snapshot = turn.get(**ONCE)  # before the count
        running = [one for one in self._running(task.name) if one.request_id != task.request_id]
        if len(running) >= limit:
            return False
        if snapshot.exists:
            option = self._firestore.client.write_option(last_update_time=snapshot.update_time)
            batch.update(turn, {"turn": (snapshot.to_dict() or {}).get("turn", 0) + 1}, option=option)
        else:
            batch.create(turn, {"turn": 1})
        return True

    def _load_input(self, request_id: str) -> Mapping[str, Any]:
        with self._calls():
            found = self._load_part(request_id, "input")
            if found is None:
                self._read(request_id)
                raise StoreUnavailable(f"the input of task {request_id} is not there")
            private = self._load_part(request_id, PRIVATE) if found[0] == PRIVATE else None
        return joined(json.loads(found[1]), None if private is None else json.loads(private[1]))

    def load_result(self, request_id: str) -> Result | None:
        with self._calls():
            found = self._load_part(request_id, "result")
            if found is None:
                self._read(request_id)
                return None
        return conversions.result(*found)

    def load_checkpoints(self, request_id: str) -> dict[str, Checkpoint]:
        with self._calls():
            made = {}
            for part in self._parts(self._reference(request_id)):
                try:
                    found = self._load_part(request_id, part.id) if part.id.startswith(CHECKPOINT) else None
                except TaskNotFound:
                    return {}
                if found is not None:
                    stored = conversions.checkpoint(part.id, *found)
                    made[stored.key] = stored
            return made

    def events(self, request_id: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        with self._calls():
            reference = self._reference(request_id)
            history = reference.collection("events").where(filter=field("seq", ">", after))
            found = [one.to_dict() for one in history.order_by("seq").limit(limit).stream(**ONCE)]
            self._check_app(request_id, found[-1] if found else {})
            return [self._event(reference, values) for values in found]

    # -- many tasks ----------------------------------------------------------------------------------------------------

    def find(self, query: TaskQuery) -> Page:
        after = None if query.cursor is None else read_cursor(query.cursor)
        with self._calls():
            fitting = (task for task in self._candidates(query, after) if query.matches(task))
            return Page.of(list(islice(fitting, query.limit + 1)), query.limit)

    def _candidates(self, query: TaskQuery, after: tuple[datetime, str] | None) -> Iterator[Task]:
        """Tasks, newest first, that may fit: by what there is an index for."""
        if query.ids is not None:
            references = [self._reference(request_id) for request_id in filter(can_exist, query.ids)]
            found = self._firestore.client.get_all(references, **ONCE) if references else ()
            tasks = [
                task for task in rows.tasks(one.to_dict() for one in found if one.exists) if task.app == self.app_id
            ]
            tasks.sort(key=order_of, reverse=True)
            yield from (task for task in tasks if after is None or order_of(task) < after)
            return
        asked = self._own(TASKS)
        if query.idempotency_scope is not None:
            asked = asked.where(filter=field("idempotency_scope", "==", query.idempotency_scope))
        elif query.owner is not None:
            asked = asked.where(filter=field("owner", "==", query.owner))
        asked = asked.order_by("created_at", direction="DESCENDING").order_by("request_id", direction="DESCENDING")
        if after is not None:
            asked = asked.start_after({"created_at": after[0], "request_id": after[1]})
        yield from rows.tasks(snapshot.to_dict() for snapshot in asked.stream(**ONCE))

    def versions(self, request_ids: Collection[str]) -> dict[str, int]:
        ids, found = list(filter(can_exist, request_ids)), {}
        with self._calls():
            for begin in range(0, len(ids), GET_AT_ONCE):
                references = [self._reference(request_id) for request_id in ids[begin : begin + GET_AT_ONCE]]
                for snapshot in self._firestore.client.get_all(references, field_paths=["seq", "app"], **ONCE):
                    versioned = (snapshot.to_dict() or {}) if snapshot.exists else {}
                    if versioned.get("app", "") == self.app_id and versioned:
                        found[snapshot.id] = versioned["seq"]
        return found

    def change_token(self) -> Hashable | None:
        """There is none: a reader asks for the versions of what it follows."""
        return None

    def delete(self, request_id: str, *, deliveries: Sequence[NewDelivery] = ()) -> None:
        with self._calls():
            task = self._read(request_id)[1]
            if not task.done:
                raise TransitionRefused(request_id, status=task.status.value, change="delete", why="it has not ended")
            batch = self._firestore.client.batch()
            batch.delete(self._reference(request_id))
            for new in deliveries:
                self._add_delivery(batch, new, None, 0)
            batch.commit(**ONCE)
            self._forget(task)

    def purge(self, *, limit: int = 100) -> int:
        with self._calls():
            over = self._collection(TASKS).where(filter=field("erase_at", "<=", self.now()))
            snapshots = over.order_by("erase_at").limit(limit).stream(**ONCE)
            found = list(rows.tasks(snapshot.to_dict() for snapshot in snapshots))
            for task in found:
                self._forget(task)
        return len(found)

    def _forget(self, task: Task) -> None:
        self._erase_task(task.request_id)
        if task.idempotency_scope is not None:
            scope = rows.key_of(task.app, task.idempotency_scope)  # of any app: what is over is purged by all
            self._erase([self._collection(SCOPES).document(scope)])

    def count_failed(self, name: str, *, since: datetime) -> int:
        recent = self._own(TASKS).where(filter=field("name", "==", name))
        recent = recent.where(filter=field("completed_at", ">=", since))
        with self._calls():
            failed = count(recent.where(filter=field("status", "==", Status.FAILED.value)))
            return failed - count(recent.where(filter=field("rejected", "==", True))) if failed else 0

    def stats(self) -> Stats:
        with self._calls():
            tasks, letters = self._own(TASKS), self._own(DELIVERIES)
            by_status = {}
            for status in Status:
                counted = count(tasks.where(filter=field("status", "==", status.value)))
                if counted:
                    by_status[status.value] = counted
            waiting = tasks.where(filter=field("status", "==", Status.STARTED.value))
            oldest = [one.get("created_at") for one in waiting.order_by("created_at").limit(1).stream(**ONCE)]
            sighted = tasks.where(filter=field("seen", "==", True))
            seen = count(sighted)
            return Stats(
                by_status=by_status,
                rejected=count(tasks.where(filter=field("rejected", "==", True))),
                oldest_waiting=rows.moment(oldest[0]) if oldest else None,
                deliveries_pending=count(letters.where(filter=field("dead", "==", False))),
                deliveries_dead=count(letters.where(filter=field("dead", "==", True))),
                seen=seen,
                mean_seconds_to_seen=_mean(sighted, "seconds_to_seen") if seen else None,
            )

    # -- life ----------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        try:
            with self._calls():
                self._tell_time(self._collection(NAMES).document("time").get(**ONCE))
        except StoreUnavailable as error:
            raise ConfigurationError(f"BGTASKS_STORE: {error}") from error

    def close(self) -> None:
        self._firestore.close()


def _mean(query: Any, name: str) -> float:
    return float(query.avg(name).get(**ONCE)[0][0].value)
