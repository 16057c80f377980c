"""PostgreSQL: a pooled connection and a transaction for each operation, rows locked while they change, its own time."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from ...errors import BackgroundTasksError, ConfigurationError, NotStorable, StoreUnavailable
from ...forks import after_fork_in_child
from .database import Connection, Database, Operation, Parameters
from .rows import moment
from .sqlite import create_schema

T = TypeVar("T")

SCHEMA_LOCK = 0x62677461736B73  # "bgtasks": the advisory lock that keeps two processes from making the tables at once

_NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


class PostgresConnection(Connection):
    """A driver's connection in one transaction."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.writes = 0
        self._now: datetime | None = None

    def execute(self, sql: str, parameters: Parameters = {}) -> Any:  # noqa: B006 - never changed
        cursor = self.raw.cursor()
        cursor.execute(sql, parameters)
        return cursor

    def write(self, sql: str, parameters: Parameters) -> int:
        self.writes += 1
        rowcount: int = self.execute(sql, parameters).rowcount
        return rowcount

    def write_one(self, sql: str, parameters: Parameters) -> int:
        self.writes += 1
        number: int = self.execute(sql, parameters).fetchone()[0]
        return number

    def write_many(self, sql: str, parameters: Sequence[Parameters]) -> None:
        self.writes += 1
        self.raw.cursor().executemany(sql, parameters)

    def lock(self, name: str) -> None:
        self.execute("SELECT pg_advisory_xact_lock(hashtextextended(%(name)s, 0))", {"name": name})

    def now(self) -> datetime:
        if self._now is None:
            self._now = moment(self.execute(_NOW).fetchone()[0])
        return self._now


class PostgresDatabase(Database):
    """A PostgreSQL database, by an SQLAlchemy URL."""

    def __init__(self, url: str) -> None:
        try:
            # Made here, connected on first use. One commit costs a round trip: a dozen threads keep a dozen busy.
            self._engine = sa.create_engine(url, pool_pre_ping=True, pool_size=8, max_overflow=24)
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"BGTASKS_STORE: the driver {error.name!r} is not installed: pip install 'flask-bgtasks[postgresql]'"
            ) from error
        except sa.exc.SQLAlchemyError as error:
            raise ConfigurationError(f"BGTASKS_STORE: {error}") from error
        self.dialect = self._engine.dialect
        self._ready = False
        after_fork_in_child(self._forget)

    def _forget(self) -> None:
        # The parent's sockets are left to the parent (docs.sqlalchemy.org, "Using Connection Pools with
        # Multiprocessing or os.fork()").
        self._engine.dispose(close=False)

    def write(self, operation: Operation[T], *, durable: bool) -> T:
        for last in (False, True):
            try:
                return self._transaction(operation, durable=durable)
            except sa.exc.IntegrityError:
                # Two creates with one idempotency key: the second finds the first's task when it looks again.
                if last:
                    raise
        raise AssertionError

    def read(self, operation: Operation[T]) -> T:
        return self._transaction(operation, durable=True)

    def _transaction(self, operation: Operation[T], *, durable: bool) -> T:
        try:
            self._prepare()
            raw = self._engine.raw_connection()
        except sa.exc.DBAPIError as error:
            raise _unavailable(error) from error
        except self._engine.dialect.dbapi.Error as error:  # type: ignore[union-attr]
            raise _unavailable(error) from error
        driver = self._engine.dialect.dbapi
        try:
            connection = PostgresConnection(raw)
            if not durable:
                connection.execute("SET LOCAL synchronous_commit TO off")
            result = operation(connection)
            raw.commit()
            return result
        except BaseException as error:
            _roll_back(raw)
            if isinstance(error, driver.IntegrityError):  # type: ignore[union-attr]
                raise sa.exc.IntegrityError(None, None, error) from error
            if isinstance(error, driver.OperationalError) or (  # type: ignore[union-attr]
                isinstance(error, driver.Error) and _is_about_a_value(error)  # type: ignore[union-attr]
            ):
                raise _unavailable(error) from error
            raise
        finally:
            raw.close()

    def _prepare(self) -> None:
        if self._ready:
            return
        with self._engine.begin() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")
            create_schema(_DriverSql(connection), self.dialect)
            self.on_open(PostgresConnection(connection.connection))
        self._ready = True

    def change_token(self) -> Hashable | None:
        """There is none: a reader asks for the versions of what it follows."""
        return None

    def close(self) -> None:
        self._engine.dispose()


class _DriverSql:
    """Lets :func:`create_schema` execute texts on an SQLAlchemy connection."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str) -> Any:
        return self._connection.exec_driver_sql(sql)


def _is_about_a_value(error: Exception) -> bool:
    """Whether another try fails as well: NUL, a number out of range, an unknown type, an index entry too large.

    Classes 22 ("data exception") and 54 ("program limit exceeded") of PostgreSQL's error codes (appendix A of its
    documentation); a type that psycopg has no adapter for is never sent, and has none.
    """
    state = getattr(error, "sqlstate", None)
    if state is None:
        return type(error).__name__ in ("DataError", "ProgrammingError")
    return str(state)[:2] in ("22", "54")


def _roll_back(raw: Any) -> None:
    try:
        raw.rollback()
    except Exception:  # the connection is broken: the pool throws it away
        raw.invalidate()


def _unavailable(error: Exception) -> BackgroundTasksError:
    text = str(getattr(error, "orig", None) or error).strip().splitlines()
    if _is_about_a_value(error):
        return NotStorable(f"the task store cannot keep a value: {text[0] if text else type(error).__name__}")
    return StoreUnavailable(f"the task store cannot be used right now: {text[0] if text else type(error).__name__}")
