"""Under uWSGI: its stop gives back what runs; what a busy worker could not give back goes on with the next start."""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys

import httpx
import pytest

from tests.backends import free_port
from tests.support.paths import ROOT
from tests.support.processes.wsgi_servers import uwsgi_command
from tests.support.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.slow]


APP = """
import threading
from flask import Flask
from flask_bgtasks import BackgroundTasks, current_task, step

app = Flask(__name__, instance_path={folder!r})
bgtasks = BackgroundTasks()

@app.post("/work")
@bgtasks.background
def work():
    while True:
        current_task.update(details="still here")
        threading.Event().wait(0.02)

bgtasks.init_app(app, shutdown_grace=0.3)
"""


@pytest.fixture(scope="module")
def command():
    return [uwsgi_command()]


@pytest.fixture
def serve(command, tmp_path):
    (tmp_path / "served.py").write_text(APP.format(folder=str(tmp_path)))
    begun = []

    def start(*arguments):
        port, stats = free_port(), free_port()
        path = os.pathsep.join([str(ROOT), str(tmp_path), *filter(None, sys.path)])
        with (tmp_path / "uwsgi.log").open("a") as log:
            addresses = ["--http-socket", f"127.0.0.1:{port}", "--stats", f"127.0.0.1:{stats}"]
            process = subprocess.Popen(
                [*command, *addresses, "--module", "served:app", "--enable-threads", *arguments],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": path},
                stdout=log,
                stderr=log,
            )
        begun.append(process)
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(url), says=(tmp_path / "uwsgi.log").read_text)
        return process, url, stats

    yield start
    for process in begun:
        process.kill()
        process.wait(10)


def answers(url):
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url + "/tasks/health", timeout=5).status_code == 200


def is_idle(stats):
    """Whether every worker has answered all it was asked."""
    with socket.create_connection(("127.0.0.1", stats), timeout=5) as connection:
        told = json.loads(b"".join(iter(lambda: connection.recv(65536), b"")))
    return all(worker["status"] in ("idle", "cheap") for worker in told["workers"])


def runs(url, request_id):
    return httpx.get(f"{url}/tasks/{request_id}").json()["status"] == "processing"


def stored(folder):
    with contextlib.closing(sqlite3.connect(folder / "bgtasks.sqlite3")) as database:
        return database.execute("SELECT status, worker FROM bgtasks_tasks").fetchone()


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        (["--die-on-term"], signal.SIGTERM),
        (["--master", "--processes", "2", "--threads", "2"], signal.SIGINT),
        (["--master", "--die-on-term", "--lazy-apps"], signal.SIGTERM),
    ],
    ids=["alone", "master", "lazy"],
)
def test_a_stop_gives_running_tasks_back(serve, tmp_path, arguments, number):
    process, url, stats = serve(*arguments)
    request_id = httpx.post(url + "/work").json()["request_id"]
    until(lambda: runs(url, request_id))
    until(lambda: is_idle(stats))

    process.send_signal(number)
    process.wait(60)

    assert stored(tmp_path) == ("processing", None)


def test_what_a_worker_ran_that_was_stopped_amid_an_answer_goes_on_with_the_next_start(serve, tmp_path):
    process, url, _ = serve("--master", "--die-on-term", "--threads", "2")
    request_id = httpx.post(url + "/work").json()["request_id"]
    until(lambda: runs(url, request_id))
    with contextlib.suppress(httpx.TransportError), httpx.stream("GET", f"{url}/tasks/{request_id}/events") as stream:
        next(stream.iter_lines())
        process.send_signal(signal.SIGTERM)
        process.wait(60)

    _, url, _ = serve("--master", "--die-on-term")
    until(lambda: httpx.get(f"{url}/tasks/{request_id}").json()["attempt"] == 2)
