"""Tells an answer that waits whether it still should: whether its client is there, and whether its server goes on.

Without this a place for streams whose client has gone is found free with the next write that fails, two pings later;
and a server that is told to stop waits for its streams as long as it waits at all: 30 s with gunicorn.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

LOOK_SECONDS = 1.0
"""How often those who wait look."""


def cut_short(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """A function that tells whether to wait no longer: the client has left, or the server was told to stop.

    Asking is also the sign of life that gunicorn's master wants of a worker with one thread: it kills one that is
    silent for longer than its timeout, with whatever else runs in that process. A view that hangs is killed as before.

    :param environ: the WSGI environment of the request that waits.
    """
    client_gone, server_stops, beat = gone(environ), stopping(), _heartbeat()

    def look() -> bool:
        beat()
        return client_gone() or server_stops()

    return look


def gone(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """A function that tells whether the client has closed its connection; always False where that cannot be seen.

    A client that only shut down its sending side counts as gone, as proxies have it too.

    :param environ: the WSGI environment, from which the socket is taken: gunicorn's and Werkzeug's servers give it.
    """
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if type(connection) is not socket.socket:  # a TLS socket cannot peek; a test's fake is none
        return lambda: False

    def look() -> bool:
        try:
            return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    return look


def stopping(frame: FrameType | None = None) -> Callable[[], bool]:
    """A function that tells whether the server process was told to stop; always False where that cannot be seen.

    No server tells an app. Gunicorn's workers keep it in an attribute, and the worker is found on the stack, as the
    number of its threads is (:mod:`.capacity`).

    :param frame: where to begin looking; by default the caller's frame.
    """
    worker = _gunicorn_worker(frame or sys._getframe(1), ("gunicorn.workers.sync", *_THREADED))
    return lambda: not getattr(worker, "alive", True)


def _heartbeat() -> Callable[[], object]:
    """What tells gunicorn's master that this worker lives, where the thread that would is the one that waits."""
    worker = _gunicorn_worker(sys._getframe(1), ("gunicorn.workers.sync",))
    return getattr(worker, "notify", lambda: None)


def _gunicorn_worker(frame: FrameType | None, modules: tuple[str, ...]) -> Any:
    while frame is not None:
        if frame.f_code.co_name == "handle" and frame.f_globals.get("__name__") in modules:
            return frame.f_locals.get("self")
        frame = frame.f_back
    return None


_THREADED = ("gunicorn.workers.gthread", "gunicorn.workers.base_async")
