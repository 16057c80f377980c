"""SQLite: one writer connection whose transactions are shared by whoever writes at the same time, and a pool to read.

SQLite has one writer at a time, and a durable commit waits for the disk. So threads that write together commit
together: the first to come leads; what others queue meanwhile is run as the next transaction, by one of them. And the
wait for the disk is taken out of the transaction (:mod:`.wal_sync`), so that the next one does not stand behind it. A
lone thread is its own leader, and pays no hand-over.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from ....core.transitions.transition import Durability
from ....errors import OutcomeUnknown, StoreUnavailable
from ....runtime.fork import after_fork_in_child
from ...types import Clock
from .. import schema
from .base import Connection, Database, Operation, Parameters
from .sqlite_file import DatabaseFile, gone, keep_private, unavailable
from .wal_sync import WalSync

T = TypeVar("T")

BUSY_SECONDS = 10.0
"""How long a write waits for another process's transaction before it is refused."""

MAX_PER_COMMIT = 128
"""Operations that share a commit at most: the last of them waits for all."""

LOG_PAGES = 4000
"""Pages in the log before they are copied into the database: 16 MiB instead of SQLite's 4. The newest pages are written
again and again; the longer the log, the fewer of their copies are copied."""

PROBE_SECONDS = 1.0
"""How long a write that went well is taken for a sign that writes do: health may be asked by anybody, and often."""

MAX_READERS = 16  # connections kept for reading; more are opened when needed, and closed after use

_PROBE = """INSERT INTO bgtasks_meta (key, value) VALUES ('probed', :now)
ON CONFLICT (key) DO UPDATE SET value = excluded.value"""
"""A write of something new: SQLite writes no page that stays as it was."""

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

    def lock(self, name: str) -> None:
        """There is one writer at a time, and this is it."""

    def now(self) -> datetime:
        if self._now is None:
            self._now = self._clock()
        return self._now


class _Job(Generic[T]):
    """One thread's operation on its way through a shared transaction."""

    __slots__ = ("done", "error", "operation", "result", "woken", "wrote")

    def __init__(self, operation: Operation[T]) -> None:
        self.operation = operation
        self.done = False
        self.wrote = False
        self.result: T | None = None
        self.error: BaseException | None = None
        self.woken: threading.Lock | None = None  # of a follower: released when it is done, or has to lead

    def outcome(self) -> T:
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]


class SqliteDatabase(Database):
    """An SQLite file.

    :param synchronous: ``FULL``: durable operations wait for the disk; ``NORMAL``: they survive a killed process.
    """

    durable = frozenset({Durability.DISK})  # a power cut ends every process on this one machine, with what it relies on

    def __init__(self, path: str, *, synchronous: str, clock: Clock) -> None:
        self.dialect = SQLiteDialect_pysqlite(paramstyle="named")
        self._path = path
        self._strict = synchronous == "FULL"
        self._clock = clock
        self._reset()
        after_fork_in_child(self._forget)

    def _reset(self) -> None:
        self._queue_lock = threading.Lock()  # protects _queue and _led; held for microseconds
        self._queue: deque[_Job[Any]] = deque()
        self._led = False  # whether a thread leads
        self._committed = False  # of the transaction that failed last: whether that was after its commit. The leader's
        self._writer_lock = threading.Lock()  # protects _writer: the leader against close()
        self._writer: SqliteConnection | None = None
        self._sync = WalSync(self._path)
        self._readers: deque[SqliteConnection] = deque()  # append and pop are atomic: no lock
        self._watch_lock = threading.Lock()  # protects _watch
        self._watch: sqlite3.Connection | None = None
        self._ready = False
        self._file = DatabaseFile(self._path)
        self._probed_at = float("-inf")  # when a write went well that was made to see whether it does

    def _forget(self) -> None:
        _inherited.extend(c.raw for c in (*self._readers, self._writer) if c is not None)
        if self._watch is not None:
            _inherited.append(self._watch)
        self._reset()

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, operation: Operation[T], *, durable: bool) -> T:
        self._file.check()
        job = _Job(operation)
        with self._queue_lock:
            self._queue.append(job)
            leads, self._led = not self._led, True
            if not leads:
                job.woken = threading.Lock()
                job.woken.acquire()
        if job.woken is not None:
            self._wait(job, job.woken)
        if not job.done:
            try:
                self._lead(job)
            finally:
                self._pass_on()
        try:
            result = job.outcome()
        except sqlite3.Error as error:
            raise unavailable(self._path, error) from error
        if durable and self._strict and job.wrote:
            try:
                self._sync.wait()
            except FileNotFoundError:
                raise gone(self._path + "-wal") from None
            except OSError as error:
                raise OutcomeUnknown(f"the task store {self._path!r} cannot be brought to disk: {error}") from error
        if job.wrote:  # the file may have gone meanwhile, and what was written with it
            self._file.check()
        return result

    def _wait(self, job: _Job[Any], woken: threading.Lock) -> None:
        """Wait until another's transaction has done the operation, or this thread has to lead."""
        try:
            woken.acquire()
        except BaseException:  # Ctrl-C: nobody may wait for a leader that left
            with self._queue_lock:
                waits = job in self._queue
                if waits:
                    self._queue.remove(job)
            if waits and not woken.locked():
                self._pass_on()
            raise

    def _lead(self, mine: _Job[Any]) -> None:
        """Run what is queued, this thread's operation first, as one transaction."""
        with self._queue_lock:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_PER_COMMIT))]
        try:
            with self._writer_lock:
                if not self._run_together(batch):
                    for job in batch:  # one of them failed half-way: each on its own
                        job.result = job.error = None
                        self._run_together([job])
                        job.done = True
        except sqlite3.Error as error:
            refusal = unavailable(self._path, error)
            for job in batch:
                job.error = job.error or refusal
        except BaseException as error:
            if isinstance(error, Exception):
                for job in batch:
                    job.error = job.error or error
            elif not self._committed:  # this thread alone is being ended: another one leads the rest
                others = [job for job in batch if job is not mine and not job.done]
                batch = [job for job in batch if job not in others]
                for job in others:
                    job.result = job.error = None
                with self._queue_lock:
                    self._queue.extendleft(reversed(others))
            raise
        finally:
            for job in batch:
                job.done = True
            for job in batch:
                if job.woken is not None:
                    job.woken.release()

    def _pass_on(self) -> None:
        """Have the first that waits lead, if any does."""
        with self._queue_lock:
            self._led = bool(self._queue)
            successor = self._queue[0].woken if self._queue else None
        if successor is not None:
            successor.release()

    def _run_together(self, batch: list[_Job[Any]]) -> bool:
        """Run the jobs in one transaction. False, with nothing changed, if one failed after it had written."""
        self._committed = begun = False
        writer = self._writer or self._open_writer()
        raw = writer.raw
        try:
            raw.execute("BEGIN IMMEDIATE")
            begun = True
            for job in batch:
                writer.begin_operation()
                try:
                    job.result = job.operation(writer)
                    job.wrote = writer.writes > 0
                except Exception as error:
                    if isinstance(error, sqlite3.OperationalError) or (writer.writes and len(batch) > 1):
                        raise
                    job.error = error  # refused before it wrote anything: the others go on
                    if writer.writes:
                        raise
            raw.execute("COMMIT")
        except BaseException as error:  # a signal's SystemExit too: the next transaction must not find this one open
            self._committed = begun and not raw.in_transaction
            if raw.in_transaction:  # some errors end it by themselves (sqlite.org/lang_transaction.html, "automatic")
                raw.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError) or not isinstance(error, Exception):
                raise
            if len(batch) > 1:
                return False
        return True

    # -- reading -----------------------------------------------------------------------------------------------------

    def read(self, operation: Operation[T]) -> T:
        self._file.check()
        readers = self._readers  # close() puts another in its place
        try:
            try:
                reader = readers.pop()
            except IndexError:
                reader = SqliteConnection(self._connect(), self._clock)
            reader.begin_operation()
            try:
                return operation(reader)
            finally:
                readers.append(reader)
                if readers is not self._readers or len(readers) > MAX_READERS:
                    _close_all(readers, keep=0 if readers is not self._readers else MAX_READERS)
        except sqlite3.Error as error:
            raise unavailable(self._path, error) from error

    def change_token(self) -> Hashable | None:
        """``PRAGMA data_version``: differs when another connection, of any process, committed since the last look.

        Comparable only on one connection, hence a connection of its own, which never writes
        (sqlite.org/pragma.html#pragma_data_version).
        """
        self._file.check()
        try:
            with self._watch_lock:
                if self._watch is None:
                    self._watch = self._connect()
                version: int = self._watch.execute("PRAGMA data_version").fetchone()[0]
                return version
        except sqlite3.Error as error:
            raise unavailable(self._path, error) from error

    def now(self) -> datetime:
        return self._clock()  # of this machine, as that of every process that has the file: nothing has to be asked

    # -- whether it is well ------------------------------------------------------------------------------------------

    def check(self) -> None:
        self._file.check_room()
        if time.monotonic() - self._probed_at < PROBE_SECONDS:
            return
        self._probed_at = float("-inf")
        self.write(lambda connection: connection.write(_PROBE, {"now": time.time()}), durable=False)
        self._probed_at = time.monotonic()

    # -- opening -----------------------------------------------------------------------------------------------------

    def _open_writer(self) -> SqliteConnection:
        writer = SqliteConnection(self._connect(), self._clock)
        try:
            # Read once, so that SQLite opens all that it needs, and the log here too: where there are no descriptors
            # left that has to show before anything is committed, not when it is to be brought to disk.
            writer.execute("SELECT 1 FROM bgtasks_meta").fetchall()
            self._sync.open()
        except BaseException as error:
            writer.raw.close()
            if isinstance(error, OSError):
                raise StoreUnavailable(f"the task store {self._path!r} cannot be opened: {error}") from error
            raise
        self._writer = writer
        return writer

    def _connect(self) -> sqlite3.Connection:
        if not self._ready:
            keep_private(self._path)
        raw = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            # In WAL mode NORMAL waits for the disk at checkpoints only; what must survive a power cut waits in WalSync.
            raw.execute("PRAGMA synchronous=NORMAL")
            raw.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES}")
            # What is erased is overwritten, also where SQLite was built to leave it in free pages (its default).
            raw.execute("PRAGMA secure_delete=ON")
            if not self._ready:
                self._prepare(raw)
                self._file.opened()
                self._ready = True
        except OSError as error:  # not sqlite3.Error, which is none
            raw.close()
            raise StoreUnavailable(f"the task store {self._path!r} cannot be opened: {error}") from error
        except BaseException:
            raw.close()
            raise
        return raw

    def _prepare(self, raw: sqlite3.Connection) -> None:
        """Make the file one of ours. Several processes may be at this at once."""
        try:
            _use_wal(raw)
            raw.execute("BEGIN IMMEDIATE")
            schema.create(raw, self.dialect)
            self.on_open(SqliteConnection(raw, self._clock))
            raw.execute("COMMIT")
        except sqlite3.DatabaseError:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raise

    def close(self) -> None:
        with self._writer_lock, self._watch_lock:
            readers, self._readers = self._readers, deque()
            _close_all(readers)
            if self._writer is not None:
                self._writer.raw.close()
            if self._watch is not None:
                self._watch.close()
            self._writer, self._watch = None, None
            self._sync.close()
            self._file.closed()
            self._ready = False


def _close_all(readers: deque[SqliteConnection], *, keep: int = 0) -> None:
    """Close readers until so many are left; several threads may be at it."""
    while len(readers) > keep:
        try:
            readers.popleft().raw.close()
        except IndexError:
            return


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
