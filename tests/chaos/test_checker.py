"""The checker can fail: for each promise a store or a log in which it is broken; and a library without its fence."""

import contextlib
import json
import os
import signal
import sqlite3
import struct
import subprocess
import sys

import pytest

from tests.chaos.checker import check
from tests.chaos.remains import of_sqlite
from tests.system.gunicorn_server import ROOT
from tests.system.test_deaths import until

pytestmark = [pytest.mark.system, pytest.mark.slow]

SUBMIT = """
import json, sys
from tests.chaos.app import app
client = app.test_client()
ids = [client.post("/work", json={"n": n}).headers["Task-Id"] for n in json.loads(sys.argv[1])]
print(json.dumps(ids))
"""


class Place:
    """A folder with a store and the logs of the chaos app, and its processes."""

    def __init__(self, folder, **env):
        self.folder = folder
        self.store = folder / "bgtasks.sqlite3"
        (folder / "clock").write_bytes(struct.pack("d", 0.0))
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "CHAOS_FOLDER": str(folder),
            "CHAOS_STORE": str(folder),
            "CHAOS_RUNNER": "external",
            "CHAOS_LEASE": "1",
            "CHAOS_CALM": "1",
            **env,
        }

    def submit(self, *numbers):
        command = [sys.executable, "-c", SUBMIT, json.dumps(numbers)]
        done = subprocess.run(command, env=self.env, cwd=self.folder, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def worker(self):
        command = [sys.executable, "-m", "flask", "--app", "tests.chaos.app", "bgtasks", "worker", "--workers", "2"]
        process = subprocess.Popen(command, env=self.env, cwd=self.folder, stdout=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
            process.wait(20)

    def ask(self, sql, *values):
        with contextlib.closing(sqlite3.connect(self.store, timeout=20)) as db:
            found = db.execute(sql, values).fetchall()
            db.commit()
            return found

    def settled(self):
        waiting = self.ask("SELECT count(*) FROM bgtasks_tasks WHERE status IN ('started', 'processing')")[0][0]
        return waiting == 0 and self.ask("SELECT count(*) FROM bgtasks_deliveries")[0][0] == 0

    def log(self, name):
        return [line.split() for line in (self.folder / name).read_text().splitlines()]

    def check(self, accepted):
        return check(of_sqlite(self.store), self.folder, accepted)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A place where three tasks were run and all is well."""
    place = Place(tmp_path_factory.mktemp("sound"))
    ids = place.submit(1, 2, 3)
    with place.worker():
        until(place.settled)
    assert place.check({str(n): [request_id] for n, request_id in enumerate(ids)}) == []
    return place, ids


@pytest.fixture
def broken(sound, tmp_path):
    """A copy of that place, to be doctored."""
    place, ids = sound
    with contextlib.closing(sqlite3.connect(place.store)) as db:
        db.execute("VACUUM INTO ?", (str(tmp_path / "bgtasks.sqlite3"),))
    for name in ("steps.log", "sink.log"):
        (tmp_path / name).write_text((place.folder / name).read_text())
    return Place(tmp_path), ids


NUMBER = "(SELECT number FROM bgtasks_tasks WHERE request_id = ?1)"
LAST = f"(SELECT max(seq) FROM bgtasks_events WHERE task = {NUMBER})"
FAULTS = {
    "accepted, and not there": "UPDATE bgtasks_tasks SET request_id = 'x' WHERE request_id = ?1",
    "nobody works on it": "UPDATE bgtasks_tasks SET status = 'processing' WHERE request_id = ?1",
    "without a gap": f"DELETE FROM bgtasks_events WHERE task = {NUMBER} AND seq = 3",
    "has the ends": f"UPDATE bgtasks_events SET type = 'failed' WHERE task = {NUMBER} AND seq = 4",
    "begins after attempt": f"UPDATE bgtasks_events SET type = 'started' WHERE task = {NUMBER} AND seq = 4",
    "while attempt 1 had the task": f"UPDATE bgtasks_events SET attempt = 2 WHERE task = {NUMBER} AND seq = 5",
    "its history's last is": "UPDATE bgtasks_tasks SET attempt = 7 WHERE request_id = ?1",
    "the percentage falls": f"UPDATE bgtasks_events SET data = '{{\"progress_percentage\": 1}}' "
    f"WHERE task = {NUMBER} AND seq = {LAST}",
    "has no result": f"DELETE FROM bgtasks_payloads WHERE task = {NUMBER} AND part = 'result'",
    "is not what its steps returned": f"UPDATE bgtasks_payloads SET body = '{{}}' "
    f"WHERE task = {NUMBER} AND part = 'result'",
    "its checkpoints are kept": "INSERT INTO bgtasks_payloads (task, part, body) "
    f"VALUES ({NUMBER}, 'checkpoint:x', '1')",
    "still owed": "INSERT INTO bgtasks_deliveries (sink, kind, request_id, seq, tries, created_at, due_at, dead) "
    "VALUES ('flaky', 'event', ?1, 1, 0, 0, 0, 0)",
    "a dead letter": "INSERT INTO bgtasks_deliveries (sink, kind, request_id, seq, tries, created_at, due_at, dead) "
    "VALUES ('flaky', 'event', ?1, 1, 0, 0, 0, 1)",
}


@pytest.mark.parametrize("sentence", FAULTS)
def test_a_fault_in_the_store_is_found(broken, sentence):
    place, ids = broken

    place.ask(FAULTS[sentence], ids[1])

    found = place.check({"key": [ids[1]]})
    assert any(sentence in violation for violation in found), found


def test_a_checkpoint_that_ran_again_is_found(broken):
    place, ids = broken

    with (place.folder / "steps.log").open("a") as log:
        log.write(f"begin {ids[0]} S2 2 4242\n")

    assert [violation for violation in place.check({}) if "ran it again" in violation]


def test_a_checkpoint_that_was_stored_twice_is_found(broken):
    place, ids = broken
    data = json.dumps({"path": ["S1"], "checkpoint": True})
    doctored = f"UPDATE bgtasks_events SET type = 'step_finished', data = ?2 WHERE task = {NUMBER} AND seq = {LAST} - 1"

    place.ask(doctored, ids[0], data)

    assert [violation for violation in place.check({}) if "was stored by the attempts" in violation]


def test_a_telling_that_is_missing_is_found(broken):
    place, ids = broken

    told = [line for line in place.log("sink.log") if line[:2] != [ids[0], "1"]]
    (place.folder / "sink.log").write_text("\n".join(map(" ".join, told)))

    assert [violation for violation in place.check({}) if "never told of the events [1]" in violation]


def test_a_telling_out_of_order_is_found(broken):
    place, _ = broken

    (place.folder / "sink.log").write_text("\n".join(map(" ".join, reversed(place.log("sink.log")))))

    assert [violation for violation in place.check({}) if "after event" in violation]


def test_one_key_with_two_tasks_is_found(broken):
    place, ids = broken

    assert place.check({"key": ids[:2]}) == ["key key: answered with 2 tasks"]


@pytest.mark.parametrize("fenced", [True, False], ids=["with the fence", "without the fence"])
def test_a_zombie_is_harmless_only_because_of_the_fence(tmp_path, fenced):
    """The planted fault: the library without its check of who holds a task; a process that slept through its lease."""
    place = Place(tmp_path, **({} if fenced else {"CHAOS_NO_FENCE": "1"}))
    (tmp_path / "hold").touch()
    ids = place.submit(2)
    with place.worker() as zombie:
        until(lambda: [line[2:4] for line in place.log("steps.log") if line[0] == "begin"][-1:] == [["S3", "1"]])
        zombie.send_signal(signal.SIGSTOP)
        with place.worker():
            until(place.settled)
            (tmp_path / "go").touch()
            zombie.send_signal(signal.SIGCONT)
            until(lambda: ["end", "S3", "1"] in [[line[0], *line[2:4]] for line in place.log("steps.log")])
            zombie.send_signal(signal.SIGTERM)
            zombie.wait(20)
            until(place.settled)

    found = place.check({"key": ids})
    if fenced:
        assert found == []
    else:
        assert any("was stored by the attempts" in violation for violation in found), found
        assert any("has the ends" in violation or "after its end" in violation for violation in found), found
