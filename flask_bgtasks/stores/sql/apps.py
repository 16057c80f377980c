"""Whose database it is: the apps that keep their tasks in it, and what one takes over from another.

Each app that opens the database leaves its id and the time in the meta table.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from ..conversions import micros
from .base import SqlPart
from .drivers.base import Connection
from .schema import deliveries, devices, durations, marks, meta, preferences, tasks
from .statements import ONE, ZERO

APP = "app:"
"""What the keys of apps in the meta table begin with."""

FORGOTTEN_AFTER = timedelta(days=30)
"""An app that has no task, and has not opened the database for so long, is no user of it any more."""


def _is_of(column: sa.ColumnElement[str], app_id: str) -> sa.ColumnElement[bool]:
    """Whether a row is of an app; or of none, as a version before layout 5 wrote it: then as its index has it."""
    return column == app_id if app_id else sa.func.length(column) == ZERO


KEYED: tuple[tuple[sa.Table, sa.Column[Any], tuple[sa.Column[Any], ...]], ...] = (
    (durations, durations.c.app, (durations.c.name, durations.c.step)),
    (devices, devices.c.app_id, (devices.c.id,)),
    (preferences, preferences.c.app, (preferences.c.owner,)),
    (marks, marks.c.app, (marks.c.key,)),
)
"""The tables of what an app has once: each with its column of the app, and the rest of its key."""


class SqlApps(SqlPart):
    """The apps of the database, as one of them sees it."""

    _meet: Callable[[list[str]], None] | None

    def _move_in(self, connection: Connection) -> None:
        """This app opens the database: it adopts what nobody has, leaves its id, and meets the others."""
        if not self.app_id:
            return
        self._adopt(connection, "")
        now = connection.now()
        here = {"key": APP + self.app_id, "value": str(micros(now))}
        known = self._known(connection)
        if self.app_id in known:
            connection.write(*self._sql.cold(meta.update().where(meta.c.key == here["key"]).values(here)))
        else:
            connection.write(*self._sql.cold(meta.insert().values(here)))
        counted = self._counted(connection) if known.keys() - {self.app_id} else {}
        others = []
        for app_id, opened in sorted(known.items()):
            if app_id == self.app_id:
                continue
            if app_id not in counted and opened < micros(now - FORGOTTEN_AFTER):
                self._forget_app(connection, app_id)
            else:
                others.append(app_id)
        meet, self._meet = self._meet, None  # once, however many connections find the tables unprepared
        if others and meet is not None:
            meet(others)

    def _known(self, connection: Connection) -> dict[str, int]:
        """The apps that have opened the database, with when they did last."""
        found = connection.execute(*self._sql.cold(sa.select(meta.c.key, meta.c.value))).fetchall()
        return {key.removeprefix(APP): int(value) for key, value in found if key.startswith(APP)}

    def _counted(self, connection: Connection) -> dict[str, int]:
        """How many tasks each app has."""
        count = sa.select(tasks.c.app, sa.func.count()).group_by(tasks.c.app)
        return {row[0]: row[1] for row in connection.execute(*self._sql.cold(count)).fetchall()}

    def _forget_app(self, connection: Connection, app_id: str) -> None:
        connection.write(*self._sql.cold(meta.delete().where(meta.c.key == APP + app_id)))

    def apps(self) -> dict[str, int]:
        def operation(connection: Connection) -> dict[str, int]:
            return {**dict.fromkeys(self._known(connection), 0), **self._counted(connection)}

        return self._database.read(operation)

    def adopt(self, app_id: str) -> int:
        return self._database.write(lambda connection: self._adopt(connection, app_id), durable=True)

    def _has_strays(self, connection: Connection) -> bool:
        """Whether a process of an older version, which a deploy has not ended yet, wrote rows that have no app."""
        for table in (tasks, deliveries):
            stray = sa.select(ONE).select_from(table).where(_is_of(table.c.app, "")).limit(1)
            if connection.execute(*self._sql.cold(stray)).fetchone() is not None:
                return True
        return False

    def _adopt(self, connection: Connection, app_id: str) -> int:
        """Make everything of another app this app's; how many tasks it had. Where both have one, this app's stays."""
        if app_id == self.app_id:
            return 0
        scopes = sa.select(tasks.c.idempotency_scope).where(
            tasks.c.app == self.app_id, tasks.c.idempotency_scope.is_not(None)
        )
        taken = tasks.update().where(_is_of(tasks.c.app, app_id), tasks.c.idempotency_scope.in_(scopes))
        connection.write(*self._sql.cold(taken.values(idempotency_scope=None)))
        moved = 0
        for table in (deliveries, tasks):
            rest = table.update().where(_is_of(table.c.app, app_id))
            moved = connection.write_counted(*self._sql.cold(rest.values(app=self.app_id)))
        for table, app, key in KEYED:
            own = table.alias("own")
            has = sa.exists().where(own.c[app.name] == self.app_id, *(own.c[column.name] == column for column in key))
            rest = table.update().where(_is_of(app, app_id), ~has).values({app.name: self.app_id})
            connection.write(*self._sql.cold(rest))
            connection.write(*self._sql.cold(table.delete().where(_is_of(app, app_id))))
        if app_id:
            self._forget_app(connection, app_id)
        return moved
