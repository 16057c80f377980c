"""What is asked of many tasks at once: finding, counting, purging, versions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ...core.model import Task
from ...errors import TransitionRefused
from ..conversions import micros, moment
from ..keys import can_exist, read_cursor
from ..types import NewDelivery, Page, Stats, TaskQuery
from . import rows
from .apps import SqlApps
from .drivers.base import Connection
from .schema import deliveries as letters
from .schema import devices, events, payloads, tasks
from .statements import FAILED, NO_REFUSAL, OWN, STARTED, parameter


class SqlQueries(SqlApps):
    """The reads over many tasks, and their removal."""

    def find(self, query: TaskQuery) -> Page:
        statement = (
            sa.select(tasks)
            .where(tasks.c.app == self.app_id, *_conditions(query))
            .order_by(tasks.c.created_at.desc(), tasks.c.request_id.desc())
            .limit(query.limit + 1)
        )
        return Page.of(self._tasks(statement), query.limit)

    def _tasks(self, statement: sa.Select[Any]) -> list[Task]:
        def operation(connection: Connection) -> list[Task]:
            return rows.tasks(connection.execute(*self._sql.cold(statement)).fetchall())

        return self._database.read(operation)

    def versions(self, request_ids: Collection[str]) -> dict[str, int]:
        ids = list(filter(can_exist, request_ids))
        if not ids:
            return {}
        asked = (tasks.c.app == self.app_id, tasks.c.request_id.in_(ids))
        statement = sa.select(tasks.c.request_id, tasks.c.seq).where(*asked)

        def operation(connection: Connection) -> dict[str, int]:
            return {row[0]: row[1] for row in connection.execute(*self._sql.cold(statement)).fetchall()}

        return self._database.read(operation)

    def delete(self, request_id: str, *, deliveries: Sequence[NewDelivery] = ()) -> None:
        def operation(connection: Connection) -> None:
            number, task = self._select_to_change(connection, request_id)
            if not task.done:
                raise TransitionRefused(request_id, status=task.status.value, change="delete", why="it has not ended")
            self._erase(connection, [(number, request_id)])
            if deliveries:
                self._insert_deliveries(connection, deliveries, request_id=None, seq=0, now=connection.now())

        self._database.write(operation, durable=True)

    def purge(self, *, limit: int = 100) -> int:
        def find(connection: Connection) -> list[tuple[int, str]]:
            values = {"now": micros(connection.now()), "limit": limit}
            return [(row[0], row[1]) for row in connection.execute(self._sql.select_over, values).fetchall()]

        def erase(connection: Connection) -> int:
            self._adopt(connection, "")
            over = find(connection)
            if over:
                self._erase(connection, over)
            return len(over)

        # A look costs no write: most find nothing.
        worth = self._database.read(lambda connection: find(connection) or self._has_strays(connection))
        return self._database.write(erase, durable=False) if worth else 0

    def _erase(self, connection: Connection, found: list[tuple[int, str]]) -> None:
        numbers, ids = [number for number, _ in found], [request_id for _, request_id in found]
        for statement in (
            letters.delete().where(letters.c.request_id.in_(ids)),
            events.delete().where(events.c.task.in_(numbers)),
            payloads.delete().where(payloads.c.task.in_(numbers)),
            devices.delete().where(devices.c.request_id.in_(ids)),
            tasks.delete().where(tasks.c.number.in_(numbers)),
        ):
            connection.write(*self._sql.cold(statement))

    def stats(self) -> Stats:
        own = tasks.c.app == self.app_id
        by_status = sa.select(tasks.c.status, sa.func.count()).where(own).group_by(tasks.c.status)
        refused = sa.select(sa.func.count()).where(own, tasks.c.status == FAILED, sa.not_(NO_REFUSAL))
        oldest = sa.select(sa.func.min(tasks.c.created_at)).where(own, tasks.c.status == STARTED)
        taken = sa.func.avg(tasks.c.seen_at - tasks.c.completed_at)
        sightings = sa.select(sa.func.count(), taken).where(own, tasks.c.seen_at.is_not(None))
        outcomes = (
            sa.select(letters.c.dead, sa.func.count()).where(letters.c.app == self.app_id).group_by(letters.c.dead)
        )

        def operation(connection: Connection) -> Stats:
            counted = dict(tuple(row) for row in connection.execute(*self._sql.cold(by_status)).fetchall())
            rejected = connection.execute(*self._sql.cold(refused)).fetchone()[0]
            first = connection.execute(*self._sql.cold(oldest)).fetchone()[0]
            outbox = dict(tuple(row) for row in connection.execute(*self._sql.cold(outcomes)).fetchall())
            seen, mean = connection.execute(*self._sql.cold(sightings)).fetchone()
            return Stats(
                by_status=counted,
                rejected=rejected,
                oldest_waiting=None if first is None else moment(first),
                deliveries_pending=outbox.get(0, 0),
                deliveries_dead=outbox.get(1, 0),
                seen=seen,
                mean_seconds_to_seen=None if mean is None else float(mean) / 1e6,
            )

        return self._database.read(operation)

    def count_failed(self, name: str, *, since: datetime) -> int:
        def operation(connection: Connection) -> int:
            sql, values = self._sql.known(_failed_since)
            query = {**values, "app": self.app_id, "name": name, "since": micros(since)}
            count: int = connection.execute(sql, query).fetchone()[0]
            return count

        return self._database.read(operation)


def _failed_since() -> sa.Select[Any]:
    failed = (tasks.c.status == FAILED, OWN, tasks.c.name == parameter("name"))
    return sa.select(sa.func.count()).where(*failed, tasks.c.completed_at >= parameter("since"), NO_REFUSAL)


def _conditions(query: TaskQuery) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if query.owner is not None:
        conditions.append(tasks.c.owner == query.owner)
    if query.ids is not None:
        conditions.append(tasks.c.request_id.in_(list(filter(can_exist, query.ids))))
    if query.statuses is not None:
        conditions.append(tasks.c.status.in_([status.value for status in query.statuses]))
    if query.seen is not None:
        conditions.append(tasks.c.seen_at.is_not(None) if query.seen else tasks.c.seen_at.is_(None))
    if query.idempotency_scope is not None:
        conditions.append(tasks.c.idempotency_scope == query.idempotency_scope)
    if query.name is not None:
        conditions.append(tasks.c.name == query.name)
    if query.cursor is not None:
        created_at, request_id = read_cursor(query.cursor)
        at = micros(created_at)
        earlier = sa.and_(tasks.c.created_at == at, tasks.c.request_id < request_id)
        conditions.append(sa.or_(tasks.c.created_at < at, earlier))
    return conditions
