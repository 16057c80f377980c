"""The driver's own eyes: what it has to notice while a run lasts, each shown to be noticed."""

import functools
import json
import random
import sqlite3
import subprocess
import time
from types import SimpleNamespace

import httpx
import pytest

from tests.chaos import engines
from tests.chaos.checker import digest
from tests.chaos.clients import Client, _look
from tests.chaos.driver import Patience, Run
from tests.chaos.engines import STOP_SECONDS
from tests.chaos.faults import Faults
from tests.chaos.journal import Journal
from tests.chaos.remains import unsettled_of_firestore
from tests.chaos.stores import Postgresql
from tests.support.sse_reader import Seen
from tests.support.waiting import PATIENCE


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (httpx.Response(500, text="oh"), "key k: /work was answered with 500: oh"),
        (httpx.Response(503, text="no"), "key k: a 503 without Retry-After: no"),
    ],
)
def test_an_answer_that_should_not_be_is_noticed(answer, sentence):
    journal = Journal()

    Client("http://127.0.0.1:1", journal, random.Random(1))._read("k", "/work", answer)

    assert journal.wrong == [sentence]


def test_patience_lasts_while_things_get_fewer():
    now = [0.0]
    patience = Patience(10, clock=lambda: now[0])
    for now[0], left in [(9, 3), (18, 2), (27, 2)]:
        patience.see(left)
        assert not patience.over

    now[0] = 29
    patience.see(2)

    assert patience.over


@pytest.mark.parametrize("error", [sqlite3.OperationalError("locked"), TypeError("a fault of the driver's own")])
def test_only_an_outage_is_taken_for_nothing_known_yet(tmp_path, error, monkeypatch):
    run = Run(tmp_path)

    def unsettled():
        raise error

    monkeypatch.setattr(run.store, "unsettled", unsettled)
    if isinstance(error, TypeError):
        with pytest.raises(TypeError):
            run._unsettled()
    else:
        assert run._unsettled() is None


def test_what_is_left_in_firestore_can_be_read(firestore_project):
    from google.cloud import firestore

    client = firestore.Client(project=firestore_project)
    client.collection("bgtasks_tasks").document("a").set({"status": "processing"})
    client.collection("bgtasks_tasks").document("b").set({"status": "completed"})

    left = unsettled_of_firestore(client)
    client.close()

    assert (left.unfinished, left.pending) == ({"a"}, 0)


def test_an_event_that_a_stream_left_out_is_noticed():
    journal = Journal()
    seen = Seen("output", json.dumps({"seq": 4, "type": "output", "attempt": 1, "at": "now"}), "4")

    assert _look(journal, "t", seen, 2) == 4

    assert journal.wrong == ["task t: a stream showed event 4 after event 2"]
    assert journal.shown == {("t", 4): {("output", 1, "now")}}


def test_a_process_that_does_not_stop_is_noticed_and_ended():
    deaf = subprocess.Popen(["sleep", "600"])
    faults = Faults(SimpleNamespace(seed=1, engine=engines.Own))
    faults._asked[deaf.pid] = ("a worker", time.monotonic() - STOP_SECONDS - 1)

    assert list(faults.overdue()) == [f"a worker did not stop within {STOP_SECONDS} s of SIGTERM"]
    assert deaf.wait(PATIENCE) == -9


def test_a_process_that_outlives_its_worker_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "ORPHAN_SECONDS", 0)
    orphan = subprocess.Popen(["sleep", "600"], env={"CHAOS_FOLDER": str(tmp_path)})
    try:
        engine = engines.Rq(tmp_path)

        assert engine.complaints() == [f"process {orphan.pid} is still there, and all were stopped"]
    finally:
        orphan.kill()
        orphan.wait(PATIENCE)
    assert engine.complaints() == []


def test_what_is_asked_for_surely_comes_first_and_then_every_other_kind(tmp_path):
    class Enough(Exception):
        pass

    def hurt(name):
        done.append(name)
        if len(done) == 5:
            raise Enough

    run, done = Run(tmp_path, pauses=(0, 0)), []
    run._begun = time.monotonic()
    run.tend = run._take_census = lambda: None
    kinds = {name: (1, functools.partial(hurt, name)) for name in "abcdef"}
    run.faults = SimpleNamespace(kinds=lambda: kinds, overdue=list)

    with pytest.raises(Enough):
        run._hurt_for(PATIENCE, 0, ("c", "f"), None, ("b",))

    assert ({*done[:2]}, {*done}) == ({*"cf"}, {*"acdef"})


def test_deadlocks_are_noticed(tmp_path):
    store = Postgresql(tmp_path)
    store.cluster = SimpleNamespace(log="ERROR:  deadlock detected\nERROR:  deadlock detected\n")

    assert store.complaints() == ["the database had to end 2 deadlocks"]


@pytest.mark.slow
def test_a_killed_server_has_forgotten_what_it_was_not_asked_to_keep(tmp_path):
    """What the fault "kill database" is for: it is not a stop."""
    pytest.importorskip("psycopg")
    store = Postgresql(tmp_path)
    with store.running():
        with store._connect() as connection:
            connection.execute("CREATE TABLE kept (n int)")
        with store._connect() as connection:
            connection.execute("SET LOCAL synchronous_commit TO off")
            connection.execute("INSERT INTO kept VALUES (1)")
        store.cluster.kill()
        store.cluster.start()

        with store._connect() as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_violations_of_one_kind_are_counted_together():
    found = [f"task {n:08x}-0000-4000-8000-000000000000: event {n} is still pending (None)" for n in range(3)]

    assert digest([*found, "another"]) == [f"3 x {found[0]}", "1 x another"]
