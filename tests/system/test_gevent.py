"""What greenlets in the place of threads change: nothing that waits may hold the one thread that there is.

That events arrive, that clients which leave are seen, and stopping stand in test_servers.py.
"""

import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.processes.wsgi_servers import Kind, gunicorn, running
from tests.support.waiting import PATIENCE, until

pytestmark = [pytest.mark.system, pytest.mark.slow]

GEVENT = Kind("gunicorn gevent", gunicorn("gevent"), streams=500)

APP = """
import os, threading
from flask import Flask
from flask_bgtasks import BackgroundTasks, current_task
from flask_bgtasks.runtime import connection

connection.SEND_SECONDS = 1
app = Flask(__name__, instance_path=os.path.dirname(__file__))
bgtasks = BackgroundTasks()
released = threading.Event()

@app.post("/wait")
@bgtasks.background
def wait():
    current_task.emit("begun")
    released.wait(60)
    return {{}}

@app.post("/release")
def release():
    released.set()
    return {{}}

@app.post("/flood")
@bgtasks.background
def flood():
    for _ in range(60):
        current_task.emit("x" * 200_000)
    return {{}}

bgtasks.init_app(app, shutdown_grace=1, workers=2, max_streams_per_owner=500, **{options!r})
"""


@pytest.fixture
def serve(tmp_path):
    def start(**options):
        (tmp_path / "served.py").write_text(APP.format(options=options))
        return running(tmp_path, GEVENT)

    return start


def get(server, path):
    return httpx.get(server.url + path, timeout=PATIENCE)


def open_streams(server):
    return get(server, "/tasks/health").json()["streams"]["open"]


def opened(server, path, **options):
    """A client that opens a stream, and reads nothing yet."""
    client = socket.socket()
    for option, value in options.items():
        client.setsockopt(socket.SOL_SOCKET, getattr(socket, option), value)
    client.settimeout(PATIENCE)
    client.connect(("127.0.0.1", server.port))
    client.sendall(f"GET {path}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return client


def read_to(client, wanted):
    received = b""
    while wanted not in received:
        received += client.recv(65536)
        assert received


def test_two_hundred_streams_are_told_the_end_and_others_are_answered_meanwhile(serve):
    with serve() as server, contextlib.ExitStack() as stack:
        path = httpx.post(server.url + "/wait", timeout=PATIENCE).headers["Location"]
        clients = [stack.enter_context(opened(server, path)) for _ in range(200)]
        for client in clients:
            read_to(client, b"begun")
        assert open_streams(server) == 200

        httpx.post(server.url + "/release", timeout=PATIENCE)

        for client in clients:
            read_to(client, b"event: completed")
        until(lambda: open_streams(server) == 0)


def test_a_client_that_does_not_read_loses_its_place(serve):
    with serve() as server:
        path = httpx.post(server.url + "/flood", timeout=PATIENCE).headers["Location"]
        until(lambda: get(server, path).json()["done"])
        with opened(server, path, SO_RCVBUF=4096):
            until(lambda: open_streams(server) == 1)

            until(lambda: open_streams(server) == 0, timeout=20)  # with the client connected still

        assert "Traceback" not in server.log


def test_a_statement_that_waits_in_postgresql_stops_nobody(serve, new_postgresql_database):
    import psycopg

    database = new_postgresql_database()
    with serve(store=database) as server, ThreadPoolExecutor(1) as pool:
        path = httpx.post(server.url + "/wait", timeout=PATIENCE).headers["Location"]
        until(lambda: get(server, path).json()["status"] == "processing")
        with psycopg.connect(database.replace("+psycopg", "")) as other:
            other.execute("LOCK TABLE bgtasks_tasks IN ACCESS EXCLUSIVE MODE")
            stuck = pool.submit(httpx.post, server.url + "/flood", timeout=PATIENCE)
            until(lambda: other.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0])

            assert httpx.post(server.url + "/release", timeout=5).status_code == 200

        assert stuck.result().status_code == 202
        until(lambda: get(server, path).json()["status"] == "completed")
