"""Announcements by PostgreSQL's LISTEN and NOTIFY, over one connection to the store's own database.

Through PgBouncer in transaction mode a LISTEN succeeds and nothing is ever heard: the listening session belongs to
whoever comes next. A pooler is told by its process ids, which are not the server's; then it is tried on a name of its
own, with a notification by another connection, whether anything comes through.
"""

from __future__ import annotations

import hashlib
import secrets
import selectors
from typing import Any

import psycopg

from ..errors import ConfigurationError
from ..stores.sql.drivers.postgresql import connection_arguments, first_line
from ..stores.sql.drivers.psycopg_connection import LimitedConnection
from .channel import ANSWER_SECONDS, Channel, ChannelLost

NAME = "bgtasks-announcements"  # of the connection, in pg_stat_activity

NOTIFY = "SELECT set_config('synchronous_commit', 'off', true), pg_notify(%s, %s)"
"""A transaction that notifies is written to the log, and holds a lock of all who notify until it is there. Nothing is
lost with this one, so it waits for no disk."""

DEAF = (
    "a pooler stands before the database and hands each transaction to another session (PgBouncer's "
    "pool_mode=transaction), so that nothing is heard. This process polls; give the database's own address in "
    "BGTASKS_ANNOUNCEMENTS='postgresql+psycopg://…'"
)


class PostgresChannel(Channel):
    """The channel of an app in a database.

    :param url: of the database, for SQLAlchemy.
    :raises ConfigurationError: it is none of a PostgreSQL database.
    """

    def __init__(self, url: str, *, app_id: str) -> None:
        try:
            self._arguments = {"application_name": NAME, **connection_arguments(url)}
        except ConfigurationError as error:
            raise ConfigurationError(f"BGTASKS_ANNOUNCEMENTS: {error}") from error
        # At most 63 bytes (postgresql.org/docs, "Identifiers"), of an id that may have a hundred characters.
        self._name = f"bgtasks_{hashlib.blake2s(app_id.encode(), digest_size=12).hexdigest()}"
        self._connection: LimitedConnection | None = None
        self._pooled = False
        self._heard: list[tuple[str, str]] = []  # channel and message

    def connect(self) -> None:
        self._connection = connection = self._connect()
        self._heard = []
        # What psycopg finds beside the answer to a statement.
        connection.add_notify_handler(lambda found: self._heard.append((found.channel, found.payload)))
        row = self._execute("SELECT pg_backend_pid()").fetchone()
        self._pooled = row[0] != connection.info.backend_pid

    def listen(self) -> str | None:
        if self._pooled and not self._passes():
            return DEAF
        self._execute(f"LISTEN {self._name}")
        return None

    def _passes(self) -> bool:
        """Whether a notification reaches this connection through the pooler. On a name that nobody uses again."""
        name = f"bgtasks_{secrets.token_hex(12)}"
        self._execute(f"LISTEN {name}")
        self._notify_by_another(name, "")
        with selectors.DefaultSelector() as selector:
            selector.register(self.fileno(), selectors.EVENT_READ)
            while selector.select(ANSWER_SECONDS):
                if name in (channel for channel, _ in self._all()):
                    self._execute(f"UNLISTEN {name}")
                    return True
        return False

    def fileno(self) -> int:
        return self._open.pgconn.socket

    @property
    def _open(self) -> LimitedConnection:
        if self._connection is None:
            raise ChannelLost("it is closed")
        return self._connection

    def received(self) -> list[str]:
        return [message for name, message in self._all() if name == self._name]

    def _all(self) -> list[tuple[str, str]]:
        pgconn = self._open.pgconn
        try:
            pgconn.consume_input()
            while (found := pgconn.notifies()) is not None:
                self._heard.append((found.relname.decode(), found.extra.decode(errors="replace")))
        except psycopg.Error as error:
            raise ChannelLost(first_line(error)) from error
        heard, self._heard[:] = list(self._heard), []
        return heard

    def publish(self, message: str) -> None:
        self._execute(NOTIFY, (self._name, message))

    def prove(self, message: str) -> None:
        if self._pooled:  # the answer to this very statement would bring it, whoever listens
            self._notify_by_another(self._name, message)
        else:
            self.publish(message)

    def _notify_by_another(self, name: str, message: str) -> None:
        other = self._connect()
        try:
            other.execute(NOTIFY, (name, message), prepare=False)
        except psycopg.Error as error:
            raise ChannelLost(first_line(error)) from error
        finally:
            other.close()

    def _connect(self) -> LimitedConnection:
        try:
            connection = LimitedConnection.connect(autocommit=True, **self._arguments)
        except (psycopg.Error, OSError) as error:
            raise ChannelLost(first_line(error)) from error
        connection.silence = ANSWER_SECONDS
        return connection

    def _execute(self, sql: str, parameters: tuple[str, ...] = ()) -> Any:
        try:
            return self._open.execute(sql, parameters or None, prepare=False)
        except (psycopg.Error, OSError) as error:
            raise ChannelLost(first_line(error)) from error

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
