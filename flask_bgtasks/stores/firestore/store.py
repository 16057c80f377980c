"""The Firestore store: each operation of the protocol in a few calls, and one commit where something changes."""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from ...core.model import Checkpoint, Event, Result, Status, StepHistory, Task, TaskKind
from ...core.transitions import Change, Claim, Transition, accepted
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
from ..base import (
    CHECKPOINT,
    DEATH_KEPT,
    MAX_TASK_NAMES,
    PRIVATE,
    Attempt,
    Created,
    Limits,
    Owed,
    Owing,
    Page,
    Stats,
    TaskQuery,
    average,
    death_of,
    in_turn,
    joined,
    lost_holder,
    owed_by,
    parted,
    superfluous_names,
    superfluous_steps,
)
from ..keys import can_exist, read_cursor, write_cursor
from . import rows
from .apps import FirestoreApps
from .contacts import FirestoreContacts
from .database import DELIVERIES, DURATIONS, MARKS, NAMES, SCOPES, TASKS, count
from .outbox import NOT_LEASED, FirestoreOutbox

SCANNED = 500
"""Tasks that are looked at for those that may begin, where names or queues are asked for."""

GET_AT_ONCE = 100


class FirestoreStore(FirestoreOutbox, FirestoreContacts, FirestoreApps):
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
        deliveries: Sequence[Owed] | Owing = (),
        limits: Limits | None = None,
        reserved: timedelta | None = None,
    ) -> Created:
        public, private = parted(input)
        body = json.dumps(public).encode("ascii")
        reference = self._reference(task.request_id)

        def attempt() -> Transition | Task:
            batch = self._firestore.client.batch()
            now = self.now()
            found = self._take_scope(batch, task, now)
            if found is not None:
                return found
            turn = 0 if limits is None else self._check_limits(task.owner, limits)
            outcome = accepted(task, now, app=self.app_id, turn=turn, reserved=reserved)
            ours = {"order": self._next_id(), PRIVATE: private is not None}
            batch.create(reference, {**rows.task_values(outcome.task), **ours})
            if private is not None:
                self._add_private(batch, reference, private)
            self._add_part(batch, reference, "input", None if private is None else PRIVATE, body)
            self._add_history(batch, outcome, owed_by(outcome, deliveries))
            batch.commit(**ONCE)
            return outcome

        done = self._attempted(attempt)
        if isinstance(done, Task):
            return Created(done, replayed=True)
        self._committed(done)
        return Created(done.task)

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
        most = limits.share(owner)
        if most is None:
            return 0
        of_owner = count(waiting.where(filter=field("owner", "==", owner)).limit(most))
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
        deliveries: Sequence[Owed] | Owing = (),
        limits: Limits | None = None,
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
        deliveries: Sequence[Owed] | Owing = (),
        most_running: Mapping[str, int] = {},
    ) -> Attempt:
        read: list[tuple[Mapping[str, Any], dict[str, Checkpoint]]] = []

        def check(batch: Any, before: Task) -> Claim:
            change = Claim(worker, lease, self._died_in_company(batch, before))
            # What it is run with is read before the commit, which is refused if the task has changed since: as one.
            wanted = change.apply(before, self.now()).task
            read[:] = [(self.load_input(request_id), self.load_checkpoints(request_id) if wanted.attempt > 1 else {})]
            limit = most_running.get(before.name)
            if limit is None or before.done:
                return change
            turn = self._keyed(NAMES, before.name)
            snapshot = turn.get(**ONCE)  # before the count: of two that count at once, one is refused its commit
            running = [one for one in self._running(before.name) if one.request_id != request_id]
            if len(running) >= limit:
                raise AtCapacity(request_id, status=before.status.value, name=before.name, limit=limit)
            if snapshot.exists:
                option = self._firestore.client.write_option(last_update_time=snapshot.update_time)
                batch.update(turn, {"turn": (snapshot.to_dict() or {}).get("turn", 0) + 1}, option=option)
            else:
                batch.create(turn, {"turn": 1})
            return change

        outcome = self._changed(request_id, Claim(worker, lease), deliveries, check)
        return Attempt(outcome.task, *read[0])

    def _died_in_company(self, batch: Any, task: Task) -> bool:
        """Whether the process that held a task, and is lost, held others too. The batch remembers it for them.

        The others are looked for first, the mark is read after: whoever claims one of them meanwhile is either not
        done, and it is found, or is, and has set the mark in the same batch.
        """
        now = self.now()
        lost = lost_holder(task, now)
        if lost is None:
            return False
        held = self._own(TASKS).where(filter=field("worker", "==", lost)).limit(2)
        company = any(one.id != task.request_id for one in held.stream(**ONCE))
        key = death_of(lost)
        mark = self._keyed(MARKS, key)
        if company:
            batch.set(mark, {"app": self.app_id, "key": key, "until": now + DEATH_KEPT})
            return True
        snapshot = mark.get(**ONCE)
        return bool(snapshot.exists) and snapshot.get("until") > now

    def _running(self, name: str) -> list[Task]:
        now = self.now()
        query = self._own(TASKS).where(filter=field("status", "==", Status.PROCESSING.value))
        found = [rows.task(one.to_dict()) for one in query.where(filter=field("name", "==", name)).stream(**ONCE)]
        return [task for task in found if task.leased(now)]

    def load_input(self, request_id: str) -> Mapping[str, Any]:
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
        return rows.result(*found)

    def load_checkpoints(self, request_id: str) -> dict[str, Checkpoint]:
        with self._calls():
            made = {}
            for part in self._parts(self._reference(request_id)):
                try:
                    found = self._load_part(request_id, part.id) if part.id.startswith(CHECKPOINT) else None
                except TaskNotFound:
                    return {}
                if found is not None:
                    stored = rows.checkpoint(part.id, *found)
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
            page: list[Task] = []
            for task in self._candidates(query, after):
                if not _fits(task, query):
                    continue
                if len(page) == query.limit:
                    return Page(page, write_cursor(*_place(page[-1])) if page else None)
                page.append(task)
        return Page(page)

    def _candidates(self, query: TaskQuery, after: tuple[datetime, str] | None) -> Iterator[Task]:
        """Tasks, newest first, that may fit: by what there is an index for."""
        if query.ids is not None:
            references = [self._reference(request_id) for request_id in filter(can_exist, query.ids)]
            found = self._firestore.client.get_all(references, **ONCE) if references else ()
            tasks = [
                task for task in (rows.task(one.to_dict()) for one in found if one.exists) if task.app == self.app_id
            ]
            tasks.sort(key=_place, reverse=True)
            yield from (task for task in tasks if after is None or _place(task) < after)
            return
        asked = self._own(TASKS)
        if query.idempotency_scope is not None:
            asked = asked.where(filter=field("idempotency_scope", "==", query.idempotency_scope))
        elif query.owner is not None:
            asked = asked.where(filter=field("owner", "==", query.owner))
        asked = asked.order_by("created_at", direction="DESCENDING").order_by("request_id", direction="DESCENDING")
        if after is not None:
            asked = asked.start_after({"created_at": after[0], "request_id": after[1]})
        for snapshot in asked.stream(**ONCE):
            yield rows.task(snapshot.to_dict())

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

    def delete(self, request_id: str, *, deliveries: Sequence[Owed] = ()) -> None:
        with self._calls():
            task = self._read(request_id)[1]
            if not task.done:
                raise TransitionRefused(request_id, status=task.status.value, change="delete", why="it has not ended")
            batch = self._firestore.client.batch()
            batch.delete(self._reference(request_id))
            for owed in deliveries:
                self._add_delivery(batch, owed, None, 0)
            batch.commit(**ONCE)
            self._forget(task)

    def purge(self, *, limit: int = 100) -> int:
        with self._calls():
            over = self._collection(TASKS).where(filter=field("erase_at", "<=", self.now()))
            found = [rows.task(one.to_dict()) for one in over.order_by("erase_at").limit(limit).stream(**ONCE)]
            for task in found:
                self._forget(task)
        return len(found)

    def _forget(self, task: Task) -> None:
        self._erase_task(task.request_id)
        if task.idempotency_scope is not None:
            scope = rows.key_of(task.app, task.idempotency_scope)  # of any app: what is over is purged by all
            self._erase([self._collection(SCOPES).document(scope)])

    # -- who runs what -------------------------------------------------------------------------------------------------

    def runnable(
        self,
        *,
        limit: int,
        names: Collection[str] | None = None,
        queues: Collection[str] | None = None,
        most_running: Mapping[str, int] = {},
    ) -> list[Task]:
        tasks = self._own(TASKS)
        with self._calls():
            full = {name for name, most in most_running.items() if len(self._running(name)) >= most}
            begun = tasks.where(filter=field("status", "==", Status.PROCESSING.value))
            now = self.now()
            begun = begun.where(filter=field("lease_until", "<=", now)).order_by("lease_until")
            waiting = (
                tasks.where(filter=field("status", "==", Status.STARTED.value)).order_by("place").order_by("order")
            )
            found: list[Task] = []
            for query, has_begun in ((begun, True), (waiting, False)):
                for snapshot in query.limit(SCANNED).stream(**ONCE):
                    if len(found) == limit:
                        return found
                    task = rows.task(snapshot.to_dict())
                    tracked = task.kind is TaskKind.TRACKED
                    if task.lease_until is not None and task.lease_until > now:
                        continue  # reserved by who has created it
                    named = names is None or task.name in names or (tracked and has_begun)
                    if named and (has_begun or not tracked) and (queues is None or task.queue in queues):
                        found += [task] if task.name not in full else []
            return found

    def workers(self) -> list[str]:
        with self._calls():
            now, names = self.now(), set()
            held = self._own(TASKS).where(filter=field("status", "==", Status.PROCESSING.value))
            for snapshot in held.where(filter=field("lease_until", ">", now)).stream(**ONCE):
                names.add(snapshot.get("worker"))
            leased = self._own(DELIVERIES).where(filter=field("worker", ">", ""))
            for snapshot in leased.select(["worker"]).stream(**ONCE):
                names.add(snapshot.get("worker"))
        return sorted(name for name in names if name is not None)

    def expire_leases(self, worker: str) -> int:
        expired = 0
        with self._calls():
            now = self.now()
            held = self._own(TASKS).where(filter=field("worker", "==", worker))
            for snapshot in held.stream(**ONCE):
                task = rows.task(snapshot.to_dict())
                if task.leased(now):
                    option = self._firestore.client.write_option(last_update_time=snapshot.update_time)
                    snapshot.reference.update({"lease_until": now}, option=option, **ONCE)
                    expired += 1
            leased = self._own(DELIVERIES).where(filter=field("worker", "==", worker)).select(["id"]).stream(**ONCE)
            self._write_unchanged({one.get("id"): one.update_time for one in leased}, NOT_LEASED)
        return expired

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
                deliveries_owed=count(letters.where(filter=field("dead", "==", False))),
                deliveries_dead=count(letters.where(filter=field("dead", "==", True))),
                seen=seen,
                mean_seconds_to_seen=_mean(sighted, "seconds_to_seen") if seen else None,
            )

    # -- durations -----------------------------------------------------------------------------------------------------

    def save_durations(self, name: str, seconds: Mapping[str, float]) -> None:
        reference = self._durations_of(name)

        def attempt() -> None:
            snapshot = reference.get(**ONCE)
            known = _durations(snapshot)
            for step, value in seconds.items():
                known[step] = average(known.get(step), value)
            for step in superfluous_steps(known, seconds):
                del known[step]
            text = json.dumps([[step, mean.runs, mean.seconds] for step, mean in known.items()])
            if snapshot.exists:
                option = self._firestore.client.write_option(last_update_time=snapshot.update_time)
                reference.update({"steps": text}, option=option, **ONCE)
            else:
                self._forget_durations()
                reference.create({"app": self.app_id, "name": name, "steps": text}, **ONCE)

        self._attempted(attempt)

    def _forget_durations(self) -> None:
        """Before another task's are kept: those of the tasks that ran least, where there are too many."""
        learnt = self._own(NAMES).where(filter=field("steps", ">", ""))
        if count(learnt) < MAX_TASK_NAMES:
            return
        found = {one.id: one for one in learnt.stream(**ONCE)}
        most_runs = {id: max((h.runs for h in _durations(one).values()), default=0) for id, one in found.items()}
        self._erase([found[id].reference for id in superfluous_names(most_runs)])

    def load_durations(self, name: str) -> dict[str, StepHistory]:
        with self._calls():
            return _durations(self._durations_of(name).get(**ONCE))

    def _durations_of(self, name: str) -> Any:
        return self._collection(NAMES).document(rows.key_of(self.app_id, name) + DURATIONS)

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


def _durations(snapshot: Any) -> dict[str, StepHistory]:
    found = json.loads(snapshot.get("steps")) if snapshot.exists else []
    return {step: StepHistory(runs, seconds) for step, runs, seconds in found}


def _fits(task: Task, query: TaskQuery) -> bool:
    return (
        (query.owner is None or task.owner == query.owner)
        and (query.statuses is None or task.status in query.statuses)
        and (query.seen is None or (task.seen_at is not None) == query.seen)
        and (query.idempotency_scope is None or task.idempotency_scope == query.idempotency_scope)
        and (query.name is None or task.name == query.name)
    )


def _place(task: Task) -> tuple[datetime, str]:
    return task.created_at, task.request_id
