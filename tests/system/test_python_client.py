"""The Python client whose own process is killed, whose server is killed, and whose network is bad: nothing is lost."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest

from flask_bgtasks.client import BackgroundTaskCompletionService, Client, FirestoreReader, Kind
from flask_bgtasks.client.pending.records import State
from flask_bgtasks.client.pending.registry import PendingRegistry
from tests.backends.network import Chaos, Network
from tests.support.client.timing import HASTE
from tests.support.paths import ROOT
from tests.support.processes import dying_client
from tests.support.processes.gunicorn_server import gunicorn
from tests.support.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.slow]

APP = """
import threading
from pathlib import Path
from flask import Flask, request
from flask_bgtasks import BackgroundTasks, checkpoint, current_task, step

folder = Path({folder!r})
app = Flask(__name__, instance_path=str(folder / "instance"))
bgtasks = BackgroundTasks(app, workers=4)

@app.post("/process")
@bgtasks.background(steps=["Read", "Write"])
def process():
    body = request.get_json()
    with step("Read"):
        current_task.emit("begun")
    with step("Write"):
        while body.get("hold") and not (folder / "go").exists():
            current_task.emit("and on")
            threading.Event().wait(0.02)
    return {{"n": body["n"]}}
"""


@pytest.fixture
def serve(tmp_path):
    """Starts a server on the tasks of this test, each time on another port."""

    def start():
        return gunicorn(tmp_path, APP.format(folder=str(tmp_path)), "--threads", "8")

    return start


def figures(server):
    """What the server counts."""
    return httpx.get(server.url + "/tasks/stats", timeout=20).json()


def states(folder, url):
    """Where the records of a registry are."""
    registry = PendingRegistry(folder / "pending.sqlite3", server=url)
    found = [record.state for record in registry.all_in(list(State))]
    registry.close()
    return found


def kill_all(server):
    children = subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True, check=False)
    for pid in [server.process.pid, *map(int, children.stdout.split())]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.process.wait(10)


@pytest.mark.parametrize("where", dying_client.WHERE)
def test_a_client_that_is_killed_is_carried_on_by_the_next_process(serve, tmp_path, where):
    with serve() as server:
        first = dying_client.start(tmp_path, server.url, die=where, body={"n": 1})
        assert dying_client.finish(first) == -signal.SIGKILL

        second = dying_client.start(tmp_path, server.url)
        assert dying_client.finish(second) == 0

        assert [(status, result) for _, status, result in dying_client.told(tmp_path)] == [("completed", {"n": 1})]
        until(lambda: figures(server)["tasks"]["completed"] == 1)  # they may be a second old
        assert figures(server)["seen"] == 1
        assert states(tmp_path, server.url) == [State.ACKED]


def test_a_client_and_its_server_are_both_killed_and_the_work_is_told_once(serve, tmp_path):
    with serve() as server, Network(server.port) as network:
        client = dying_client.start(tmp_path, network.url, die="while following", body={"n": 2, "hold": True})
        assert dying_client.finish(client) == -signal.SIGKILL
        kill_all(server)
        client = dying_client.start(tmp_path, network.url)  # finds nobody
        (tmp_path / "go").touch()
        with serve() as again:
            network.retarget(again.port)

            assert dying_client.finish(client) == 0

            assert [result for _, _, result in dying_client.told(tmp_path)] == [{"n": 2}]
            assert sum(figures(again)["tasks"].values()) == 1


def test_a_hundred_submissions_through_chaos_are_a_hundred_tasks_and_outcomes(serve, tmp_path):
    """Two clients of one file, of which the second one only looks now and then, as a service does."""
    told = []
    options = {"store": tmp_path / "pending.sqlite3", "timing": HASTE, "on_outcome": told.append}
    with serve() as server, Chaos(server.port, seed=20) as chaos:
        one, two, pool = Client(chaos.url, **options), Client(chaos.url, **options), ThreadPoolExecutor(8)
        with one, two, pool, BackgroundTaskCompletionService(two, interval=0.3):
            tasks = list(pool.map(lambda n: one.submit("/process", json={"n": n}, key=f"key-{n}"), range(100)))
            ends = list(pool.map(lambda begin: outcomes(one, tasks[begin::8]), range(8)))
            until(lambda: set(states(tmp_path, chaos.url)) == {State.ACKED})

        assert sorted(outcome.key for outcome in told) == sorted(task.key for task in tasks)
        assert sorted(outcome.result["n"] for outcome in told) == list(range(100))
        assert [status for of_one in ends for status in of_one] == ["completed"] * 100
        counted = figures(server)["tasks"]
        assert (counted["completed"], sum(counted.values())) == (100, 100)
    for what in ("lose_request", "lose_answer", "twice", "refuse", "cut", "delay"):
        assert chaos.log[what] > 3, chaos.log


def outcomes(client, tasks):
    """Follow tasks to their ends; how each of them ended."""
    return [event.status for event in client.events(*tasks, timeout=60) if event.kind is Kind.TERMINAL]


def test_a_link_that_is_half_open_is_noticed_by_its_silence(serve, tmp_path):
    """Nothing fails on it: without the watchdog it would be waited for until the server's side gives up."""
    with serve() as server, Network(server.port) as network:
        timing = replace(HASTE, silence=1.5, poll_timeout=1.5)
        with Client(network.url, store=tmp_path / "pending.sqlite3", timing=timing) as client:
            task = client.submit("/process", json={"n": 1, "hold": True})
            events = iter(task)
            assert next(event for event in events if event.type == "output")
            network.strand()
            (tmp_path / "go").touch()
            began = time.monotonic()

            rest = list(events)

            assert rest[-1].status == "completed"
            assert 1.0 < time.monotonic() - began < 10
            assert len({event.seq for event in rest}) == len(rest)


def test_a_stream_that_is_cut_all_the_time_tells_everything_once(serve, tmp_path):
    def let_go():
        """Goes on with the task when its stream was cut often. What came last is not asked for again and again."""
        until(lambda: network.connections > 6)
        network.heal()
        (tmp_path / "go").touch()

    with serve() as server, Network(server.port) as network:
        with Client(network.url, store=tmp_path / "pending.sqlite3", timing=HASTE) as client:
            task = client.submit("/process", json={"n": 1, "hold": True})
            network.cut_every(0.3)
            go = threading.Thread(target=let_go)
            go.start()

            events = list(task)

            go.join()
            assert client.check_pending() == []
        # Where no stream came about in time it asked how the task stands. That comes beside the events, and says what
        # the first two do: that it was accepted, and that it runs.
        numbers = [event.seq for event in events if event.type != "status"]
        missing = set(range(1, numbers[-1] + 1)) - set(numbers)
        assert numbers == sorted(set(numbers))
        assert missing <= ({1, 2} if len(numbers) < len(events) else set())
        assert network.connections > 6


def test_what_ends_while_the_backend_is_away_is_learnt_from_firestore(firestore_project, tmp_path):
    told = []
    mirror = FirestoreReader(firestore_project, token="owner")  # the emulator's word for one who may read everything
    code = APP.format(folder=str(tmp_path)).replace(
        "workers=4", f'workers=4, sinks=["firestore"], firebase_project={firestore_project!r}'
    )
    options = {"store": tmp_path / "pending.sqlite3", "timing": HASTE, "on_outcome": told.append}
    with (
        gunicorn(tmp_path, code, "--threads", "8") as server,
        Network(server.port) as network,
        Client(network.url, firestore=mirror, **options) as client,
    ):
        task = client.submit("/process", json={"n": 7, "hold": True})
        events = iter(task)
        assert next(event for event in events if event.type == "output")
        network.refuse()
        (tmp_path / "go").touch()

        rest = list(events)

        assert (rest[-1].status, rest[-1].via) == ("completed", "firestore")
        assert [outcome.result for outcome in told] == [{"n": 7}]
        assert states(tmp_path, network.url) == [State.ANNOUNCED]

        network.heal()
        until(lambda: client.check_pending() == [] and states(tmp_path, network.url) == [State.ACKED])
        assert httpx.get(f"{server.url}/tasks", params={"ids": task.request_id, "seen": "true"}).json()["tasks"]
        assert len(told) == 1


def test_ctrl_c_ends_the_watching_and_not_the_task(serve, tmp_path):
    # As from a terminal: a shell starts what it runs in the background with SIGINT ignored, and that is inherited.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from flask_bgtasks.client.cli.command import main; main()"
    options = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "text": True}
    with serve() as server:
        base = [sys.executable, "-c", code, "--url", server.url, "--store", str(tmp_path / "pending.sqlite3")]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        submit = subprocess.Popen([*base, "submit", "/process", '{"n": 5, "hold": true}'], **options, **pipes)
        until(lambda: figures(server)["tasks"]["processing"] == 1)
        until(lambda: "Write" in submit.stderr.readline())

        submit.send_signal(signal.SIGINT)
        _, words = submit.communicate(timeout=30)

        assert submit.returncode == 130
        name = words.split()[-1]
        assert words.endswith(f"It goes on. Follow it again with: bgtasks-client watch {name}\n")
        (tmp_path / "go").touch()
        watched = subprocess.run([*base, "watch", name], **options, capture_output=True, timeout=60, check=True)
        assert json.loads(watched.stdout) == {"n": 5}
        until(lambda: figures(server)["tasks"]["completed"] == 1)  # they may be a second old
