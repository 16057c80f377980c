"""The pending tasks on disk: an SQLite file that several threads and processes share, and that survives crashes.

Knows how records are stored, not what their states mean: every change is a function of :mod:`.records`, applied inside
a write transaction, so that two processes which decide on the same record do so one after the other.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ...errors import ConfigurationError, KeyReused, StoreUnavailable, TaskNotFound, TooManyPending
from ...runtime.fork import after_fork_in_child
from .ids import is_request_id
from .records import PENDING, Record, RecordTransition, State, joined

BUSY_SECONDS = 10.0  # how long a change waits for another process's transaction
LAYOUT = 2  # of the file; a newer one is refused

MAX_PENDING = 1000
MAX_FINISHED = 200
FINISHED_SECONDS = 24 * 3600.0  # for which what is over is remembered, so that a late message of it finds its record

_TABLE = """
CREATE TABLE IF NOT EXISTS pending (
    server TEXT NOT NULL, owner TEXT NOT NULL, key TEXT NOT NULL, request_id TEXT, state TEXT NOT NULL,
    path TEXT, body BLOB, content_type TEXT, body_hash TEXT, created_at REAL NOT NULL, expires_at REAL NOT NULL,
    status TEXT NOT NULL, seq INTEGER NOT NULL, attempt INTEGER NOT NULL, percentage REAL NOT NULL, progress TEXT,
    error_message TEXT, via TEXT NOT NULL, cursor INTEGER NOT NULL, tries INTEGER NOT NULL, next_try_at REAL NOT NULL,
    not_before REAL NOT NULL, misses INTEGER NOT NULL, settled_seq INTEGER NOT NULL, settled_attempt INTEGER NOT NULL,
    provisional INTEGER NOT NULL, holder TEXT, held_at REAL NOT NULL, updated_at REAL NOT NULL,
    doubted_at REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (server, owner, key), UNIQUE (server, owner, request_id)
)
"""
_SINCE_LAYOUT_1 = "ALTER TABLE pending ADD COLUMN doubted_at REAL NOT NULL DEFAULT 0"
_COLUMNS = tuple(field.name for field in fields(Record))
_WITHOUT_BODY = tuple("NULL" if name == "body" else name for name in _COLUMNS)

_inherited: list[sqlite3.Connection] = []
"""A parent's connections in a child of fork: never used, never closed (sqlite.org/howtocorrupt.html, 2.6)."""


_MEND = (
    "Name a file that this user can write: Client(…, store='/data/pending.sqlite3'), bgtasks-client --store, or "
    "BGTASKS_CLIENT_STORE. With store=':memory:' nothing is kept beyond this process"
)


def default_path() -> Path:
    """The registry of this user, where programs of this system keep what they remember.

    :raises ConfigurationError: the user has no home folder.
    """
    base = os.environ.get("XDG_STATE_HOME") or ""  # XDG Base Directory: relative ones are to be ignored
    if sys.platform == "darwin":
        folder = _home() / "Library/Application Support"
    else:
        folder = Path(base) if base.startswith("/") else _home() / ".local/state"
    return folder / "flask-bgtasks/pending.sqlite3"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:  # no HOME, and the user is not in the system's list: many containers
        raise ConfigurationError(
            f"the pending tasks are kept in the user's home folder, and there is none ({error}). {_MEND}"
        ) from error


class PendingRegistry:
    """The records of one server and owner, in a file that may hold those of others too.

    :param path: the file; it and its folder are made, for this user alone. ``":memory:"`` keeps nothing.
    :param now: the time as it is kept over restarts.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, server: str, owner: str = "", now: Callable[[], float] = time.time
    ) -> None:
        self.path = os.fspath(path)
        self._scope = (server, owner)
        self._now = now
        self._worked = False  # whether it could ever be opened
        self._reset()
        after_fork_in_child(self._forget)

    def _reset(self) -> None:
        self._lock = threading.RLock()  # protects the one connection
        self._connection: sqlite3.Connection | None = None

    def _forget(self) -> None:
        if self._connection is not None:
            _inherited.append(self._connection)
        self._reset()

    # -- reading -------------------------------------------------------------------------------------------------------

    def get(self, name: str) -> Record | None:
        """The record of a key, or of a task by its id."""
        return next(self._select("AND key = ?", name), None) or self.find(name)

    def find(self, request_id: str) -> Record | None:
        """The record of a task."""
        return next(self._select("AND request_id = ?", request_id), None)

    def these(self, keys: Iterable[str]) -> list[Record]:
        """The records of these keys, those that there are."""
        return [record for key in keys if (record := self.get(key)) is not None]

    def all_in(self, states: Collection[State]) -> list[Record]:
        """The records in these states, oldest first, without their bodies."""
        condition, names = _among(states)
        return list(self._select(f"AND {condition} ORDER BY created_at, key", *names, what=_WITHOUT_BODY))

    # -- writing -------------------------------------------------------------------------------------------------------

    def add(self, record: Record) -> Record:
        """Store a record; the one that is there already, if its key or its task is known.

        :raises KeyReused: the key was used for another request. :raises TooManyPending: there is no room.
        """
        with self._transaction(durable=True) as connection:
            known = self.get(record.key)
            if known is not None:
                if known.body_hash != record.body_hash and record.body_hash is not None:
                    raise KeyReused(record.key)
                return known
            if self._count(connection, PENDING) >= MAX_PENDING:
                raise TooManyPending(MAX_PENDING)
            record = replace(record, updated_at=self._now())
            names, values = ("server", "owner", *_COLUMNS), (*self._scope, *_values(record))
            marks = ", ".join("?" * len(names))
            connection.execute(f"INSERT INTO pending ({', '.join(names)}) VALUES ({marks})", values)
        return record

    def change(self, key: str, transition: RecordTransition) -> tuple[Record, Record]:
        """Apply a change to a record; how it was before, and how it is now. On disk before this returns.

        :raises TaskNotFound: there is no such record: it was over, and was pruned.
        """
        return self._change(key, transition, durable=True)

    def note(self, key: str, transition: RecordTransition) -> tuple[Record, Record]:
        """As :meth:`change`, for what a power cut may take back: how far a task is, what a consumer was given."""
        return self._change(key, transition, durable=False)

    def _change(self, key: str, transition: RecordTransition, *, durable: bool) -> tuple[Record, Record]:
        with self._transaction(durable=durable) as connection:
            before = self.get(key)
            if before is None:
                raise TaskNotFound(key)
            after = transition(before)
            if after is not before:
                after = replace(self._alone(connection, before, after), updated_at=self._now())
                changed = ", ".join(f"{name} = ?" for name in _COLUMNS)
                connection.execute(
                    f"UPDATE pending SET {changed} WHERE server = ? AND owner = ? AND key = ?",
                    (*_values(after), *self._scope, before.key),
                )
        return before, after

    def _alone(self, connection: sqlite3.Connection, before: Record, after: Record) -> Record:
        """There is one record of a task: what was known of it under its id goes into that of its submission."""
        other = self.find(after.request_id) if after.request_id and before.request_id is None else None
        if other is None:
            return after
        connection.execute("DELETE FROM pending WHERE server = ? AND owner = ? AND key = ?", (*self._scope, other.key))
        return joined(after, other)

    def prune(self) -> int:
        """Drop what is over for a day, and all but the newest 200 of what is over; how many."""
        over = (*self._scope, State.ACKED.value)
        where = "server = ? AND owner = ? AND state = ?"
        newest = f"SELECT key FROM pending WHERE {where} ORDER BY updated_at DESC LIMIT {MAX_FINISHED}"
        with self._transaction(durable=False) as connection:
            return connection.execute(
                f"DELETE FROM pending WHERE {where} AND (updated_at < ? OR key NOT IN ({newest}))",
                (*over, self._now() - FINISHED_SECONDS, *over),
            ).rowcount

    def close(self) -> None:
        """Close the file. It is opened again if it is needed."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # -- the file ------------------------------------------------------------------------------------------------------

    def _select(self, condition: str, *values: Any, what: Sequence[str] = _COLUMNS) -> Iterator[Record]:
        query = f"SELECT {', '.join(what)} FROM pending WHERE server = ? AND owner = ? {condition}"
        with self._lock, self._unavailable():
            rows = self._open().execute(query, (*self._scope, *values)).fetchall()
        return filter(_is_sound, map(_record, rows))

    def _count(self, connection: sqlite3.Connection, states: Collection[State]) -> int:
        condition, names = _among(states)
        query = f"SELECT count(*) FROM pending WHERE server = ? AND owner = ? AND {condition}"
        (count,) = connection.execute(query, (*self._scope, *names)).fetchone()
        return int(count)

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        with self._lock, self._unavailable():
            connection = self._open()
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _unavailable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            mend = "" if self._worked else f". {_MEND}"
            raise StoreUnavailable(
                f"the pending tasks in {self.path!r} cannot be read or written: {error}{mend}"
            ) from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            if self.path != ":memory:":
                _make_private(Path(self.path))
            connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                _prepare(connection, self.path)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
            self._worked = True
        return self._connection


def _make_private(path: Path) -> None:
    """The bodies of requests are nobody else's business."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    (layout,) = connection.execute("PRAGMA user_version").fetchone()
    if layout > LAYOUT:
        raise ConfigurationError(
            f"{path} was written by a newer flask-bgtasks (layout {layout}, known here: {LAYOUT}). "
            "Upgrade this one, or name another file"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    if layout < LAYOUT:
        connection.execute("BEGIN IMMEDIATE")
        (layout,) = connection.execute("PRAGMA user_version").fetchone()  # another process may have done it
        if layout == 1:
            connection.execute(_SINCE_LAYOUT_1)
        connection.execute(_TABLE)
        connection.execute(f"PRAGMA user_version = {LAYOUT}")
        connection.execute("COMMIT")


def _among(states: Collection[State]) -> tuple[str, list[str]]:
    names = [state.value for state in states]
    return f"state IN ({', '.join('?' * len(names))})", names


def _values(record: Record) -> Iterable[Any]:
    for name in _COLUMNS:
        value = getattr(record, name)
        if name == "progress" and value is not None:
            value = json.dumps(value, default=str)
        yield value.value if isinstance(value, State) else value


def _is_sound(record: Record) -> bool:
    """Whether it can be asked about: an earlier version took any text that a server called an id."""
    return record.request_id is None or is_request_id(record.request_id)


def _record(row: tuple[Any, ...]) -> Record:
    found = dict(zip(_COLUMNS, row, strict=True))
    found["state"], found["provisional"] = State(found["state"]), bool(found["provisional"])
    if found["progress"] is not None:
        found["progress"] = json.loads(found["progress"])
    return Record(**found)
