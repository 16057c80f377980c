"""A connection to an SQLite file, as the SQL store uses it: in autocommit mode, with the time of its database."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from ...types import Clock
from .base import Connection, Parameters


class SqliteConnection(Connection):
    """A connection in autocommit mode: transactions are begun and ended by name."""

    __slots__ = ("_clock", "_now", "raw", "writes")

    def __init__(self, raw: sqlite3.Connection, clock: Clock) -> None:
        self.raw = raw
        self.writes = 0
        self._clock = clock
        self._now: datetime | None = None

    def begin_operation(self) -> None:
        """Forget what the last operation knew."""
        self.writes = 0
        self._now = None

    def execute(self, sql: str, parameters: Parameters = {}) -> sqlite3.Cursor:  # noqa: B006 - never changed
        return self.raw.execute(sql, parameters)

    def write(self, sql: str, parameters: Parameters) -> None:
        self.writes += 1
        self.raw.execute(sql, parameters)

    def write_counted(self, sql: str, parameters: Parameters) -> int:
        self.writes += 1
        return self.raw.execute(sql, parameters).rowcount

    def write_one(self, sql: str, parameters: Parameters) -> int:
        self.writes += 1
        number: int = self.raw.execute(sql, parameters).fetchall()[0][0]  # to the end: the statement is done
        return number

    def write_if(self, sql: str, parameters: Parameters) -> int | None:
        found = self.raw.execute(sql, parameters).fetchall()
        if not found:
            return None
        self.writes += 1
        number: int = found[0][0]
        return number

    def write_many(self, sql: str, parameters: Sequence[Parameters]) -> None:
        self.writes += 1
        if len(parameters) == 1:
            self.raw.execute(sql, parameters[0])
        else:
            self.raw.executemany(sql, parameters)

    def lock(self, name: str) -> None:
        """There is one writer at a time, and this is it."""

    def now(self) -> datetime:
        if self._now is None:
            self._now = self._clock()
        return self._now
