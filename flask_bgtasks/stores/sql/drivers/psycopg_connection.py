"""A connection of psycopg's that never waits for ever: for servers, and networks, that fall silent.

TCP's own time-outs end a connection whose packets vanish. They cannot where the other side's kernel still acknowledges:
a server that is frozen, a proxy that has lost its server. So each wait for the driver has a limit here too.
"""

from __future__ import annotations

import selectors
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import waiting

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


def _end(gen: Generator[Any, Any, Any]) -> None:
    """End an operation whose connection is lost or given up.

    Left to the garbage collector, a generator of psycopg's pipelines writes "Exception ignored in": its ``finally``
    asks the server for the remaining results, which fails (`psycopg.Error`) or yields once more (`RuntimeError`).
    """
    with suppress(psycopg.Error, RuntimeError):
        gen.close()
