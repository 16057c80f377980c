"""Tells a waiting answer whether to go on: whether its client is connected, and whether the server keeps running.
Also whether the client reads what is written, and whether that has reached its machine.

Without this, the place of a stream whose client has gone would become free only with the next failing write, two pings
later, and a stopping server would wait for its streams for its full time-out: 30 s with gunicorn.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Any

LOOK_SECONDS = 1.0
"""How often those who wait look."""

ARRIVAL_SECONDS = 2.0
"""How long a machine has to acknowledge what was written: many round trips, and several times TCP's first timeout for
sending again, which is one second (RFC 6298, section 2.1)."""

SEND_SECONDS = 30.0
"""How long a client may take nothing of what was written for it: two pings, and many times what a phone needs that
changes from one network to another. Then its stream ends, and its place is free."""

FIRST_ARRIVAL_LOOK, LAST_ARRIVAL_LOOK = 0.001, 0.05  # seconds between two looks: at first a round trip on the spot


def cut_short(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """A function that tells whether to wait no longer: the client has left, or the server was told to stop.

    Asking is also the sign of life that gunicorn's master wants of a worker with one thread: it kills one that is
    silent for longer than its timeout, with whatever else runs in that process. A view that hangs is killed as before.

    :param environ: the WSGI environment of the request that waits.
    """
    client_gone, server_stops, beat = gone(environ), stopping(), _heartbeat()
    left, next_look = False, 0.0

    def look() -> bool:
        nonlocal left, next_look
        beat()
        now = time.monotonic()
        if now >= next_look:  # not at each event of each stream: it is a system call
            left, next_look = left or client_gone(), now + LOOK_SECONDS / 2
        return left or server_stops()

    return look


def gone(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """A function that tells whether the client has closed its connection; always False where that cannot be seen.

    A client that only shut down its sending side counts as gone, as proxies have it too.

    :param environ: the WSGI environment, from which the socket is taken: gunicorn's and Werkzeug's servers give it.
        Waitress tells it if it looks at its connections meanwhile, and a2wsgi hands on the ASGI server's word.
    """
    if "waitress.client_disconnected" in environ:
        told: Callable[[], bool] = environ["waitress.client_disconnected"]
        return told
    if "asgi.scope" in environ:
        return _gone_from_asgi(environ)
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if type(connection) is not socket.socket:  # a TLS socket cannot peek; a test's fake is none
        return lambda: False
    # Gevent's own `recv` takes "nothing there" for a reason to wait, whatever the flags say.
    system_socket = getattr(connection, _BELOW_GEVENTS, connection)

    def look() -> bool:
        try:
            return bool(system_socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"")
        except BlockingIOError:
            return False
        except OSError:
            return True

    return look


def _gone_from_asgi(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """The same of an ASGI server, which says ``http.disconnect`` to who asks for more of a request that has ended.

    A2wsgi's input asks it for the request's body. Tried with a2wsgi 1.10.
    """
    body = environ["wsgi.input"]
    has_body = environ.get("CONTENT_LENGTH", "0") != "0" or "HTTP_TRANSFER_ENCODING" in environ
    if not type(body).__module__.startswith("a2wsgi.") or (has_body and body.has_more):
        return lambda: False  # what is asked for here would be lost to the view
    import asyncio

    async def wait_for_end() -> None:
        while (await body.receive())["type"] != "http.disconnect":
            pass

    return asyncio.run_coroutine_threadsafe(wait_for_end(), body.loop).done


def arrives(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """A function that waits until all that was written has arrived, and tells whether it has.

    A write succeeds long before that: it fills a buffer of this machine, and a phone that sleeps behind a link which
    nobody has closed acknowledges nothing. Always True where that cannot be seen: on other systems than Linux, and with
    servers that do not give their socket. Of what stands behind a proxy, only the proxy is seen.

    :param environ: the WSGI environment, from which the socket is taken: gunicorn's and Werkzeug's servers give it.
    """
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    descriptor = getattr(connection, "fileno", None)
    if sys.platform != "linux" or descriptor is None:
        return lambda: True

    def wait() -> bool:
        until, pause = time.monotonic() + ARRIVAL_SECONDS, FIRST_ARRIVAL_LOOK
        try:
            while _unacknowledged(descriptor()):
                if time.monotonic() >= until:
                    return False
                time.sleep(pause)
                pause = min(pause * 2, LAST_ARRIVAL_LOOK)
        except (OSError, ValueError):  # it is closed: who knows
            return False
        return True

    return wait


def takes(environ: Mapping[str, Any], ended: Callable[[], bool]) -> Callable[[], bool]:
    """A function that waits until the client's connection takes more, and tells whether it does.

    A client that does not read fills the buffers between the two machines; then a write waits for it without an end,
    and holds its thread. Where it takes nothing for :data:`SEND_SECONDS`, its connection is cut, so that the server's
    last write does not wait for it either. Always True where the connection cannot be seen: with servers that do not
    give their socket (which have timeouts of their own), and on Windows.

    :param environ: the WSGI environment, from which the socket is taken: gunicorn's and Werkzeug's servers give it.
    :param ended: tells whether to wait no longer.
    """
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if not isinstance(connection, socket.socket) or not hasattr(select, "poll"):
        return lambda: True

    at_once = _system_poll()
    with suppress(ValueError):  # it is closed; where nothing is registered, nothing is there at once
        at_once.register(connection.fileno(), select.POLLOUT)

    def wait() -> bool:
        try:
            if at_once.poll(0):
                return connection.fileno() >= 0  # one that was closed has an event too
            until = time.monotonic() + SEND_SECONDS
            looker = select.poll()
            looker.register(connection.fileno(), select.POLLOUT)
            while not looker.poll(LOOK_SECONDS * 1000):
                if time.monotonic() >= until or ended():
                    _cut(connection)
                    return False
        except (OSError, ValueError):  # it is closed
            return False
        return True

    return wait


def limit_writes(environ: Mapping[str, Any]) -> Callable[[], None]:
    """Have a single write end that takes longer than :data:`SEND_SECONDS`; returns what undoes it.

    For a write that was begun where :func:`takes` saw room for a part of it. The kernel ends it; under gevent, whose
    sockets never block the kernel, gevent does. Does nothing where the server's sockets have a timeout of their own,
    and on Windows.
    """
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if not isinstance(connection, socket.socket) or sys.platform == "win32" or connection.gettimeout() is not None:
        return lambda: None
    if hasattr(connection, _BELOW_GEVENTS):
        connection.settimeout(SEND_SECONDS)
        return lambda: connection.settimeout(None)
    option = (socket.SOL_SOCKET, socket.SO_SNDTIMEO)
    try:
        before = connection.getsockopt(*option, struct.calcsize("ll"))
        connection.setsockopt(*option, struct.pack("ll", int(SEND_SECONDS), 0))
    except OSError:  # it is closed, or knows no such option
        return lambda: None

    def undo() -> None:
        with suppress(OSError):
            connection.setsockopt(*option, before)  # the connection may be kept for another request

    return undo


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        # Below TLS: the socket's own `shutdown` would first tell the other side, which takes nothing.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def stopping(frame: FrameType | None = None) -> Callable[[], bool]:
    """A function that tells whether the server process was told to stop; always False where that cannot be seen.

    No server tells an app. Gunicorn's workers keep it in an attribute, and the worker is found on the stack, as the
    number of its threads is (:mod:`.server_threads`).

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


def _system_poll() -> Any:
    """The system's ``poll``, also where gevent has put its own in its place, which goes through its loop each time."""
    monkey = sys.modules.get("gevent.monkey")
    poll = select.poll if monkey is None else monkey.get_original("select", "poll")
    return poll()


def _unacknowledged(descriptor: int) -> int:
    """Bytes in a socket's send queue: not sent, or sent and not acknowledged (``SIOCOUTQ`` in tcp(7))."""
    from fcntl import ioctl  # neither is there on Windows
    from termios import TIOCOUTQ  # the same number on Linux, by which Python knows it

    (size,) = struct.unpack("i", ioctl(descriptor, TIOCOUTQ, b"\0\0\0\0"))
    return int(size)


_BELOW_GEVENTS = "_sock"
"""The attribute of gevent's sockets with the system's socket; Python's own have none of that name.

Tried with gevent 26.9.
"""

_THREADED = ("gunicorn.workers.gthread", "gunicorn.workers.base_async")
