"""The checker can fail: for each promise a store or a log in which it is broken; and a library without its fence."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import uuid

import pytest

from tests.chaos import remains
from tests.chaos.checker import check
from tests.chaos.clock import CLOCKS, write
from tests.chaos.journal import Journal
from tests.support.paths import ROOT
from tests.system.test_deaths import until

pytestmark = [pytest.mark.system, pytest.mark.slow]

SUBMIT = """
import json, sys
from tests.chaos.app import app
client = app.test_client()
ids = [client.post("/work", json={"n": n, "key": f"key-{n}"}).headers["Task-Id"] for n in json.loads(sys.argv[1])]
print(json.dumps(ids))
"""


class Place:
    """A folder with a store and the logs of the chaos app, and its processes."""

    def __init__(self, folder, **env):
        self.folder = folder
        self.store = folder / "bgtasks.sqlite3"
        write(folder / "clock", [0.0] * CLOCKS)
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
        with remains.sqlite(self.store) as db:
            return not remains.unsettled_of_sql(db)

    def log(self, name):
        return [line.split() for line in (self.folder / name).read_text().splitlines()]

    def check(self, accepted, **journal):
        """All violations; `journal`: what else clients saw."""
        seen = Journal(accepted)
        vars(seen).update(journal)
        with remains.sqlite(self.store) as db:
            return check(remains.of_sql(db), self.folder, seen)


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
    for name in ("steps.log", "sink.log", "hostile.log"):
        (tmp_path / name).write_text((place.folder / name).read_text())
    return Place(tmp_path), ids


NUMBER = "(SELECT number FROM bgtasks_tasks WHERE request_id = ?1)"
LAST = f"(SELECT max(seq) FROM bgtasks_events WHERE task = {NUMBER})"
FIRST = f"(SELECT min(seq) FROM bgtasks_events WHERE task = {NUMBER} AND type = 'output')"
FAULTS = {
    "it failed though it did nothing wrong": "UPDATE bgtasks_tasks SET status = 'failed', error_message = 'its process "
    "died' WHERE request_id = ?1",
    "comes after": f"UPDATE bgtasks_events SET data = json_set(data, '$.offset', 7) WHERE task = {NUMBER} "
    f"AND seq = {FIRST}",
    "its output is not what its steps emitted": "UPDATE bgtasks_events SET data = json_set(data, '$.chunks', "
    f"json_array()) WHERE task = {NUMBER} AND type = 'output'",
    "the beginning or the end of its steps": "UPDATE bgtasks_events SET type = 'released' "
    f"WHERE task = {NUMBER} AND type = 'step_finished'",
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
    "still pending": "INSERT INTO bgtasks_deliveries (sink, kind, request_id, seq, tries, created_at, due_at, dead) "
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

    told = [line for line in place.log("sink.log") if line[:3] != ["event", ids[0], "1"]]
    (place.folder / "sink.log").write_text("\n".join(map(" ".join, told)))

    assert [violation for violation in place.check({}) if "never told of the events [1]" in violation]


def append(place, name, *lines):
    with (place.folder / name).open("a") as log:
        log.writelines(f"{line}\n" for line in lines)


@pytest.mark.parametrize("log", ["sink.log", "hostile.log"])
def test_a_telling_out_of_order_is_found(broken, log):
    place, ids = broken

    append(place, log, f"event {ids[0]} 1 accepted 1")

    assert [violation for violation in place.check({}) if f"{log} was told of event 1 after event" in violation]


def test_what_a_killed_store_forgot_may_be_told_again(broken):
    place, ids = broken

    append(place, "sink.log", "the store was killed", f"event {ids[0]} 1 accepted 1", f"event {ids[0]} 2 started 1")

    assert place.check({}) == []


def test_an_event_that_is_told_over_and_over_is_found(broken):
    place, ids = broken

    last = max(int(line[2]) for line in place.log("sink.log") if line[:2] == ["event", ids[0]])
    append(place, "sink.log", *[f"event {ids[0]} {last} completed 1"] * 8)

    assert [violation for violation in place.check({}) if "was told 9 times" in violation]


def test_progress_after_the_end_is_found(broken):
    place, ids = broken

    append(place, "sink.log", f"progress {ids[0]} 9 100.0 1")

    assert [violation for violation in place.check({}) if "was told of 100.0 % after the end" in violation]


@pytest.mark.parametrize(
    "line", ["20.0 1", "60.0 0"], ids=["a smaller percentage", "an attempt that another one has followed"]
)
def test_progress_that_goes_back_is_found(broken, line):
    place, ids = broken

    told = place.log("sink.log")
    before = [f"progress {ids[0]} 2 50.0 1", f"progress {ids[0]} 3 {line}"]
    (place.folder / "sink.log").write_text("\n".join([*before, *map(" ".join, told)]))

    assert [violation for violation in place.check({}) if "after 50.0 % of attempt 1" in violation]


def test_a_false_word_that_nothing_was_changed_is_found(broken):
    place, ids = broken

    found = place.check({}, refused={"key-1"})

    assert found == [f"task {ids[0]}: it exists, and its client was told that nothing was changed"]


AT = "2026-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    ("seq", "seen", "sentence"),
    [
        (2, {("step_started", 1, AT)}, f"showed event 2 as ('step_started', 1, '{AT}'), and it is ('started', 1,"),
        (2, {("started", 1, AT)}, f"showed event 2 as ('started', 1, '{AT}'), and it is ('started', 1,"),
        (999, {("output", 1, AT)}, "showed event 999, and it is not there"),
        (2, {("started", 1, AT), ("output", 1, AT)}, "streams showed different events 2"),
    ],
    ids=["another type", "another time", "it is gone", "both were shown"],
)
def test_an_event_number_that_was_used_again_is_found(broken, seq, seen, sentence):
    place, ids = broken

    assert any(sentence in violation for violation in place.check({}, shown={(ids[0], seq): seen}))


def test_tasks_that_do_not_run_at_once_are_found(broken):
    place, _ = broken

    append(place, "bursts.log", "b 8 2")

    assert place.check({}) == ["burst b: 8 threads were free, and only 2 of its tasks ran at once"]


def test_a_lease_that_is_lost_in_calm_is_found(broken):
    place, ids = broken

    given = json.dumps({"arguments": {"burst": "b", "wanted": 8, "hold": 4.0}, "text": json.dumps({"n": 1})})
    place.ask("UPDATE bgtasks_tasks SET name = 'meet', attempt = 2 WHERE request_id = ?1", ids[0])
    place.ask(f"UPDATE bgtasks_payloads SET body = ?2 WHERE task = {NUMBER} AND part = 'input'", ids[0], given)

    assert [violation for violation in place.check({}) if "it lost its lease with nothing wrong" in violation]


@pytest.mark.parametrize("name", ["bgtasks-recovery", "bgtasks-flusher", "bgtasks-sink-flaky"])
def test_a_thread_that_is_missing_is_found(broken, name):
    place, _ = broken

    before = {"pid": 42, "calm": False, "threads": ["MainThread", name]}
    append(place, "census.log", json.dumps(before), json.dumps({**before, "calm": True, "threads": ["MainThread"]}))

    assert place.check({}) == [f"process 42: its thread {name} is missing"]


def test_what_a_client_saw_at_once_is_found(broken):
    place, _ = broken

    assert place.check({}, wrong=["it was wrong"]) == ["it was wrong"]


def test_one_key_with_two_tasks_is_found(broken):
    place, ids = broken

    assert place.check({"key": ids[:2]}) == ["key key: answered with 2 tasks"]


def test_a_second_task_of_a_key_is_found_also_where_the_first_was_in_doubt(sound):
    place, ids = sound

    assert place.check({"key": ids[:1]}, doubtful={"key": {ids[1]}}) == ["key key: answered with 2 tasks"]
    assert place.check({"key": ids[:1]}, doubtful={"key": {str(uuid.uuid4())}}) == []


def _held(place):
    """The tasks whose first attempt waits in S3."""
    return {line[1] for line in place.log("steps.log") if [line[0], *line[2:4]] == ["begin", "S3", "1"]}


def _is_told(line):
    """Whether a line of a sink's log is the progress with which S3 begins."""
    return line[0] == "progress" and float(line[3]) > 66


@pytest.mark.parametrize("fenced", [True, False], ids=["with the fence", "without the fence"])
def test_a_zombie_is_harmless_only_because_of_the_fence(tmp_path, fenced):
    """The planted fault: the library without its check of who holds a task; a process that slept through its lease."""
    place = Place(tmp_path, **({} if fenced else {"CHAOS_NO_FENCE": "1"}))
    (tmp_path / "hold").touch()
    ids = place.submit(2)
    with place.worker() as zombie:
        until(lambda: _held(place))
        # Nothing is on its way to the sink: what sleeps between its look at the store and the call is called after all.
        until(lambda: _held(place) <= {line[1] for line in place.log("sink.log") if _is_told(line)})
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
