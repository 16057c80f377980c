"""Whether a process that died ran one task or several: what a claim has to know before it charges the death to one."""

from __future__ import annotations

import sqlalchemy as sa

from ...core.model import Task
from ..base import DEATH_KEPT, death_of, lost_holder
from . import rows
from .contacts import SqlContacts
from .drivers.base import Connection
from .schema import tasks
from .statements import OWN, PROCESSING, parameter


class SqlDeaths(SqlContacts):
    """Asks for the other tasks of a process, and remembers that there were some."""

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
        return company or (until is not None and until > rows.micros(now))


def _companions() -> sa.Select[tuple[str]]:
    held = (tasks.c.status == PROCESSING, OWN, tasks.c.worker == parameter("who"))
    return sa.select(tasks.c.request_id).where(*held, tasks.c.request_id != parameter("besides")).limit(1)
