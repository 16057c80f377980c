"""A connection of psycopg's that never waits for ever: for servers, and networks, that fall silent.

TCP's own time-outs end a connection whose packets vanish. They cannot where the other side's kernel still acknowledges:
a server that is frozen, a proxy that has lost its server. So each wait for the driver has a limit here too.
"""

from __future__ import annotations

import selectors
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import waiting

from .base import Operation, T
from .postgres_connection import PostgresConnection

SILENCE_SECONDS = 12.0
"""How long a connection may be silent in the middle of an operation. Longer than a statement may take, so that the
server, where it lives, says the reason first."""

_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)  # unlike epoll's, it costs no system calls


class LimitedConnection(psycopg.Connection[Any]):
    """Gives up, and closes, when nothing came or went for so many seconds."""

    silence: float = SILENCE_SECONDS

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        """Run one of psycopg's generators to its end. Its own loop (:mod:`psycopg.waiting`) has no limit before 3.3."""
        try:
            wanted = next(gen)
            if wanted & waiting.Wait.W:  # a socket that takes no more says so when it is written to
                wanted = gen.send(waiting.Ready.W)
            with _Selector() as selector:
                selector.register(self.pgconn.socket, int(wanted))
                while True:
                    ready = selector.select(self.silence)
                    if not ready:
                        self.pgconn.finish()  # whatever comes now belongs to nobody
                        raise psycopg.OperationalError(f"the server was silent for {self.silence:g} s")
                    now = gen.send(waiting.Ready(ready[0][1]))
                    if now != wanted:
                        wanted = now
                        selector.modify(self.pgconn.socket, int(wanted))
        except StopIteration as end:
            return end.value
        except BaseException:
            _end(gen)
            raise


def best() -> type[PostgresConnection]:
    """The connection that waits for the fewest answers: libpq has pipelines since PostgreSQL 14."""
    return PipelinedConnection if psycopg.Pipeline.is_supported() else PostgresConnection


class PipelinedConnection(PostgresConnection):
    """Sends the statements of a transaction ahead of their answers, and waits where one is needed.

    An error is raised by whatever waits next, at the latest by the end of the transaction.
    """

    def transact(self, operation: Operation[T], *, durable: bool) -> T:
        try:
            with self._pipelined():
                return super().transact(operation, durable=durable)
        except psycopg.errors.PipelineAborted as aborted:
            raise _first(aborted) from None

    @contextmanager
    def _pipelined(self) -> Iterator[None]:
        block = self.raw.pipeline()
        block.__enter__()
        try:
            yield
        except Exception:
            # What was sent behind the error is refused for its sake: told of the error, psycopg would log each refusal.
            with suppress(psycopg.Error):
                block.__exit__(None, None, None)
            raise
        block.__exit__(None, None, None)  # waits for the rest. Not where this thread is being ended

    def _settle(self) -> None:
        # Not Pipeline.sync(): it waits for answers though a large statement may not have been sent to its end.
        self.execute("SELECT 1").fetchone()

    def _command(self, sql: str) -> None:
        self.raw.cursor().execute(sql, prepare=False)

    def recover(self) -> None:
        if self.begun and not self.writes and self.raw.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS:
            self.raw.execute("COMMIT", prepare=False)  # nothing to undo: psycopg may keep its prepared statements
        elif self.begun:
            self.raw.rollback()
        else:
            super().recover()


def _first(error: BaseException) -> BaseException:
    """The error for whose sake the rest of a pipeline was refused; psycopg may raise it before, or as the context."""
    while isinstance(error, psycopg.errors.PipelineAborted) and error.__context__ is not None:
        error = error.__context__
    return error


def _end(gen: Generator[Any, Any, Any]) -> None:
    """End an operation whose connection is lost or given up.

    Left to the garbage collector, a generator of psycopg's pipelines writes "Exception ignored in": its ``finally``
    asks the server for the remaining results, which fails (`psycopg.Error`) or yields once more (`RuntimeError`).
    """
    with suppress(psycopg.Error, RuntimeError):
        gen.close()
