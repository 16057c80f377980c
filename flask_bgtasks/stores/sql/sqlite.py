"""SQLite: one writer connection whose transactions are shared by whoever writes at the same time, and a pool to read.

SQLite has one writer at a time, and a durable commit waits for the disk. So threads that write together commit together:
each puts its operation into a queue and takes the writer's lock; who gets it runs everything that is queued as one
transaction, with one fsync, and the others find their operation done. A lone thread is its own leader, and pays nothing.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from ...errors import BackgroundTasksError, ConfigurationError, StoreUnavailable
from ...forks import after_fork_in_child
from ..base import Clock
from . import schema
from .database import Connection, Database, Operation, Parameters

T = TypeVar("T")

BUSY_SECONDS = 10.0
"""How long a write waits for another process's transaction before it is refused."""

MOST_PER_COMMIT = 128
"""Operations that share a commit at most: the last of them waits for all."""

MOST_READERS = 16  # connections kept for reading; more are opened when needed, and closed after use

_inherited: list[sqlite3.Connection] = []
"""A parent's connections in a child of fork. Never used, and never closed: SQLite forbids to carry a connection over a
fork, and closing it here would drop the locks of this process on the file (sqlite.org/howtocorrupt.html, 2.6)."""


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

    def write(self, sql: str, parameters: Parameters) -> int:
        self.writes += 1
        return self.raw.execute(sql, parameters).rowcount

    def write_one(self, sql: str, parameters: Parameters) -> int:
        self.writes += 1
        number: int = self.raw.execute(sql, parameters).fetchall()[0][0]  # to the end: the statement is done
        return number

    def write_many(self, sql: str, parameters: Sequence[Parameters]) -> None:
        self.writes += 1
        if len(parameters) == 1:
            self.raw.execute(sql, parameters[0])
        else:
            self.raw.executemany(sql, parameters)

    def now(self) -> datetime:
        if self._now is None:
            self._now = self._clock()
        return self._now


class _Job(Generic[T]):
    """One thread's operation on its way through a shared transaction."""

    __slots__ = ("done", "durable", "error", "operation", "result")

    def __init__(self, operation: Operation[T], durable: bool) -> None:
        self.operation = operation
        self.durable = durable
        self.done = False
        self.result: T | None = None
        self.error: BaseException | None = None

    def outcome(self) -> T:
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]


class SqliteDatabase(Database):
    """An SQLite file.

    :param synchronous: what a durable operation commits with: ``FULL`` or ``NORMAL``.
    """

    def __init__(self, path: str, *, synchronous: str, clock: Clock) -> None:
        self.dialect = SQLiteDialect_pysqlite(paramstyle="named")
        self._path = path
        self._strict = synchronous
        self._clock = clock
        self._reset()
        after_fork_in_child(self._forget)

    def _reset(self) -> None:
        self._write_lock = threading.Lock()  # protects _writer and _level, and is held over each transaction
        self._queue: deque[_Job[Any]] = deque()
        self._writer: SqliteConnection | None = None
        self._level = ""  # what `PRAGMA synchronous` was set to last
        self._readers: deque[SqliteConnection] = deque()  # append and pop are atomic: no lock
        self._watch_lock = threading.Lock()  # protects _watch
        self._watch: sqlite3.Connection | None = None
        self._ready = False

    def _forget(self) -> None:
        _inherited.extend(c.raw for c in (*self._readers, self._writer) if c is not None)
        if self._watch is not None:
            _inherited.append(self._watch)
        self._reset()

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, operation: Operation[T], *, durable: bool) -> T:
        job = _Job(operation, durable)
        self._queue.append(job)
        with self._write_lock:
            while not job.done:  # another one's turn may have done it; a long queue may take several
                self._run_batch()
        return job.outcome()

    def _run_batch(self) -> None:
        batch: list[_Job[Any]] = []
        while self._queue and len(batch) < MOST_PER_COMMIT:
            batch.append(self._queue.popleft())
        try:
            if not self._run_together(batch):
                for job in batch:  # one of them failed half-way: each on its own
                    job.result = job.error = None
                    self._run_together([job])
        except sqlite3.Error as error:
            refusal = _unavailable(self._path, error)
            for job in batch:
                job.error = job.error or refusal
        except BaseException as error:
            for job in batch:
                job.error = job.error or error
            raise
        finally:
            for job in batch:
                job.done = True

    def _run_together(self, batch: list[_Job[Any]]) -> bool:
        """Run the jobs in one transaction. False, with nothing changed, if one failed after it had written."""
        writer = self._writer or self._open_writer()
        raw = writer.raw
        level = self._strict if any(job.durable for job in batch) else "NORMAL"
        if level != self._level:
            raw.execute(f"PRAGMA synchronous={level}")
            self._level = level
        raw.execute("BEGIN IMMEDIATE")
        try:
            for job in batch:
                writer.begin_operation()
                try:
                    job.result = job.operation(writer)
                except Exception as error:
                    if isinstance(error, sqlite3.OperationalError) or (writer.writes and len(batch) > 1):
                        raise
                    job.error = error  # refused before it wrote anything: the others go on
                    if writer.writes:
                        raise
            raw.execute("COMMIT")
        except Exception as error:
            if raw.in_transaction:  # some errors end it by themselves (sqlite.org/lang_transaction.html, "automatic")
                raw.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise
            if len(batch) > 1:
                return False
        return True

    # -- reading -----------------------------------------------------------------------------------------------------

    def read(self, operation: Operation[T]) -> T:
        try:
            try:
                reader = self._readers.pop()
            except IndexError:
                reader = SqliteConnection(self._connect(), self._clock)
            reader.begin_operation()
            try:
                return operation(reader)
            finally:
                if len(self._readers) < MOST_READERS:
                    self._readers.append(reader)
                else:
                    reader.raw.close()
        except sqlite3.Error as error:
            raise _unavailable(self._path, error) from error

    def change_token(self) -> Hashable | None:
        """``PRAGMA data_version``: differs when another connection, of any process, committed since the last look.

        Comparable only on one connection, hence a connection of its own, which never writes
        (sqlite.org/pragma.html#pragma_data_version).
        """
        try:
            with self._watch_lock:
                if self._watch is None:
                    self._watch = self._connect()
                version: int = self._watch.execute("PRAGMA data_version").fetchone()[0]
                return version
        except sqlite3.Error as error:
            raise _unavailable(self._path, error) from error

    # -- opening -----------------------------------------------------------------------------------------------------

    def _open_writer(self) -> SqliteConnection:
        self._writer = SqliteConnection(self._connect(), self._clock)
        self._level = ""
        return self._writer

    def _connect(self) -> sqlite3.Connection:
        raw = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        if not self._ready:
            try:
                self._prepare(raw)
            except BaseException:
                raw.close()
                raise
            self._ready = True
        return raw

    def _prepare(self, raw: sqlite3.Connection) -> None:
        """Make the file one of ours. Several processes may be at this at once."""
        try:
            _use_wal(raw)
            raw.execute("BEGIN IMMEDIATE")
            create_schema(raw, self.dialect)
            raw.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError) and "readonly" not in str(error):
                raise
            raise ConfigurationError(
                f"BGTASKS_STORE: {self._path!r} cannot be used ({error}). "
                "Name a file that is an SQLite database, or is not there yet, in a folder that this user may write"
            ) from error

    def close(self) -> None:
        with self._write_lock, self._watch_lock:
            for connection in (self._writer, *self._readers):
                if connection is not None:
                    connection.raw.close()
            if self._watch is not None:
                self._watch.close()
            self._writer, self._watch = None, None
            self._readers.clear()


def _use_wal(raw: sqlite3.Connection) -> None:
    """Write-ahead logging: readers and the writer do not wait for each other. Kept in the file.

    The switch answers "locked" at once while another connection has the file open, whatever the busy timeout.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            raw.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def create_schema(raw: Any, dialect: Any) -> None:
    """Make the tables that are not there, in the caller's transaction.

    :raises ConfigurationError: a newer version made them.
    """
    for table in schema.metadata.sorted_tables:
        raw.execute(str(sa.schema.CreateTable(table, if_not_exists=True).compile(dialect=dialect)))
        for index in table.indexes:
            raw.execute(str(sa.schema.CreateIndex(index, if_not_exists=True).compile(dialect=dialect)))
    found = raw.execute("SELECT value FROM bgtasks_meta WHERE key = 'version'").fetchone()
    if found is None:
        raw.execute(f"INSERT INTO bgtasks_meta (key, value) VALUES ('version', '{schema.VERSION}')")
    elif int(found[0]) > schema.VERSION:
        raise ConfigurationError(
            f"BGTASKS_STORE: these tables were made by a newer flask-bgtasks (layout {found[0]}, "
            f"this one knows {schema.VERSION}). Upgrade this installation, or name another database"
        )


def _unavailable(path: str, error: sqlite3.Error) -> BackgroundTasksError:
    if isinstance(error, sqlite3.OperationalError) and "unable to open" in str(error):
        return ConfigurationError(
            f"BGTASKS_STORE: {path!r} cannot be opened ({error}). Its folder has to be there, and writable by this user"
        )
    return StoreUnavailable(f"the task store {path!r} cannot be used right now: {error}")
