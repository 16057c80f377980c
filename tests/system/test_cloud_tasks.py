"""The whole way over a real server: submit, queue, call, answer; also if it is killed, stopped, or asked to sweep."""

import os
import re
import signal

import httpx
import pytest

from tests.backends import free_port
from tests.support.processes.gunicorn_server import gunicorn
from tests.support.waiting import PATIENCE, until

pytest.importorskip("google.cloud.tasks_v2")
pytestmark = [pytest.mark.system, pytest.mark.slow]

APP = """
import os
import time
from pathlib import Path

from flask import Flask
from flask_bgtasks import BackgroundTasks, checkpoint, current_task, hookimpl

folder = Path({folder!r})
app = Flask("served", instance_path=str(folder))


def note(line):
    with (folder / "diary.txt").open("a") as diary:
        diary.write(line + "\\n")


class Teller:
    name = "teller"

    @hookimpl
    def bgtasks_task_event(self, task, event):
        if event.type.terminal:
            note("told")


bgtasks = BackgroundTasks()
bgtasks.register(Teller())
bgtasks.init_app(app, **{settings!r})
# As on an instance whose threads have no CPU: what nobody is called for is not noticed.
recovery = app.extensions["bgtasks"].lifecycle.recovery
recovery.close()
recovery.start = lambda *args: None


@app.post("/process")
@bgtasks.background
def process():
    checkpoint("Outline", note, "outline")
    note(f"waits in {{os.getpid()}}")
    while not (folder / "go").exists():
        current_task.update(details="waiting")
        time.sleep(0.01)
    checkpoint("Write", note, "text")
    return {{"ok": True}}
"""


class Service:
    """A server that is called by the queue."""

    def __init__(self, server, folder, cloud_tasks):
        self.folder, self.url = folder, server.url
        self._queue = cloud_tasks

    def submit(self):
        answer = httpx.post(f"{self.url}/process", headers={"Prefer": "respond-async"}, timeout=PATIENCE)
        assert answer.status_code == 202
        return answer.json()["request_id"]

    def task(self, request_id):
        return httpx.get(f"{self.url}/tasks/{request_id}", timeout=PATIENCE).json()

    def completed(self, request_id):
        """Wait until it is; the task."""
        task = until(lambda: (found := self.task(request_id))["done"] and found, every=0.05)
        assert task["status"] == "completed"
        return task

    @property
    def diary(self):
        path = self.folder / "diary.txt"
        return path.read_text().splitlines() if path.exists() else []

    def worker_of(self, run):
        """The process in which the task waits, for the so manieth time."""
        found = until(lambda: re.findall(r"waits in (\d+)", "\n".join(self.diary))[run - 1 : run], every=0.05)
        return int(found[0])

    def go(self):
        (self.folder / "go").touch()

    def sweep(self):
        """What Cloud Scheduler does; its answer."""
        from tests.backends.cloud_tasks import claims, key

        token = key().sign(claims(self.url))
        answer = httpx.post(
            f"{self.url}/tasks/run/sweep", headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE
        )
        assert answer.status_code == 200
        return answer.json()


@pytest.fixture
def store():
    """Where tasks are kept, if a test names nothing else."""
    return "sqlite:///tasks.sqlite3"


@pytest.fixture
def start(tmp_path, cloud_tasks, store):
    """Starts the service; a second time at the same address."""
    port = free_port()

    def start(*, lease_seconds=60):
        settings = {
            **cloud_tasks.settings,
            "run_url": f"http://127.0.0.1:{port}",
            "store": store,
            "lease_seconds": lease_seconds,
            "shutdown_grace": 0.2,
            "sinks": [],
        }
        code = APP.format(folder=str(tmp_path), settings=settings)
        return gunicorn(tmp_path, code, "--threads", "4", "--graceful-timeout", "10", port=port)

    return start


@pytest.fixture
def service(start, tmp_path, cloud_tasks):
    with start() as server:
        yield Service(server, tmp_path, cloud_tasks)


def test_a_task_is_accepted_called_for_completed_and_told(service, cloud_tasks):
    service.go()

    request_id = service.submit()

    service.completed(request_id)
    (message,) = cloud_tasks.messages
    until(lambda: message.answers)
    assert message.answers == [200]
    assert [line for line in service.diary if "waits" not in line] == ["outline", "text", "told"]


def test_a_sweep_recovers_what_a_killed_process_ran_and_the_queue_forgot(service, cloud_tasks):
    _killed_forgotten_and_swept(service, cloud_tasks)


class TestOnPostgresql:
    """The same with a store that several instances share."""

    @pytest.fixture
    def store(self, new_postgresql_database):
        return new_postgresql_database()

    def test_a_sweep_recovers_what_a_killed_process_ran_and_the_queue_forgot(self, service, cloud_tasks):
        _killed_forgotten_and_swept(service, cloud_tasks)


def _killed_forgotten_and_swept(service, cloud_tasks):
    request_id = service.submit()
    worker = service.worker_of(1)
    cloud_tasks.lose()

    os.kill(worker, signal.SIGKILL)
    service.go()
    until(lambda: service.sweep()["published"] == 1, every=0.1)

    assert service.completed(request_id)["attempt"] == 2
    assert [line for line in service.diary if "waits" not in line and "told" not in line] == ["outline", "text"]


def test_a_call_whose_process_was_killed_comes_again_and_goes_on(start, tmp_path, cloud_tasks):
    with start(lease_seconds=1.5) as server:
        service = Service(server, tmp_path, cloud_tasks)
        request_id = service.submit()
        worker = service.worker_of(1)

        os.kill(worker, signal.SIGKILL)
        service.go()

        assert service.completed(request_id)["attempt"] == 2
        (message,) = cloud_tasks.messages
        until(lambda: message.answers[-1] == 200)
        assert message.answers[0] is None  # the connection broke


def test_a_server_that_stops_leaves_its_task_to_the_next_one(start, tmp_path, cloud_tasks):
    with start() as server:
        service = Service(server, tmp_path, cloud_tasks)
        request_id = service.submit()
        service.worker_of(1)
        server.process.terminate()
        server.process.wait(PATIENCE)
    with start() as server:
        service = Service(server, tmp_path, cloud_tasks)
        service.go()

        assert service.completed(request_id)["attempt"] == 2
    (message,) = cloud_tasks.messages
    assert message.answers[0] in (503, None)
    assert [line for line in service.diary if "waits" not in line and "told" not in line] == ["outline", "text"]
