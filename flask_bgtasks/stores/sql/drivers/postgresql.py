"""PostgreSQL: a pooled connection and a transaction for each operation, rows locked while they change, its own time.

A server that is away, overloaded or silent is unavailable, within seconds and in every operation: connections are
limited in number, and each of them in how long it is waited for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from ....core.transitions.transition import Durability
from ....errors import ConfigurationError, NotStorable, OutcomeUnknown, StoreUnavailable, StoreUnusable
from ....runtime.fork import after_fork_in_child
from ....wording import NO_DATABASE_URL
from ...tables import Layout
from . import layouts
from .base import Database, Operation
from .postgres_connection import PostgresConnection
from .server_clock import ServerClock

log = logging.getLogger("flask_bgtasks")

T = TypeVar("T")

SCHEMA_LOCK = 0x62677461736B73  # "bgtasks": the advisory lock of the one process that makes or upgrades the tables

CONNECT_SECONDS = 5
"""For the server to take a connection."""

STATEMENT_SECONDS = 10
"""For a statement, locks that it waits for included; as long as SQLite waits for another process. Also for one of the
pool's connections to become free."""

IDLE_SECONDS = 20
"""After which the server ends a transaction whose process sleeps in the middle: others wait for its locks."""

UPGRADE_SECONDS = 600
"""For a statement that makes or upgrades tables: an index on a long history takes its time."""

LOCK_SECONDS = 3
"""For a lock on a table that is upgraded. Who comes later waits behind the one that waits for it: a long query, or a
backup, would hold up all that the running processes do. So it gives up, well within what those wait for a statement,
lets them pass, and tries again."""

TCP = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""Of libpq (postgresql.org/docs, "Parameter Key Words"; seconds, the last in milliseconds): what was sent and is not
acknowledged for ten seconds ends the connection, and an idle one is asked whether it is there."""

LIBPQ = ("psycopg", "psycopg2")  # the drivers that take its parameters

KEPT_CONNECTIONS = 8  # idle ones in the pool; more are opened when needed, and closed after use

TRIES = 3
"""Of a transaction that PostgreSQL ended for another one's sake, or whose connection was lost before its commit."""

USED = "bgtasks: used before"
"""The key of what a pooled connection remembers: a new one works, one that lay in the pool may have been lost."""

POOLER = "bgtasks: through a pooler"
"""The key of what a pooled connection remembers: its sessions are others' too, so that it can set nothing in them."""

_LIMITS = """SELECT CASE WHEN %(known)s AND pg_backend_pid() <> %(pid)s THEN NULL ELSE
set_config('statement_timeout', %(statement)s, false) ||
set_config('idle_in_transaction_session_timeout', %(idle)s, false) END"""

_LOCAL_LIMITS = """SELECT set_config('statement_timeout', '{statement:.0f}', true),
set_config('idle_in_transaction_session_timeout', '{idle:.0f}', true)"""

_COLUMNS = """SELECT name, attname FROM unnest(%(names)s::text[]) AS name JOIN pg_attribute
ON attrelid = to_regclass(name) WHERE attnum > 0 AND NOT attisdropped"""

_INDEXES = """SELECT name FROM unnest(%(names)s::text[]) AS name JOIN pg_index ON indexrelid = to_regclass(name)
WHERE indisvalid"""
"""Without those that CREATE INDEX CONCURRENTLY left half made."""


class PostgresDatabase(Database):
    """A PostgreSQL database, by an SQLAlchemy URL.

    :param connections: how many may be open at once; who needs one more waits for it.
    """

    begin = ("BEGIN", f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")

    durable = frozenset({Durability.DISK, Durability.SERVER})

    def __init__(self, url: str, *, connections: int = 32) -> None:
        kept = min(KEPT_CONNECTIONS, connections)
        try:
            address = sa.make_url(url)
            libpq = {"connect_timeout": CONNECT_SECONDS, **TCP}
            # Made here, connected on first use. One commit costs a round trip: a dozen threads keep a dozen busy.
            self._engine = sa.create_engine(
                address,
                isolation_level="AUTOCOMMIT",
                pool_reset_on_return=None,  # whoever takes a connection leaves no transaction in it
                pool_size=kept,
                max_overflow=connections - kept,
                pool_timeout=STATEMENT_SECONDS,
                connect_args={name: value for name, value in libpq.items() if name not in address.query}
                if address.get_driver_name() in LIBPQ
                else {},
            )
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"BGTASKS_STORE: the driver {error.name!r} is not installed: pip install 'flask-bgtasks[postgresql]'"
            ) from error
        except sa.exc.SQLAlchemyError as error:
            raise ConfigurationError(f"BGTASKS_STORE: {error}") from error
        self.dialect = self._engine.dialect
        self._driver: Any = self.dialect.dbapi
        self._connection = PostgresConnection
        if self.dialect.driver == "psycopg":
            from . import psycopg_connection

            sa.event.listen(self._engine, "do_connect", _connect_limited)
            self._connection = psycopg_connection.best()
        sa.event.listen(self._engine, "connect", _limit)
        self._clock = ServerClock()
        self._ready = False
        self._closed = False  # from then on each operation closes what it opens: threads may come late
        self.layout_watch = layouts.LayoutWatch()
        after_fork_in_child(self._forget)

    def _forget(self) -> None:
        # The parent's sockets are left to the parent (docs.sqlalchemy.org, "Using Connection Pools with
        # Multiprocessing or os.fork()").
        self._engine.dispose(close=False)

    def now(self) -> datetime:
        return self._clock.now() or self.read(lambda connection: connection.now())

    def write(self, operation: Operation[T], *, durable: bool, soon: bool = False) -> T:
        return self._tried(lambda connection: connection.transact(operation, durable=durable))

    def read(self, operation: Operation[T]) -> T:
        return self._tried(operation)

    def _tried(self, use: Callable[[PostgresConnection], T]) -> T:
        for tries in range(1, TRIES + 1):
            try:
                return self._use_one(use)
            except _Again as again:
                if tries == TRIES:
                    raise again.refusal from again.__cause__
        raise AssertionError

    def _use_one(self, use: Callable[[PostgresConnection], T]) -> T:
        """Use a connection of the pool. :raises _Again: nothing was changed, and the next try may go well."""
        pool = self._engine.pool
        with self._reported():
            self._prepare()
            pooled = self._engine.raw_connection()
        clean = False  # until that is certain: Ctrl-C may come while it is rolled back
        try:
            limits = _LOCAL_LIMITS.format(**_limits()) if POOLER in pooled.info else None
            connection = self._connection(pooled.driver_connection, self._clock, limits=limits)
            was_used, pooled.info[USED] = USED in pooled.info, True
            try:
                if self.layout_watch.due:
                    self._look(connection)
                result = use(connection)
                clean = True
                return result
            except BaseException as error:
                clean = self._recovered(connection, error)
                if not isinstance(error, self._driver.Error):
                    raise
                if not clean and self._engine.pool is pool:
                    self._engine.dispose()  # the others in it are as old, and would be found one by one
                meaning = self._meaning(error, connection, lost=not clean, was_used=was_used)
                if meaning is error:
                    raise
                raise meaning from error
        finally:
            # A pool that was closed meanwhile closes nothing any more, and nobody closes what is opened after that.
            if not clean or self._closed or self._engine.pool is not pool:
                pooled.invalidate()
            pooled.close()

    def _recovered(self, connection: PostgresConnection, error: BaseException) -> bool:
        """Undo what an operation did that raised; whether the connection can be used again."""
        if not isinstance(error, Exception):  # this thread is being ended in the middle of something
            return False
        if connection.begun or isinstance(error, self._driver.Error):
            try:
                connection.recover()
            except Exception:
                return False
        return True

    def _meaning(
        self, error: Exception, connection: PostgresConnection, *, lost: bool, was_used: bool
    ) -> BaseException:
        """What the store says of a driver's error."""
        if _state(error) == UNDEFINED_TABLE:  # dropped, or another database was put in its place
            self._ready = False
        elif _state(error) in OTHER_LAYOUT:
            self.layout_watch.doubt()
            return _Again(_unavailable(error))
        if connection.ending and lost:
            return OutcomeUnknown(
                f"the connection was lost during a commit, which may have been made: {first_line(error)}"
            )
        refusal = _unavailable(error)
        if _is_conflict(error) or (lost and was_used):  # it was lost while it lay in the pool, most likely
            return _Again(refusal)
        return refusal

    # -- the tables ----------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """See that the tables are there. One process makes them, or upgrades them; all others only look.

        To make what is there already is not harmless: ``CREATE INDEX IF NOT EXISTS`` locks table after table, in an
        order in which those who write do not, and each such pair is a deadlock.
        """
        if not self._ready:
            self._open(upgrade=self.auto_upgrade)
            self._ready = True

    def _open(self, *, upgrade: bool) -> Layout:
        """Make the tables, where that is to be done; their layout before."""
        for tries in range(1, TRIES + 1):
            try:
                with self._engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
                    found = self._make(connection, upgrade=upgrade)
                layouts.log_upgrade(found)
                return found
            except sa.exc.DBAPIError as error:  # old processes that write while the tables are upgraded
                if tries == TRIES or not (_is_conflict(error.orig) or _state(error.orig) == LOCK_NOT_AVAILABLE):
                    raise
        raise AssertionError

    def _make(self, connection: sa.Connection, *, upgrade: bool) -> Layout:
        raw: Any = connection.connection
        mine = PostgresConnection(raw, self._clock)
        # Protects the making of the tables, and the list of apps, until this transaction ends.
        mine.execute(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")
        found = _layout(mine)
        if not found.usable:
            mine.execute(f"SET LOCAL statement_timeout = '{UPGRADE_SECONDS}s'")
            mine.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
            with _patient(raw.driver_connection):
                layouts.create(_DriverSql(connection), self.dialect, found, upgrade=upgrade)
        self.on_open(mine)
        return found

    def _look(self, connection: PostgresConnection) -> None:
        """See that a newer release has not upgraded the tables meanwhile. :raises StoreUnusable: it has."""
        if not self.layout_watch.see(layouts.of_rows(connection.execute(layouts.READ).fetchall())):
            self._ready = False
            raise _Again(StoreUnavailable("the task store cannot be used right now: its tables are being upgraded"))

    def layout(self) -> Layout:
        with self._reported(), self._engine.connect() as connection:
            return _layout(PostgresConnection(connection.connection, self._clock))

    def upgrade(self) -> Layout:
        with self._reported():
            found = self._open(upgrade=True)
        self._ready = True
        return found

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """:raises BackgroundTasksError: what an error of the driver's, or of its pool's, means."""
        try:
            yield
        # The pool's own too: sqlalchemy.exc.TimeoutError where all connections are taken.
        except (sa.exc.SQLAlchemyError, self._driver.Error, OSError) as error:
            raise _unavailable(error) from error

    def change_token(self) -> Hashable | None:
        """There is none: a reader asks for the versions of what it follows."""
        return None

    def close(self) -> None:
        self._closed = True
        self._engine.dispose()


def connection_arguments(url: str) -> dict[str, Any]:
    """What psycopg's ``connect`` takes for an SQLAlchemy URL: for a connection beside the pool, limited as those in it.

    :raises ConfigurationError: it is none of a PostgreSQL database.
    """
    try:
        address = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigurationError(NO_DATABASE_URL) from None
    if address.get_backend_name() != "postgresql":
        raise ConfigurationError(f"{address.drivername!r} is not the scheme of a PostgreSQL database")
    address = address.set(drivername="postgresql+psycopg")
    _, arguments = address.get_dialect()().create_connect_args(address)
    return {"connect_timeout": CONNECT_SECONDS, **TCP, **arguments}


class _Again(Exception):
    """Nothing was changed, and it may go well if it is run again."""

    def __init__(self, refusal: BaseException) -> None:
        super().__init__(refusal)
        self.refusal = refusal


def _connect_limited(dialect: Any, record: Any, arguments: Any, parameters: Any) -> Any:
    from .psycopg_connection import LimitedConnection

    return LimitedConnection.connect(*arguments, **parameters)


@contextmanager
def _patient(connection: Any) -> Iterator[None]:
    """Let a connection be silent for as long as tables are made. Other drivers than psycopg have no such limit."""
    if not hasattr(connection, "silence"):
        yield
        return
    before, connection.silence = connection.silence, UPGRADE_SECONDS
    try:
        yield
    finally:
        connection.silence = before


def _limit(raw: Any, record: Any) -> None:
    """Limit what a session may wait for. Not among the parameters of the connection: PgBouncer refuses those.

    Through a pooler each transaction may come to another session, which others use before and after: what is set in
    one stays there for them, and what is prepared in one is not found in the next. So there each transaction has its
    limits, and nothing is prepared. A pooler gives its connections process ids of its own invention.
    """
    limits = {name: f"{milliseconds:.0f}" for name, milliseconds in _limits().items()}
    info = getattr(raw, "info", None)  # of psycopg and psycopg2
    cursor = raw.cursor()
    cursor.execute(_LIMITS, {**limits, "known": info is not None, "pid": 0 if info is None else info.backend_pid})
    if cursor.fetchone()[0] is None:
        record.info[POOLER] = True
        if hasattr(raw, "prepare_threshold"):  # of psycopg; other drivers prepare nothing by themselves
            raw.prepare_threshold = None
    raw.commit()


def _limits() -> dict[str, float]:
    """In milliseconds; looked up when they are used, since tests have shorter ones."""
    return {"statement": STATEMENT_SECONDS * 1000, "idle": IDLE_SECONDS * 1000}


def _layout(connection: PostgresConnection) -> Layout:
    """The layout that the tables have, with what is missing in it."""
    columns: dict[str, set[str]] = {}
    for table, column in connection.execute(_COLUMNS, {"names": list(layouts.TABLES)}).fetchall():
        columns.setdefault(table, set()).add(column)
    indexes = [row[0] for row in connection.execute(_INDEXES, {"names": list(layouts.INDEXES)}).fetchall()]
    rows = connection.execute(layouts.READ).fetchall() if "bgtasks_meta" in columns else []
    return layouts.of_rows(rows, layouts.missing(columns, indexes))


class _DriverSql:
    """Lets :func:`.layouts.create` execute texts on an SQLAlchemy connection."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str) -> Any:
        return self._connection.exec_driver_sql(sql)


# -- errors: classes and codes are those of PostgreSQL's documentation, appendix A -------------------------------------

UNDEFINED_TABLE = "42P01"

OTHER_LAYOUT = ("42703", "23502")
"""Undefined column, not-null violation: a newer release changed the tables, or a copy of before an upgrade was
restored. Where the layout is ours after all, it is a defect."""

INSUFFICIENT_PRIVILEGE = "42501"

LOCK_NOT_AVAILABLE = "55P03"

CONFLICTS = ("40001", "40P01", "23505")
"""Serialization failure, deadlock, unique violation: of two creates with one idempotency key, the second finds the
first's task when it looks again."""


def _state(error: BaseException | None) -> str | None:
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)  # psycopg, psycopg2
    return None if state is None else str(state)


def _is_conflict(error: BaseException | None) -> bool:
    return error is not None and _state(error) in CONFLICTS


def _is_about_a_value(error: Exception) -> bool:
    """Whether another try fails as well: NUL, a number out of range, an unknown type, an index entry too large.

    Classes 22 ("data exception") and 54 ("program limit exceeded"); a type that psycopg has no adapter for is never
    sent, and has none.
    """
    state = _state(error)
    if state is None:
        return type(error).__name__ in ("DataError", "ProgrammingError")
    return state[:2] in ("22", "54")


def _is_defect(error: Exception) -> bool:
    """Whether it is neither the server's state nor a value: a statement that is wrong, a constraint that is broken."""
    state = _state(error)
    return state is not None and state[:2] in ("23", "42") and state != UNDEFINED_TABLE


def first_line(error: BaseException) -> str:
    """What a driver's error says, without the statement and its details."""
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


def _unavailable(error: Exception) -> Exception:
    """What the store says of an error; a defect stays what it is."""
    cause: Exception = getattr(error, "orig", None) or error
    if _state(cause) == INSUFFICIENT_PRIVILEGE:
        return StoreUnusable(
            f"BGTASKS_STORE: this user of the database may not do what has to be done: {first_line(cause)}. To make or "
            "upgrade the tables, run `flask bgtasks db upgrade` as a user who may, and grant this one what it needs",
            "its database refuses what has to be done",
        )
    if _is_about_a_value(cause):
        return NotStorable(f"the task store cannot keep a value: {first_line(cause)}")
    if _is_defect(cause):
        return error
    if isinstance(cause, sa.exc.TimeoutError):
        return StoreUnavailable("the task store cannot be used right now: all connections of this process are in use")
    return StoreUnavailable(f"the task store cannot be used right now: {first_line(cause)}")
