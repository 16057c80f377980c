"""Leases on tasks: the tasks that may begin, the processes that hold leases, and what a dead process leaves.

Of a process that died, a claim has to know whether it ran one task or several, before it charges the death to one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

import sqlalchemy as sa

from ...core.model import Task, TaskKind
from ..base import DEATH_KEPT, death_of, lost_holder
from ..conversions import micros
from . import rows
from .contacts import SqlContacts
from .drivers.base import Connection
from .schema import tasks
from .statements import OWN, PROCESSING, STARTED, parameter

TRACKED: sa.ColumnClause[str] = sa.literal_column(f"'{TaskKind.TRACKED.value}'")

Names = tuple[str, ...]


class SqlLeases(SqlContacts):
    """The tasks as those see them who look for work. Every query reads a partial index of what waits or runs."""

    def runnable(
        self,
        *,
        limit: int,
        names: Collection[str] | None = None,
        queues: Collection[str] | None = None,
        most_running: Mapping[str, int] = {},
    ) -> list[Task]:
        def operation(connection: Connection) -> list[Task]:
            now = micros(connection.now())
            full = self._full(connection, most_running, now)
            given = (_sorted(names), _sorted(queues), _sorted(full))
            found: list[Task] = []
            for build in (_begun, _waiting):
                if len(found) < limit:
                    sql, values = self._sql.known(build, *given)
                    room = {"limit": limit - len(found), "now": now, "app": self.app_id}
                    found += rows.tasks(connection.execute(sql, {**values, **room}).fetchall())
            return found

        return self._database.read(operation)

    def _full(self, connection: Connection, most_running: Mapping[str, int], now: int) -> set[str]:
        """The names of which as many run as may."""
        if not most_running:
            return set()
        sql, values = self._sql.known(_running_by_name, _sorted(most_running))
        running = connection.execute(sql, {**values, "now": now, "app": self.app_id}).fetchall()
        return {name for name, count in running if count >= most_running[name]}

    def _running(self, connection: Connection, name: str, now: datetime, *, besides: str = "") -> int:
        """How many tasks of a name run. No two processes count at once."""
        connection.lock(f"bgtasks:{self.app_id}:{name}")
        values = {"app": self.app_id, "name": name, "now": micros(now), "besides": besides}
        count: int = connection.execute(self._sql.count_running, values).fetchone()[0]
        return count

    def next_due(self) -> float | None:
        def operation(connection: Connection) -> float | None:
            now = micros(connection.now())
            found = connection.execute(self._sql.select_next_due, {"app": self.app_id, "now": now}).fetchone()[0]
            return None if found is None else (int(found) - now) / 1_000_000

        return self._database.read(operation)

    def workers(self) -> list[str]:
        def operation(connection: Connection) -> list[str]:
            query = {"app": self.app_id, "now": micros(connection.now())}
            found = connection.execute(self._sql.select_workers, query).fetchall()
            return [row[0] for row in found]

        return self._database.read(operation)

    def expire_leases(self, worker: str) -> int:
        def operation(connection: Connection) -> int:
            now = micros(connection.now())
            connection.write(self._sql.free_deliveries, {"app": self.app_id, "who": worker})
            return connection.write_counted(self._sql.expire_leases, {"app": self.app_id, "who": worker, "until": now})

        # What a power cut takes back is found once more.
        return self._database.write(operation, durable=False)

    def _died_in_company(self, connection: Connection, task: Task) -> bool:
        """Whether the process that held a task, and is lost, held others too.

        In the transaction of the claim. The others are looked for first, the mark is read after: whoever claims one of
        them meanwhile is either not done, and it is found, or is, and has set the mark in the same transaction.
        """
        if not task.held:
            return False
        now = connection.now()
        lost = lost_holder(task, now)
        if lost is None:
            return False
        sql, values = self._sql.known(_companions)
        query = {**values, "app": self.app_id, "who": lost, "besides": task.request_id}
        company = connection.execute(sql, query).fetchone() is not None
        death = death_of(lost)
        until = self._until(connection, death)
        if company:
            self._set(connection, death, DEATH_KEPT, there=until is not None)
        return company or (until is not None and until > micros(now))


def _sorted(names: Collection[str] | None) -> Names | None:
    return None if names is None else tuple(sorted(names))


def _given(name: str) -> sa.BindParameter[int]:
    """A parameter of each call, in a statement that also holds values of its own."""
    return sa.bindparam(name, None, sa.BigInteger)


_OWN = tasks.c.app == sa.bindparam("app", None, sa.Text)


def _begun(names: Names | None, queues: Names | None, full: Names) -> sa.Select[tuple[object]]:
    statement = sa.select(tasks).where(tasks.c.status == PROCESSING, _OWN, tasks.c.lease_until <= _given("now"))
    if names is not None:
        statement = statement.where(sa.or_(tasks.c.name.in_(names), tasks.c.kind == TRACKED))
    return _limited(statement, queues, full).order_by(tasks.c.lease_until)


def _waiting(names: Names | None, queues: Names | None, full: Names) -> sa.Select[tuple[object]]:
    statement = sa.select(tasks).where(tasks.c.status == STARTED, _OWN, tasks.c.kind != TRACKED)
    if names is not None:
        statement = statement.where(tasks.c.name.in_(names))
    return _limited(statement, queues, full).order_by(tasks.c.place)


def _limited(statement: sa.Select[tuple[object]], queues: Names | None, full: Names) -> sa.Select[tuple[object]]:
    if queues is not None:
        statement = statement.where(tasks.c.queue.in_(queues))
    if full:
        statement = statement.where(tasks.c.name.not_in(full))
    return statement.limit(_given("limit")).offset(sa.literal_column("0"))


def _running_by_name(names: Names) -> sa.Select[tuple[object]]:
    held = (
        tasks.c.status == PROCESSING,
        _OWN,
        tasks.c.lease_until > _given("now"),
        tasks.c.worker.is_not(None),
        tasks.c.name.in_(names),
    )
    return sa.select(tasks.c.name, sa.func.count()).where(*held).group_by(tasks.c.name)


def _companions() -> sa.Select[tuple[str]]:
    held = (tasks.c.status == PROCESSING, OWN, tasks.c.worker == parameter("who"))
    return sa.select(tasks.c.request_id).where(*held, tasks.c.request_id != parameter("besides")).limit(1)
