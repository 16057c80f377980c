"""A connection to PostgreSQL, as the SQL store uses it: in autocommit mode, with the server's time.

A read costs one round trip. A transaction is begun and ended by name: with a driver that can send statements ahead of
their answers (:mod:`.psycopg_connection`), it costs one only where an answer is needed, and one for its end.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ...conversions import moment
from .base import Connection, Operation, Parameters, T
from .server_clock import ServerClock

_NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


class PostgresConnection(Connection):
    """A driver's connection, while one operation uses it.

    :param raw: the driver's connection, in autocommit mode.
    :param clock: is told the server's time whenever that was asked for.
    :param limits: a statement that limits a transaction, for a session that is not this connection's own.
    """

    def __init__(self, raw: Any, clock: ServerClock, *, limits: str | None = None) -> None:
        self.raw = raw
        self._limits = limits
        self.writes = 0
        self.begun = False
        """Whether a transaction was begun."""
        self.ending = False
        """Whether the end of a transaction that changed something was sent: from then on it may have been made."""
        self._clock = clock
        self._now: datetime | None = None
        self._asked: Any = None  # the cursor of the question for the time, where that was sent already
        self._may_wait = False  # whether the server may wait for a lock before it says the time

    def transact(self, operation: Operation[T], *, durable: bool) -> T:
        """Run an operation in a transaction; nothing of it is made if it raises, unless :attr:`ending`."""
        self._begin(durable)
        result = operation(self)
        self._commit()
        return result

    def _begin(self, durable: bool) -> None:
        self.begun = True
        self._command("BEGIN")
        if self._limits is not None:
            self._command(self._limits)
        if not durable:
            self._command("SET LOCAL synchronous_commit TO off")

    def _commit(self) -> None:
        self.ending = self.writes > 0
        self._command("COMMIT")

    def recover(self) -> None:
        """After an error: undo what is not committed. :raises Exception: the driver's own: the connection is lost."""
        self._command("ROLLBACK" if self.begun else "SELECT 1")

    def _command(self, sql: str) -> None:
        self.raw.cursor().execute(sql)

    def _settle(self) -> None:
        """Wait for the answers to what was sent ahead; there is nothing where nothing is."""

    def execute(self, sql: str, parameters: Parameters = {}) -> Any:  # noqa: B006 - never changed
        cursor = self.raw.cursor()
        cursor.execute(sql, parameters)
        return cursor

    def write(self, sql: str, parameters: Parameters) -> None:
        self.writes += 1
        self._may_wait = True
        self.execute(sql, parameters)

    def write_counted(self, sql: str, parameters: Parameters) -> int:
        self.writes += 1
        cursor = self.execute(sql, parameters)
        self._settle()
        rowcount: int = cursor.rowcount
        return rowcount

    def write_one(self, sql: str, parameters: Parameters) -> int:
        self.writes += 1
        number: int = self.execute(sql, parameters).fetchone()[0]
        return number

    def write_if(self, sql: str, parameters: Parameters) -> int | None:
        found = self.execute(sql, parameters).fetchone()
        if found is None:
            return None
        self.writes += 1
        number: int = found[0]
        return number

    def write_many(self, sql: str, parameters: Sequence[Parameters]) -> None:
        self.writes += 1
        self._may_wait = True
        self.raw.cursor().executemany(sql, parameters)

    def lock(self, name: str) -> None:
        self._may_wait = True
        self.execute("SELECT pg_advisory_xact_lock(hashtextextended(%(name)s, 0))", {"name": name})

    def ask_now(self) -> None:
        if self._now is None and self._asked is None:
            self._may_wait = True
            self._asked = self.execute(_NOW)

    def now(self) -> datetime:
        if self._now is None:
            asked = time.monotonic()
            cursor = self._asked or self.execute(_NOW)
            self._now = moment(cursor.fetchone()[0])
            if not self._may_wait:  # else nobody knows when between question and answer that was
                self._clock.tell(self._now, asked=asked)
        return self._now
