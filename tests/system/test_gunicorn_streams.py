"""Under gunicorn: clients that leave give their places back, long polls take places too, processes tell each other.

That streams cannot starve the server, and resume exactly, stands in test_gunicorn.py.
"""

import contextlib
import signal
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.processes.gunicorn_server import gunicorn
from tests.support.sse_reader import read
from tests.support.waiting import PATIENCE, until

pytestmark = [pytest.mark.system, pytest.mark.slow]

THREADS = 8

APP = """
import os, threading
from flask import Flask
from flask_bgtasks import BackgroundTasks, current_task, step

app = Flask(__name__, instance_path={folder!r})
bgtasks = BackgroundTasks()
released = threading.Event()

@app.post("/wait")
@bgtasks.background
def wait():
    with step("Wait"):
        released.wait(60)
    return {{}}

@app.post("/flood")
@bgtasks.background
def flood():
    for _ in range(60):
        current_task.emit("x" * 200_000)
    return {{}}

@app.post("/release")
def release():
    released.set()
    return {{}}

@app.post("/write")
@bgtasks.background
def write():
    for n in range(300):
        current_task.emit(n)
        threading.Event().wait(0.005)
    return {{}}

@app.after_request
def name_process(response):
    response.headers["X-Process"] = str(os.getpid())
    return response

bgtasks.init_app(app, shutdown_grace=1)
"""


@pytest.fixture
def serve(tmp_path):
    """Starts gunicorn with 8 threads, which stand in a Python file: neither argv nor the environment shows them."""

    def start(*, processes=1, more=""):
        (tmp_path / "conf.py").write_text(f"workers, threads = {processes}, {THREADS}\n")
        return gunicorn(
            tmp_path, more + APP.format(folder=str(tmp_path / "instance")), "--config", str(tmp_path / "conf.py")
        )

    return start


def get(server, path, **kwargs):
    return httpx.get(server.url + path, timeout=PATIENCE, **kwargs)


def streams(server):
    return get(server, "/tasks/health").json()["streams"]


def running(server):
    """A task that has begun, and ends when the server is told to release it; its path."""
    path = httpx.post(server.url + "/wait", timeout=PATIENCE).headers["Location"]
    until(lambda: get(server, path).json()["progress"]["step"] == "Wait")
    return path


@contextlib.contextmanager
def silent_readers(server, path, count):
    """Clients that open a stream and read its beginning; then they leave without a word."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
        yield


def test_half_of_the_threads_of_a_configuration_file_are_for_streams(serve):
    with serve() as server:
        with silent_readers(server, running(server) + "/events", THREADS // 2):
            assert streams(server) == {"open": THREADS // 2, "max": THREADS // 2}
        httpx.post(server.url + "/release")


def test_clients_that_leave_give_their_places_back_before_a_ping_would_fail(serve):
    with serve() as server:
        path = running(server) + "/events"
        with silent_readers(server, path, THREADS // 2):
            assert get(server, path).status_code == 503

        until(lambda: streams(server)["open"] == 0, timeout=10)  # a ping is sent after 15
        httpx.post(server.url + "/release")


def test_long_polls_take_places_and_who_finds_none_is_answered_at_once(serve):
    with serve() as server, ThreadPoolExecutor(THREADS) as pool:
        path = running(server)
        polls = [pool.submit(get, server, f"{path}?wait=30") for _ in range(THREADS)]
        until(lambda: sum(poll.done() for poll in polls) == THREADS // 2)
        assert {poll.result().json()["status"] for poll in polls if poll.done()} == {"processing"}
        assert streams(server)["open"] == THREADS // 2

        httpx.post(server.url + "/release")

        assert Counter(poll.result().json()["status"] for poll in polls)["completed"] == THREADS // 2
        until(lambda: streams(server)["open"] == 0)


def test_one_process_tells_live_of_a_task_that_runs_in_the_other(serve):
    with serve(processes=2) as server, ThreadPoolExecutor(4) as pool:
        accepted = httpx.post(server.url + "/write", timeout=PATIENCE)
        path, runner = accepted.headers["Location"] + "/events", accepted.headers["X-Process"]

        def told_by_the_other(_):
            with httpx.stream("GET", server.url + path, timeout=PATIENCE) as stream:
                if stream.status_code != 200 or stream.headers["X-Process"] == runner:
                    return None
                return read(b"".join(stream.iter_raw()))

        # Several at once: alone, the same process might answer each time.
        told = until(lambda: next(filter(None, pool.map(told_by_the_other, range(4))), None))

    assert [int(event.last_id) for event in told if event.type != "ping"] == list(range(1, len(told) + 1))
    chunks = [chunk for event in told if event.type == "output" for chunk in event.document["chunks"]]
    assert (chunks, told[-1].type) == (list(range(300)), "completed")


def test_a_server_that_is_told_to_stop_does_not_wait_for_its_streams(serve):
    with serve() as server, ThreadPoolExecutor(1) as pool:
        path = running(server)
        with silent_readers(server, path + "/events", 2):
            poll = pool.submit(get, server, f"{path}?wait=30")
            until(lambda: streams(server)["open"] == 3)

            server.process.send_signal(signal.SIGTERM)
            server.process.wait(15)  # gunicorn itself would wait for 30

        assert poll.result().status_code == 200  # an answer, if not the one that was waited for


def test_a_client_that_does_not_read_loses_its_place(serve):
    patience = "from flask_bgtasks.runtime import connection\nconnection.SEND_SECONDS = 1\n"
    with serve(more=patience) as server:
        path = httpx.post(server.url + "/flood", timeout=PATIENCE).headers["Location"]
        until(lambda: get(server, path).json()["done"])
        with contextlib.ExitStack() as stack:
            for _ in range(THREADS // 2):
                client = stack.enter_context(socket.socket())
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(("127.0.0.1", server.port))
                client.sendall(f"GET {path}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            until(lambda: streams(server)["open"] == THREADS // 2)

            until(lambda: streams(server)["open"] == 0, timeout=20)  # with all of them connected still

        assert "Traceback" not in server.log
