"""The store on SQL: each operation of the protocol is one transaction of a few prepared statements.

Reads a row, lets the model decide the outcome of a change, and writes what differs. The differences between databases
are in ``drivers/sqlite`` and ``drivers/postgresql``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa

from ...core.model import Checkpoint, Event, Result, StepHistory, Task, TaskKind
from ...core.transitions.attempt import Claim, Complete, Fail
from ...core.transitions.transition import Change, Durability, Transition, accepted
from ...errors import AtCapacity, ConfigurationError, IdempotencyConflict, LeaseLost, QueueFull, TransitionRefused
from ...wording import NO_DATABASE_URL
from .. import conversions
from ..averages import average, superfluous_names, superfluous_steps
from ..base import PRIVATE, in_turn, joined, parted
from ..conversions import CHECKPOINT, dumps
from ..queue_gauge import QueueGauge
from ..types import Attempt, Clock, Created, Limits, NewDeliveries, deliveries_of, system_clock
from . import rows
from .base import known_form
from .drivers.base import Connection, Database
from .drivers.postgresql import PostgresDatabase
from .drivers.sqlite import SqliteDatabase
from .leases import SqlLeases
from .outbox import SqlOutbox
from .queries import SqlQueries
from .statements import Statements

TRIM_EVERY = 256
"""Events between two trims of a history that is over its bound."""


class SqlStore(SqlOutbox, SqlQueries, SqlLeases):
    """Tasks in an SQL database.

    :param url: an SQLAlchemy URL: ``sqlite:///path`` or ``postgresql+psycopg://…``.
    :param app_id: the app whose tasks these are.
    :param meet: called with the ids of the other apps that keep their tasks in this database, when it is opened.
    :param synchronous: SQLite: what a promised write commits with, ``FULL`` or ``NORMAL``.
    :param connections: PostgreSQL: how many this process may have at once.
    :param clock: SQLite: the store's time. PostgreSQL has its own.
    :param max_events: rows of history kept per task.
    :param auto_upgrade: whether whoever opens the database makes its tables and upgrades them.
    :raises ConfigurationError: a URL that cannot be used, or its driver is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        app_id: str = "",
        synchronous: str = "FULL",
        clock: Clock = system_clock,
        max_events: int = 10_000,
        connections: int = 32,
        auto_upgrade: bool = True,
        meet: Callable[[list[str]], None] | None = None,
    ) -> None:
        super().__init__()
        self.app_id = app_id
        self._meet = meet
        try:
            parsed = sa.make_url(url)
        except (sa.exc.ArgumentError, ValueError):  # of the port, or of an address of IPv6
            raise ConfigurationError(f"BGTASKS_STORE: {NO_DATABASE_URL}") from None
        self._database: Database
        if parsed.get_backend_name() == "sqlite":
            self._database = SqliteDatabase(parsed.database or "", synchronous=synchronous, clock=clock)
        else:
            self._database = PostgresDatabase(url, connections=connections)
        self._database.on_open = self._move_in
        self._database.auto_upgrade = auto_upgrade
        self._sql = Statements(self._database.dialect)
        self._max_events = max_events
        self._gauge = QueueGauge()

    def now(self) -> datetime:
        return self._database.now()

    # -- tasks -------------------------------------------------------------------------------------------------------

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
        body = dumps(public).encode("ascii")
        most = most_running.get(task.name)

        def operation(connection: Connection) -> list[Transition] | Task:
            now = connection.now()
            found = self._by_scope(connection, task, now)
            if found is not None:
                return found
            turn = 0 if limits is None else self._check_limits(connection, task.owner, limits)
            outcomes = [accepted(task, now, app=self.app_id, turn=turn)]
            if claim is not None and (most is None or self._running(connection, task.name, now) < most):
                outcomes.append(claim.apply(outcomes[0].task, now))
            number = connection.write_one(self._sql.insert_task, rows.task_values(outcomes[-1].task))
            connection.write(self._sql.insert_payload, {"task": number, "part": "input", "head": None, "body": body})
            if private is not None:
                connection.write(self._sql.insert_payload, _private_part(number, private))
            self._insert_history(connection, number, outcomes, deliveries, now)
            return outcomes

        done = self._write(operation, task.request_id, durable=durability in self._database.durable, soon=True)
        if isinstance(done, Task):
            return Created(done, replayed=True)
        created = Created.of(done, input)
        if created.attempt is None:
            self._gauge.created()
        for outcome in done:
            self._committed(outcome)
        return created

    def _by_scope(self, connection: Connection, task: Task, now: datetime) -> Task | None:
        if task.idempotency_scope is None:
            return None
        query = {"scope": task.idempotency_scope, "app": self.app_id}
        row = connection.execute(self._sql.select_by_scope, query).fetchone()
        if row is None:
            return None
        found = rows.task(row)
        if found.expired(now):
            sql = self._sql.update_task(("idempotency_scope",))
            connection.write(sql, {"task": row[rows.NUMBER], "idempotency_scope": None})
            return None
        if found.fingerprint != task.fingerprint:
            raise IdempotencyConflict(found.request_id)
        return found

    def _check_limits(self, connection: Connection, owner: str | None, limits: Limits) -> int:
        """How many of the owner wait. :raises LimitReached: too many do."""
        if self._gauge.needs_count(limits.max_queued):
            everyone = {"app": self.app_id, "limit": limits.max_queued}
            waiting = connection.execute(self._sql.count_waiting, everyone).fetchone()[0]
            self._gauge.counted(waiting)
            if waiting >= limits.max_queued:
                raise QueueFull(limits.max_queued)
        share = limits.share(owner)
        if share is None:
            return 0
        query: dict[str, Any] = {"app": self.app_id, "limit": share, **({} if owner is None else {"owner": owner})}
        sql = self._sql.count_waiting_anonymous if owner is None else self._sql.count_waiting_of_owner
        of_owner: int = connection.execute(sql, query).fetchone()[0]
        limits.check_share(owner, of_owner)
        return of_owner

    def get(self, request_id: str) -> Task:
        return self._database.read(lambda connection: self._select(connection, request_id))

    def transition(
        self,
        request_id: str,
        change: Change,
        *,
        deliveries: NewDeliveries = (),
        limits: Limits | None = None,
        known: Task | None = None,
    ) -> Transition:
        def operation(connection: Connection) -> Transition:
            changed = None if known is None else self._change_known(connection, known, change, deliveries)
            if changed is not None:
                return changed
            number, before = self._select_to_change(connection, request_id)
            wanted = change
            if limits is not None:
                count = partial(self._check_limits, connection, before.owner, limits)
                wanted = in_turn(change, before, connection.now(), count)
            return self._change(connection, number, before, wanted, deliveries)

        durable, ends = change.durability in self._database.durable, isinstance(change, (Complete, Fail))
        outcome = self._write(operation, request_id, durable=durable, soon=ends)
        if limits is not None:
            self._gauge.created()
        self._committed(outcome)
        return outcome

    def claim(
        self,
        request_id: str,
        *,
        worker: str,
        lease: timedelta,
        deliveries: NewDeliveries = (),
        most_running: Mapping[str, int] = {},
    ) -> Attempt:
        change = Claim(worker, lease)

        def operation(connection: Connection) -> tuple[Transition, Attempt]:
            number, before = self._select_to_change(connection, request_id)
            limit = most_running.get(before.name)
            if limit is not None and not before.done:
                running = self._running(connection, before.name, connection.now(), besides=request_id)
                if running >= limit:
                    raise AtCapacity(request_id, status=before.status.value, name=before.name, limit=limit)
            wanted = replace(change, in_company=self._died_in_company(connection, before))
            outcome = self._change(connection, number, before, wanted, deliveries)
            stored = self._checkpoints(connection, request_id) if outcome.task.attempt > 1 else {}
            return outcome, Attempt(outcome.task, self._input(connection, request_id), stored)

        outcome, attempt = self._database.write(operation, durable=change.durability in self._database.durable)
        self._committed(outcome)
        return attempt

    def _change(
        self,
        connection: Connection,
        number: int,
        before: Task,
        change: Change,
        deliveries: NewDeliveries,
    ) -> Transition:
        now = connection.now()
        outcome = change.apply(before, now)
        task = outcome.task
        if task is before and not outcome.events and outcome.checkpoint is None:
            return outcome
        values = rows.task_values(task, before)
        if values:
            sql = self._sql.update_task(tuple(values))
            values["task"] = number
            connection.write(sql, values)
        self._insert_outcome(connection, number, before, outcome, deliveries, now)
        return outcome

    def _change_known(
        self, connection: Connection, known: Task, change: Change, deliveries: NewDeliveries
    ) -> Transition | None:
        """Change a task without reading it, if it is as the caller knows it; None if it may not be.

        All that a change looks at comes with an event, but for the lease, whose end alone takes nothing from its
        holder. So the task is as it is known if its attempt runs, and its last event is the same.
        """
        now = connection.now()
        try:
            outcome = change.apply(known, now)
        except (TransitionRefused, LeaseLost):  # what it is now decides
            return None
        values = rows.task_values(outcome.task, known)
        if not values:
            return None
        sql = self._sql.update_known_task(tuple(values))
        where = {"id": known.request_id, "app": self.app_id, "last_seq": known.seq, "running": known.attempt}
        number = connection.write_if(sql, {**values, **where})
        if number is None:
            return None
        self._insert_outcome(connection, number, known, outcome, deliveries, now)
        return outcome

    def _insert_outcome(
        self,
        connection: Connection,
        number: int,
        before: Task,
        outcome: Transition,
        deliveries: NewDeliveries,
        now: datetime,
    ) -> None:
        """Store what a change brings beside the task itself."""
        if outcome.drop_result:
            connection.write(self._sql.delete_payload, {"number": number, "kind": "result"})
        if outcome.result is not None:
            head = conversions.result_head(outcome.result)
            payload = {"task": number, "part": "result", "head": head, "body": outcome.result.body}
            connection.write(self._sql.insert_payload, payload)
        if outcome.checkpoint is not None:
            self._insert_checkpoint(connection, number, outcome.checkpoint)
        if outcome.drop_checkpoints:
            connection.write(self._sql.delete_checkpoints, {"number": number})
        if outcome.drop_private and before.kind is TaskKind.VIEW:  # no other input has a private part
            connection.write(self._sql.delete_payload, {"number": number, "kind": PRIVATE})
        if outcome.private is not None:
            connection.write(self._sql.delete_payload, {"number": number, "kind": PRIVATE})
            connection.write(self._sql.insert_payload, _private_part(number, outcome.private))
        if outcome.events:
            self._insert_history(connection, number, [outcome], deliveries, now)
            over = outcome.task.seq - self._max_events
            if over > 0 and over // TRIM_EVERY != (before.seq - self._max_events) // TRIM_EVERY:
                connection.write(self._sql.trim_events, {"number": number, "until": over})

    def _insert_history(
        self,
        connection: Connection,
        number: int,
        outcomes: Sequence[Transition],
        deliveries: NewDeliveries,
        now: datetime,
    ) -> None:
        events = [rows.event_values(number, event) for outcome in outcomes for event in outcome.events]
        connection.write_many(self._sql.insert_event, events)
        for outcome in outcomes:
            new = deliveries_of(outcome, deliveries)
            if new and outcome.sink_event is not None:
                request_id, seq = outcome.task.request_id, outcome.sink_event.seq
                self._insert_deliveries(connection, new, request_id=request_id, seq=seq, now=now)

    def _insert_checkpoint(self, connection: Connection, number: int, checkpoint: Checkpoint) -> None:
        part, head = CHECKPOINT + checkpoint.key, dumps(checkpoint.head)
        values = {"number": number, "kind": part, "top": head, "content": checkpoint.body}
        if not connection.write_counted(self._sql.replace_payload, values):
            row = {"task": number, "part": part, "head": head, "body": checkpoint.body}
            connection.write(self._sql.insert_payload, row)

    def load_checkpoints(self, request_id: str) -> dict[str, Checkpoint]:
        return self._database.read(lambda connection: self._checkpoints(connection, request_id))

    def _checkpoints(self, connection: Connection, request_id: str) -> dict[str, Checkpoint]:
        query = {"id": known_form(request_id), "app": self.app_id}
        found = connection.execute(self._sql.select_checkpoints, query).fetchall()
        return {made.key: made for made in (conversions.checkpoint(*row) for row in found)}

    def _payload(self, connection: Connection, request_id: str, part: str) -> Any:
        query = {"id": known_form(request_id), "app": self.app_id, "part": part}
        return connection.execute(self._sql.select_payload, query).fetchone()

    def _input(self, connection: Connection, request_id: str) -> Mapping[str, Any]:
        found = connection.execute(self._sql.select_input, {"id": request_id, "app": self.app_id}).fetchall()
        parts = {row[0]: json.loads(bytes(row[1])) for row in found}
        return joined(parts["input"], parts.get(PRIVATE))

    def load_result(self, request_id: str) -> Result | None:
        def operation(connection: Connection) -> Result | None:
            row = self._payload(connection, request_id, "result")
            if row is None:
                self._select(connection, request_id)
                return None
            return conversions.result(row[0], row[1])

        return self._database.read(operation)

    def events(self, request_id: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        def operation(connection: Connection) -> list[Event]:
            query = {"id": known_form(request_id), "app": self.app_id, "after": after, "limit": limit}
            found = connection.execute(self._sql.select_events, query).fetchall()
            if not found:
                self._select(connection, request_id)
            return [rows.event(row) for row in found]

        return self._database.read(operation)

    def change_token(self) -> Hashable | None:
        return self._database.change_token()

    # -- durations ---------------------------------------------------------------------------------------------------

    def save_durations(self, name: str, seconds: Mapping[str, float]) -> None:
        def operation(connection: Connection) -> None:
            connection.lock(f"bgtasks:{self.app_id}:durations")  # runs of one name may report steps in any order
            found = connection.execute(self._sql.select_durations, {"task": name, "app": self.app_id}).fetchall()
            known = {step: StepHistory(runs, mean) for step, runs, mean, _ in found}
            position = found[-1][3] + 1 if found else 0
            if not found:
                learnt = connection.execute(self._sql.select_learnt_names, {"app": self.app_id}).fetchall()
                for other in superfluous_names(dict(learnt)):
                    connection.write(self._sql.delete_durations, {"task": other, "owning_app": self.app_id})
            for step, value in seconds.items():
                mean = average(known.get(step), value)
                if step in known:
                    values = {"task": name, "key": step, "count": mean.runs, "mean": mean.seconds}
                    values["owning_app"] = self.app_id
                    connection.write(self._sql.update_duration, values)
                else:
                    row = {"name": name, "step": step, "position": position, "runs": mean.runs, "seconds": mean.seconds}
                    row["app"] = self.app_id
                    connection.write(self._sql.insert_duration, row)
                    position += 1
                known[step] = mean
            for step in superfluous_steps(known, seconds):
                connection.write(self._sql.delete_duration, {"task": name, "key": step, "owning_app": self.app_id})

        self._database.write(operation, durable=False)

    def load_durations(self, name: str) -> dict[str, StepHistory]:
        def operation(connection: Connection) -> dict[str, StepHistory]:
            found = connection.execute(self._sql.select_durations, {"task": name, "app": self.app_id}).fetchall()
            return {step: StepHistory(runs, mean) for step, runs, mean, _ in found}

        return self._database.read(operation)

    # -- life --------------------------------------------------------------------------------------------------------

    @property
    def tables(self) -> Database:
        return self._database

    def sync(self) -> None:
        self._database.sync()

    def check(self) -> None:
        self._database.layout_watch.doubt()
        self._database.read(lambda connection: None)
        self._database.check()

    def close(self) -> None:
        self._database.close()


def _private_part(number: int, private: Any) -> dict[str, Any]:
    return {"task": number, "part": PRIVATE, "head": None, "body": dumps(private).encode("ascii")}
