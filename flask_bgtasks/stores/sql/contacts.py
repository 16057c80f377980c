"""Devices, preferences and marks in an SQL database."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from ...core.devices import Device, superseded
from ..conversions import dumps, micros
from ..keys import can_exist
from . import rows
from .base import SqlPart
from .drivers.base import Connection
from .schema import devices, marks, preferences
from .statements import parameter

COLUMNS = tuple(devices.c[name] for name in rows.DEVICE_FIELDS)
OWN_DEVICE = devices.c.app_id == parameter("app")


class SqlContacts(SqlPart):
    """Whom to tell. What is asked for with every push is compiled once; registrations are rare."""

    def save_device(self, device: Device, *, max_devices: int, replaces: str | None = None) -> Device:
        def operation(connection: Connection) -> Device:
            # One installation registers at a time: else its token and its FID could forget each other.
            connection.lock(f"bgtasks:device:{device.installation or device.id}")
            now = connection.now()
            known = self._find(connection, _device_by_id, id=device.id)
            created = known[0].created_at if known else None
            stored = device.at(created=created or now, seen=now)
            for other in superseded(
                stored, self._rivals(connection, device), max_devices=max_devices, replaces=replaces
            ):
                # Only as it was read: somebody may have logged in there meanwhile.
                same = sa.and_(self._at(other.id), devices.c.owner.is_not_distinct_from(other.owner))
                connection.write(*self._sql.cold(devices.delete().where(same)))
            values = {"app_id": self.app_id, **rows.device_values(stored)}
            here = devices.update().where(self._at(device.id)).values(values)
            # It may be forgotten by now: by who had it, and has no room for it any more.
            if not known or not connection.write_counted(*self._sql.cold(here)):
                connection.write(*self._sql.cold(devices.insert().values(values)))
            return stored

        return self._database.write(operation, durable=True)

    def _at(self, device_id: str) -> sa.ColumnElement[bool]:
        return sa.and_(devices.c.app_id == self.app_id, devices.c.id == device_id)

    def _rivals(self, connection: Connection, device: Device) -> list[Device]:
        """Those that a registration may supersede: of the same task; or of the same owner or installation."""
        if device.request_id is not None:
            found = self._find(connection, _devices_of_task, task=device.request_id)
        else:
            found = self._find(connection, _devices_of_installation, installation=device.installation)
            found += self._find(connection, _devices_of_owner, owner=device.owner)
        return [other for other in {other.id: other for other in found}.values() if other.id != device.id]

    def _find(self, connection: Connection, build: Any, **values: Any) -> list[Device]:
        sql, constants = self._sql.known(build)
        found = connection.execute(sql, {**constants, **values, "app": self.app_id}).fetchall()
        return [rows.device(row) for row in found]

    def devices(self, *, owner: str | None = None, request_id: str | None = None) -> Sequence[Device]:
        if request_id is not None:
            return self._database.read(lambda connection: self._find(connection, _devices_of_task, task=request_id))
        return self._database.read(lambda connection: self._find(connection, _devices_of_owner, owner=owner))

    def find_device(self, device_id: str) -> Device | None:
        if not can_exist(device_id):
            return None
        found = self._database.read(lambda connection: self._find(connection, _device_by_id, id=device_id))
        return found[0] if found else None

    def forget_device(self, device_id: str) -> bool:
        if not can_exist(device_id):
            return False
        statement = devices.delete().where(self._at(device_id))
        return bool(self._database.write(lambda c: c.write_counted(*self._sql.cold(statement)), durable=True))

    def prune_devices(self, *, unseen_for: timedelta, limit: int = 100) -> int:
        key = (devices.c.app_id, devices.c.id)

        def find(connection: Connection) -> list[tuple[str, str]]:
            before = micros(connection.now() - unseen_for)
            old = sa.select(*key).where(devices.c.seen_at < before).order_by(devices.c.seen_at).limit(limit)
            return [(row[0], row[1]) for row in connection.execute(*self._sql.cold(old)).fetchall()]

        def erase(connection: Connection) -> int:
            connection.lock("bgtasks:forgotten")  # each process erases, in the order in which it finds
            connection.write(*self._sql.cold(marks.delete().where(marks.c.until <= micros(connection.now()))))
            old = find(connection)
            these = devices.delete().where(sa.tuple_(*key).in_(old))
            return connection.write_counted(*self._sql.cold(these)) if old else 0

        def find_marks(connection: Connection) -> bool:
            over = sa.select(marks.c.key).where(marks.c.until <= micros(connection.now())).limit(1)
            return connection.execute(*self._sql.cold(over)).fetchone() is not None

        # A look costs no write: most find nothing.
        if not self._database.read(lambda connection: find(connection) or find_marks(connection)):
            return 0
        return self._database.write(erase, durable=False)

    # -- preferences -------------------------------------------------------------------------------------------------

    def load_preferences(self, owner: str) -> Mapping[str, Any] | None:
        def operation(connection: Connection) -> Mapping[str, Any] | None:
            sql, constants = self._sql.known(_preferences_of)
            row = connection.execute(sql, {**constants, "app": self.app_id, "owner": owner}).fetchone()
            return None if row is None else json.loads(row[0])

        return self._database.read(operation)

    def save_preferences(self, owner: str, document: Mapping[str, Any]) -> None:
        text = dumps(document)

        def operation(connection: Connection) -> None:
            connection.lock(f"bgtasks:preferences:{self.app_id}:{owner}")
            own = (preferences.c.app == self.app_id, preferences.c.owner == owner)
            if not connection.write_counted(*self._sql.cold(preferences.update().where(*own).values(document=text))):
                row = {"app": self.app_id, "owner": owner, "document": text}
                connection.write(*self._sql.cold(preferences.insert().values(row)))

        self._database.write(operation, durable=True)

    # -- marks -------------------------------------------------------------------------------------------------------

    def take_mark(self, key: str, span: timedelta) -> bool:
        def operation(connection: Connection) -> bool:
            until = self._until(connection, key)
            if until is not None and until > micros(connection.now()):
                return False
            self._set(connection, key, span, there=until is not None)
            return True

        return self._database.write(operation, durable=False)

    def set_mark(self, key: str, span: timedelta) -> None:
        def operation(connection: Connection) -> None:
            self._set(connection, key, span, there=self._until(connection, key) is not None)

        self._database.write(operation, durable=False)

    def _until(self, connection: Connection, key: str) -> int | None:
        """Until when a key is taken, None if there is nothing of it. Nobody else takes it meanwhile."""
        connection.lock(f"bgtasks:mark:{self.app_id}:{key}")
        held = sa.select(marks.c.until).where(marks.c.app == self.app_id, marks.c.key == key)
        row = connection.execute(*self._sql.cold(held)).fetchone()
        return None if row is None else row[0]

    def _set(self, connection: Connection, key: str, span: timedelta, *, there: bool) -> None:
        until = micros(connection.now() + span)
        if there:
            own = (marks.c.app == self.app_id, marks.c.key == key)
            connection.write(*self._sql.cold(marks.update().where(*own).values(until=until)))
        else:
            connection.write(*self._sql.cold(marks.insert().values(app=self.app_id, key=key, until=until)))


def _device_by_id() -> sa.Select[Any]:
    return sa.select(*COLUMNS).where(OWN_DEVICE, devices.c.id == parameter("id"))


def _devices_of_owner() -> sa.Select[Any]:
    own = sa.and_(OWN_DEVICE, devices.c.owner == parameter("owner"), devices.c.request_id.is_(None))
    return sa.select(*COLUMNS).where(own).order_by(devices.c.seen_at.desc(), devices.c.id)


def _devices_of_task() -> sa.Select[Any]:
    found = sa.select(*COLUMNS).where(OWN_DEVICE, devices.c.request_id == parameter("task"))
    return found.order_by(devices.c.seen_at.desc())


def _devices_of_installation() -> sa.Select[Any]:
    return sa.select(*COLUMNS).where(OWN_DEVICE, devices.c.installation == parameter("installation"))


def _preferences_of() -> sa.Select[Any]:
    own = (preferences.c.app == parameter("app"), preferences.c.owner == parameter("owner"))
    return sa.select(preferences.c.document).where(*own)
