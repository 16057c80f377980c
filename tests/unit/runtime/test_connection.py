"""Whether what was written has arrived, as the kernel tells it of real sockets."""

import asyncio
import contextlib
import socket
import sys
import threading
import time

import pytest

from flask_bgtasks.runtime import connection
from flask_bgtasks.runtime.connection import arrives, cut_short, gone, limit_writes, takes
from tests.support.waiting import PATIENCE, until

MUCH = b"x" * 200_000  # more than a small receive buffer takes, less than the send buffer of a loopback connection

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for a socket's send queue")


@contextlib.contextmanager
def tcp():
    """A connection over TCP: the server's side, and a client's that takes in little."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.settimeout(PATIENCE)
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        with server:
            server.settimeout(PATIENCE)
            yield server, client


@contextlib.contextmanager
def unix():
    """As a proxy on the same machine connects."""
    server, client = socket.socketpair()
    with server, client:
        yield server, client


def read_all(client, size):
    while size > 0:
        size -= len(client.recv(65536))


@linux
@pytest.mark.parametrize("pair", [tcp, unix])
@pytest.mark.parametrize("key", ["gunicorn.socket", "werkzeug.socket"])
def test_what_the_other_side_has_taken_has_arrived(pair, key):
    with pair() as (server, client):
        server.sendall(b"the end")
        client.recv(100)

        assert arrives({key: server})()


@linux
def test_what_waits_for_a_client_that_takes_nothing_has_not_arrived(monkeypatch):
    monkeypatch.setattr(connection, "ARRIVAL_SECONDS", 0.2)
    with tcp() as (server, client):
        server.sendall(MUCH)
        began = time.monotonic()

        assert not arrives({"gunicorn.socket": server})()

        assert time.monotonic() - began >= 0.2
        read_all(client, len(MUCH))
        assert arrives({"gunicorn.socket": server})()


@linux
def test_what_is_taken_while_it_is_waited_for_has_arrived(monkeypatch):
    monkeypatch.setattr(connection, "ARRIVAL_SECONDS", PATIENCE)
    with tcp() as (server, client):
        server.sendall(MUCH)
        looked, look = threading.Event(), connection._unacknowledged

        def unacknowledged(descriptor):
            left = look(descriptor)
            looked.set()
            return left

        def read_when_it_is_waited_for():
            looked.wait(PATIENCE)
            read_all(client, len(MUCH))

        monkeypatch.setattr(connection, "_unacknowledged", unacknowledged)
        reader = threading.Thread(target=read_when_it_is_waited_for)
        reader.start()

        assert arrives({"gunicorn.socket": server})()
        reader.join()


@linux
def test_what_was_written_to_a_client_that_had_gone_has_not_arrived(monkeypatch):
    monkeypatch.setattr(connection, "ARRIVAL_SECONDS", 0.1)
    with tcp() as (server, client):
        server.sendall(MUCH)
        client.close()  # with bytes unread, so that it resets the connection

        assert not arrives({"gunicorn.socket": server})()


@linux
def test_on_a_closed_connection_nothing_has_arrived():
    with tcp() as (server, _):
        look = arrives({"gunicorn.socket": server})
        server.close()

        assert not look()


@pytest.mark.parametrize("environ", [{}, {"gunicorn.socket": None}, {"werkzeug.socket": object()}])
def test_where_the_connection_is_not_shown_what_was_written_counts(environ):
    assert arrives(environ)()


def test_where_the_system_does_not_tell_what_was_written_counts(monkeypatch):
    with tcp() as (server, _):
        server.sendall(MUCH)
        monkeypatch.setattr(connection.sys, "platform", "darwin")

        assert arrives({"gunicorn.socket": server})()


def read_to_the_end(client):
    while client.recv(2**20):
        pass


def fill(server):
    """Write until the connection takes no more."""
    server.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            server.send(MUCH)
    server.setblocking(True)


@pytest.mark.parametrize("pair", [tcp, unix])
def test_a_client_that_reads_takes_more_at_once(pair):
    with pair() as (server, client):
        look = takes({"gunicorn.socket": server}, lambda: False)
        server.sendall(b"x" * 1000)

        assert look()
        assert client.recv(5) == b"xxxxx"


@pytest.mark.parametrize("pair", [tcp, unix])
def test_a_client_that_takes_nothing_is_cut_off(monkeypatch, pair):
    monkeypatch.setattr(connection, "SEND_SECONDS", 0.2)
    monkeypatch.setattr(connection, "LOOK_SECONDS", 0.05)
    with pair() as (server, _):
        fill(server)

        assert not takes({"werkzeug.socket": server}, lambda: False)()
        with pytest.raises(OSError, match=r"[Bb]roken pipe"):
            server.sendall(b"the server's last words")


@pytest.mark.parametrize("pair", [tcp, unix])
def test_a_client_that_goes_on_reading_is_waited_for(monkeypatch, pair):
    monkeypatch.setattr(connection, "LOOK_SECONDS", 0.05)
    with pair() as (server, client):
        fill(server)
        reader = threading.Thread(target=read_to_the_end, args=(client,))
        asked = []

        def start_reading():
            if not asked:
                reader.start()
            asked.append(1)
            return False

        assert takes({"gunicorn.socket": server}, start_reading)()
        server.shutdown(socket.SHUT_WR)
        reader.join(PATIENCE)


def test_a_server_that_stops_waits_for_nobody(monkeypatch):
    monkeypatch.setattr(connection, "LOOK_SECONDS", 0.01)
    with tcp() as (server, _):
        fill(server)
        began = time.monotonic()

        assert not takes({"gunicorn.socket": server}, lambda: True)()
        assert time.monotonic() - began < connection.SEND_SECONDS / 2


@linux
def test_a_write_that_takes_too_long_is_ended_by_the_kernel(monkeypatch):
    monkeypatch.setattr(connection, "SEND_SECONDS", 1)
    with tcp() as (server, _):
        server.settimeout(None)
        undo = connection.limit_writes({"gunicorn.socket": server})
        with pytest.raises(BlockingIOError):
            while True:
                server.sendall(MUCH)

        undo()
        assert server.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16) == b"\0" * 16


@pytest.mark.parametrize("environ", [{}, {"gunicorn.socket": None}, {"werkzeug.socket": object()}])
def test_where_the_connection_is_not_shown_the_client_takes_everything(environ):
    assert takes(environ, lambda: False)()
    connection.limit_writes(environ)()


def test_a_closed_connection_takes_nothing():
    with tcp() as (server, _):
        look = takes({"gunicorn.socket": server}, lambda: False)
        server.close()

        assert not look()


def test_waitress_is_asked_whether_the_client_has_left():
    left = []

    look = gone({"waitress.client_disconnected": lambda: bool(left)})

    assert not look()
    left.append(True)
    assert look()


@pytest.fixture
def loop():
    """An event loop that runs in a thread of its own, as an ASGI server's does for the threads of an adapter."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


class Asgi:
    """The server's side of a request: its body in one part, then nothing until the client leaves."""

    def __init__(self, loop):
        self._messages = asyncio.Queue()
        self._loop = loop
        self.say({"type": "http.request", "body": b"x", "more_body": False})

    def say(self, message):
        self._loop.call_soon_threadsafe(self._messages.put_nowait, message)

    async def receive(self):
        return await self._messages.get()


def asgi_environ(server, loop, **more):
    adapter = pytest.importorskip("a2wsgi.wsgi")
    return {"asgi.scope": {}, "wsgi.input": adapter.Body(loop, server.receive), **more}


def test_an_asgi_server_is_asked_whether_the_client_has_left(loop):
    server = Asgi(loop)
    look = gone(asgi_environ(server, loop))

    assert not look()
    server.say({"type": "http.disconnect"})
    until(look)


def test_the_body_of_a_request_that_nobody_has_read_is_left_to_the_view(loop):
    server = Asgi(loop)
    environ = asgi_environ(server, loop, CONTENT_LENGTH="1")

    assert not gone(environ)()
    assert environ["wsgi.input"].read() == b"x"
    look = gone(environ)  # now it has been read
    server.say({"type": "http.disconnect"})
    until(look)


def test_a_client_is_looked_at_now_and_then_and_once_it_has_left_it_stays_so(monkeypatch):
    asked, left = [], []
    look = cut_short({"waitress.client_disconnected": lambda: bool(asked.append(1) or left)})

    assert not any(look() for _ in range(100))
    assert len(asked) < 10
    monkeypatch.setattr(connection, "LOOK_SECONDS", 0)
    left.append(True)
    until(look)
    left.clear()
    assert look()


class GreenSocket(socket.socket):
    """As gevent's: the system's socket below it, which does not block; its own `recv` waits whatever the flags say."""

    def __init__(self, below):
        super().__init__(fileno=below.detach())
        self._sock = socket.socket(fileno=self.fileno())
        self._sock.setblocking(False)

    def recv(self, *_):
        raise AssertionError("it would wait until the client says something")

    def detach_both(self):
        self._sock.detach()
        self.close()


def test_below_gevents_socket_the_systems_is_asked(monkeypatch):
    with tcp() as (server, client):
        server.settimeout(None)
        green = GreenSocket(server)
        monkeypatch.setattr(socket, "socket", GreenSocket)  # as it is where gevent has patched
        look = gone({"gunicorn.socket": green})
        try:
            assert not look()
            green.setblocking(True)
            undo = limit_writes({"gunicorn.socket": green})
            assert green.gettimeout() == connection.SEND_SECONDS
            undo()
            assert green.gettimeout() is None
            client.close()
            until(look)
        finally:
            green.detach_both()
