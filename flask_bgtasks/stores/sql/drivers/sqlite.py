"""SQLite: one connection that writes, shared by group commit (:mod:`.group_commit`), and a pool to read.

A durable commit waits for the disk. That wait is taken out of the transaction (:mod:`.wal_sync`), so that the next one
does not stand behind it.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from ....core.transitions.transition import Durability
from ....errors import OutcomeUnknown, StoreUnavailable, StoreUnusable
from ....runtime.fork import after_fork_in_child
from ...tables import Layout
from ...types import Clock
from . import layouts
from .base import Connection, Database, Operation
from .group_commit import GroupCommit
from .sqlite_connection import SqliteConnection
from .sqlite_file import DatabaseFile, gone, keep_private, unavailable
from .wal_sync import WalSync

T = TypeVar("T")
R = TypeVar("R")

BUSY_SECONDS = 10.0
"""How long a write waits for another process's transaction before it is refused."""

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


class SqliteDatabase(Database):
    """An SQLite file.

    :param synchronous: ``FULL``: durable operations wait for the disk; ``NORMAL``: they survive a killed process.
    """

    begin = ("BEGIN IMMEDIATE",)

    durable = frozenset({Durability.DISK})  # a power cut ends every process on this one machine, with what it relies on

    def __init__(self, path: str, *, synchronous: str, clock: Clock) -> None:
        self.dialect = SQLiteDialect_pysqlite(paramstyle="named")
        self._path = path
        self._strict = synchronous == "FULL"
        self._clock = clock
        self._reset()
        after_fork_in_child(self._forget)

    def _reset(self) -> None:
        self._commits = GroupCommit(self._path, self._open_writer)
        self._sync = WalSync(self._path)
        self._readers: deque[SqliteConnection] = deque()  # append and pop are atomic: no lock
        self._watch_lock = threading.Lock()  # protects _watch
        self._watch: sqlite3.Connection | None = None
        self._opening = threading.Lock()  # held by the thread that makes the file ours
        self._ready = False
        self.layout_watch = layouts.LayoutWatch()
        self._waits_for_disk = False  # whether something was committed that `sync` is to bring there
        self._file = DatabaseFile(self._path)
        self._probed_at = float("-inf")  # when a write went well that was made to see whether it does

    def _forget(self) -> None:
        _inherited.extend(c.raw for c in (*self._readers, self._commits.writer) if c is not None)
        if self._watch is not None:
            _inherited.append(self._watch)
        self._reset()

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, operation: Operation[T], *, durable: bool, soon: bool = False) -> T:
        self._file.check()
        result, wrote = self._looking(self._commits.run, operation)
        if durable and self._strict and wrote:
            self._bring_to_disk()
        elif soon and self._strict and wrote:
            self._waits_for_disk = True
        if wrote:  # the file may have gone meanwhile, and what was written with it
            self._file.check(at_once=durable)
        return result

    def sync(self) -> None:
        if self._waits_for_disk:
            self._waits_for_disk = False
            try:
                self._bring_to_disk()
            except BaseException:
                self._waits_for_disk = True
                raise

    def _bring_to_disk(self) -> None:
        try:
            self._sync.wait()
        except FileNotFoundError:
            raise gone(self._path + "-wal") from None
        except OSError as error:
            raise OutcomeUnknown(f"the task store {self._path!r} cannot be brought to disk: {error}") from error

    # -- reading -----------------------------------------------------------------------------------------------------

    def read(self, operation: Operation[T]) -> T:
        self._file.check()
        return self._looking(self._read, operation)

    def _read(self, operation: Operation[T]) -> T:
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

    # -- the tables --------------------------------------------------------------------------------------------------

    def _looking(self, run: Callable[[Operation[T]], R], operation: Operation[T]) -> R:
        """Run an operation; now and then see first, in its transaction, that no newer release upgraded the tables.

        :raises StoreUnusable: one has.
        """
        if not self.layout_watch.due:
            return run(operation)

        def looked(connection: Connection) -> T:
            if not self.layout_watch.see(layouts.of_rows(connection.execute(layouts.READ).fetchall())):
                raise _Older
            return operation(connection)

        try:
            return run(looked)
        except _Older:
            self._open(upgrade=self.auto_upgrade)
            return run(operation)

    def layout(self) -> Layout:
        with self._errors():
            if not os.path.exists(self._path):
                return layouts.of_rows(())
            # Not "ro": to read what is in the log, SQLite may have to make its shared memory.
            with closing(_connect_existing(self._path)) as raw:
                raw.execute("PRAGMA query_only=ON")
                return _layout(raw)

    def upgrade(self) -> Layout:
        return self._open(upgrade=True)

    def _open(self, *, upgrade: bool) -> Layout:
        """Make the file ours, as the first connection does, whether or not that was done; its layout before."""
        with self._errors(), self._opening:
            keep_private(self._path)
            with closing(self._connected()) as raw:
                return self._prepare(raw, upgrade=upgrade)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """:raises BackgroundTasksError: what an error of SQLite's means."""
        try:
            yield
        except sqlite3.Error as error:
            raise unavailable(self._path, error) from error

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
        return writer

    def _connect(self) -> sqlite3.Connection:
        if not self._ready:
            # One thread makes the file ours. A second one that was slower would take what is there by then for the file
            # that is open, also what has come in its place meanwhile.
            with self._opening:
                if not self._ready:
                    keep_private(self._path)
                    return self._connected(first=True)
        self._file.check(at_once=True)  # to open one that has gone would make an empty one in its place
        return self._connected()

    def _connected(self, *, first: bool = False) -> sqlite3.Connection:
        try:
            raw = _connect_existing(self._path, check_same_thread=False, cached_statements=256)
        except sqlite3.OperationalError:
            self._file.check(at_once=True)  # it may have gone since the last look
            raise
        try:
            # In WAL mode NORMAL waits for the disk at checkpoints only; what must survive a power cut waits in WalSync.
            raw.execute("PRAGMA synchronous=NORMAL")
            raw.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES}")
            # What is erased is overwritten, also where SQLite was built to leave it in free pages (its default).
            raw.execute("PRAGMA secure_delete=ON")
            if first:
                self._prepare(raw, upgrade=self.auto_upgrade)
        except OSError as error:  # not sqlite3.Error, which is none
            raw.close()
            raise StoreUnavailable(f"the task store {self._path!r} cannot be opened: {error}") from error
        except BaseException:
            raw.close()
            raise
        return raw

    def _prepare(self, raw: sqlite3.Connection, *, upgrade: bool) -> Layout:
        """Make the file one of ours; its layout before. Several processes may be at this at once."""
        try:
            _use_wal(raw)
            raw.execute("BEGIN IMMEDIATE")  # until the commit no other process writes, neither tables nor tasks
            found = _layout(raw)
            if not found.usable:
                layouts.create(raw, self.dialect, found, upgrade=upgrade)
            self.on_open(SqliteConnection(raw, self._clock))
            raw.execute("COMMIT")
        except (sqlite3.DatabaseError, StoreUnusable):
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raise
        layouts.log_upgrade(found)
        self._file.opened()
        self._ready = True
        return found

    def close(self) -> None:
        with suppress(StoreUnavailable):  # it goes on its way without us
            self.sync()
        with self._commits.closed(), self._watch_lock:
            readers, self._readers = self._readers, deque()
            _close_all(readers)
            if self._watch is not None:
                self._watch.close()
            self._watch = None
            self._sync.close()
            self._file.closed()
            self._ready = False


class _Older(Exception):
    """The tables are of an older layout than they were: a copy was restored into the file. Nothing was changed."""


def _close_all(readers: deque[SqliteConnection], *, keep: int = 0) -> None:
    """Close readers until so many are left; several threads may be at it."""
    while len(readers) > keep:
        try:
            readers.popleft().raw.close()
        except IndexError:
            return


def _layout(raw: sqlite3.Connection) -> Layout:
    """The layout that the tables have, with what is missing in it."""
    found = raw.execute("SELECT type, name FROM sqlite_master").fetchall()
    columns = {
        name: [row[0] for row in raw.execute("SELECT name FROM pragma_table_info(?)", (name,)).fetchall()]
        for kind, name in found
        if kind == "table" and name in layouts.TABLES
    }
    indexes = [name for kind, name in found if kind == "index"]
    rows = raw.execute(layouts.READ).fetchall() if "bgtasks_meta" in columns else []
    return layouts.of_rows(rows, layouts.missing(columns, indexes))


def _connect_existing(path: str, **options: Any) -> sqlite3.Connection:
    """A connection to a file that is there.

    SQLite would make an empty one in the place of one that has gone, and then delete the log beside it as that of
    another (sqlite.org, pager.c, ``pagerOpenWalIfPresent``): with it goes what is stored in that log alone, also if the
    file is put back.
    """
    uri = f"{Path(path).absolute().as_uri()}?mode=rw"
    raw: sqlite3.Connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, **options)
    return raw


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
