"""Every server of the docs' matrix serves the same app: work, live streams, clients that leave, a stop amid a task."""

import contextlib
import signal
import socket
import sqlite3

import httpx
import pytest

from tests.support.processes.wsgi_servers import KINDS, THREADS, running
from tests.support.sse_reader import read
from tests.support.waiting import PATIENCE, until

pytestmark = [pytest.mark.system, pytest.mark.slow]

APP = f"""
import os, threading
from a2wsgi import WSGIMiddleware
from flask import Flask
from flask_bgtasks import BackgroundTasks, current_task, step

here = os.path.dirname(__file__)
app = Flask(__name__, instance_path=here)
bgtasks = BackgroundTasks()

@app.post("/work")
@bgtasks.background
def work():
    current_task.emit("first")
    with step("Wait"):
        while not os.path.exists(os.path.join(here, current_task.request_id)):
            threading.Event().wait(0.02)
            current_task.update(details="still here")
    current_task.emit("last")
    return {{"done": True}}

bgtasks.init_app(app, shutdown_grace=0.3)
asgi = WSGIMiddleware(app, workers={THREADS})
"""


@pytest.fixture(scope="module", params=KINDS, ids=str)
def kind(request):
    return request.param


def served(folder):
    (folder / "served.py").write_text(APP)
    return folder


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory):
    return served(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(folder, kind):
    with running(folder, kind) as server:
        yield server
    assert "Traceback" not in server.log


def get(server, path, **kwargs):
    return httpx.get(server.url + path, timeout=PATIENCE, **kwargs)


def begun(server):
    """A task that runs until it may go on; its path."""
    path = httpx.post(server.url + "/work", timeout=PATIENCE).headers["Location"]
    until(lambda: get(server, path).json()["progress"]["step"] == "Wait", every=0.05)
    return path


def let_go_on(folder, path):
    (folder / path.rpartition("/")[2]).touch()


def open_streams(server):
    return get(server, "/tasks/health").json()["streams"]


def read_until(server, path, enough, **headers):
    """Follow a task until it is enough; what was told with an id."""
    received = b""
    with httpx.stream("GET", f"{server.url}{path}/events", headers=headers, timeout=PATIENCE) as answer:
        assert answer.status_code == 200
        for chunk in answer.iter_raw():
            received += chunk
            if enough(told := [event for event in read(received) if event.last_id]):
                return told
    return [event for event in read(received) if event.last_id]


@contextlib.contextmanager
def silent_reader(server, path):
    """A client that opens a stream and reads its beginning; then it leaves without a word."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as client:
        client.sendall(f"GET {path}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        yield


def stored(folder):
    with contextlib.closing(sqlite3.connect(folder / "bgtasks.sqlite3")) as database:
        return database.execute("SELECT status, attempt, worker FROM bgtasks_tasks").fetchone()


def test_a_task_is_followed_live_over_two_connections_without_a_gap(server, kind, folder):
    path = begun(server)
    if not kind.streams:
        refused = get(server, path + "/events")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "15")
        let_go_on(folder, path)
    else:
        # What is read so far was sent while the task runs, which nobody has let go on.
        first = read_until(server, path, lambda told: any(event.type == "output" for event in told))
        let_go_on(folder, path)
        rest = read_until(server, path, lambda told: False, **{"Last-Event-ID": first[-1].last_id})

        assert [int(event.last_id) for event in first + rest] == list(range(1, len(first + rest) + 1))
        assert rest[-1].type == "completed"
        assert open_streams(server)["max"] == kind.streams
    until(lambda: get(server, path).json()["status"] == "completed", every=0.05)
    assert get(server, path + "/result").json() == {"done": True}


def test_a_long_poll_is_answered_with_the_change_that_it_waits_for(server, kind, folder):
    path = begun(server)
    let_go_on(folder, path)

    answer = get(server, f"{path}?wait=30")

    while not answer.json()["done"]:  # every change is one
        answer = get(server, f"{path}?wait=30", headers={"If-None-Match": answer.headers["ETag"]})
    assert answer.json()["status"] == "completed"


def test_a_client_that_leaves_gives_its_place_back_before_a_ping_would_fail(server, kind, folder):
    if not kind.streams or not kind.sees_clients_leave:
        pytest.skip("this server has no streams, or does not show their connections")
    path = begun(server)
    with silent_reader(server, path):
        until(lambda: open_streams(server)["open"] == 1, every=0.05)

    until(lambda: open_streams(server)["open"] == 0, timeout=10, every=0.05)  # a ping is sent after 15 s
    let_go_on(folder, path)


def test_a_stop_ends_streams_and_gives_the_task_back_and_the_next_start_goes_on_with_it(kind, tmp_path):
    folder = served(tmp_path)
    with running(folder, kind) as server:
        path = begun(server)
        with silent_reader(server, path) if kind.streams else contextlib.nullcontext():
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(30)
    status, attempt, worker = stored(folder)
    assert (status, attempt) == ("processing", 1)
    assert worker is None or not kind.looks_out  # a worker that uWSGI ends amid an answer gives nothing back

    with running(folder, kind, asked=not kind.looks_out) as server:
        until(lambda: stored(folder)[1] == 2, every=0.05, says=lambda: server.log)
        let_go_on(folder, path)
        until(lambda: stored(folder)[0] == "completed", every=0.05, says=lambda: server.log)
