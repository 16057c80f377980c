"""What the parts of the SQL store share: the database, its statements, and how a transition is written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from ...core.model import Task
from ...errors import OutcomeUnknown, TaskNotFound
from ..base import Store
from ..conversions import dumps, micros
from ..keys import can_exist
from ..types import NewDelivery
from . import rows
from .drivers.base import Connection, Database, Operation
from .statements import Statements

T = TypeVar("T")


class SqlPart(Store):
    """Holds the database; the parts are put together in :class:`~flask_bgtasks.stores.sql.SqlStore`."""

    _database: Database
    _sql: Statements

    def _write(self, operation: Operation[T], request_id: str, *, durable: bool, soon: bool = False) -> T:
        """Run an operation on a task. :raises OutcomeUnknown: with its id, by which it can be asked for."""
        try:
            return self._database.write(operation, durable=durable, soon=soon)
        except OutcomeUnknown as error:
            raise OutcomeUnknown(str(error), request_id) from error

    def _select(self, connection: Connection, request_id: str) -> Task:
        """The task. :raises TaskNotFound: there is none."""
        query = {"id": known_form(request_id), "app": self.app_id}
        row = connection.execute(self._sql.select_task, query).fetchone()
        if row is None:
            raise TaskNotFound(request_id)
        return rows.task(row)

    def _select_to_change(self, connection: Connection, request_id: str) -> tuple[int, Task]:
        """The task's number and the task, its row locked. :raises TaskNotFound: there is none."""
        query = {"id": known_form(request_id), "app": self.app_id}
        found = connection.execute(self._sql.select_task_to_change, query)
        connection.ask_now()
        row = found.fetchone()
        if row is None:
            raise TaskNotFound(request_id)
        return row[rows.NUMBER], rows.task(row)

    def _insert_deliveries(
        self, connection: Connection, new: Sequence[NewDelivery], *, request_id: str | None, seq: int, now: datetime
    ) -> None:
        at = micros(now)
        values: list[dict[str, Any]] = [
            {
                "app": self.app_id,
                "sink": one.sink,
                "kind": one.kind,
                "request_id": request_id,
                "seq": seq,
                "payload": None if one.payload is None else dumps(one.payload),
                "tries": 0,
                "created_at": at,
                "due_at": micros(now + one.delay) if one.delay else at,
                "dead": 0,
                "channel": one.channel,
            }
            for one in new
        ]
        connection.write_many(self._sql.insert_delivery, values)


def known_form(request_id: str) -> str:
    """The id. :raises TaskNotFound: this is the id of none."""
    if not can_exist(request_id):
        raise TaskNotFound(request_id)
    return request_id
