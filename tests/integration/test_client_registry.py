"""The file that remembers: several threads and processes, a power cut's view of it, its limits."""

import os
import sqlite3
import subprocess
import sys
import threading
import uuid
from dataclasses import replace
from functools import partial

import pytest

from flask_bgtasks import ConfigurationError, StoreUnavailable, TaskNotFound
from flask_bgtasks.client.pending import records
from flask_bgtasks.client.pending.records import Record, Sighting, State
from flask_bgtasks.client.pending.registry import FINISHED_SECONDS, MAX_FINISHED, PendingRegistry

ID = "0c9b4f0e-6a52-4d0e-9f0a-2f6c1f9f4b7d"
NEW = Record(key="k", state=State.QUEUED, created_at=0.0, expires_at=100.0, path="/process", body=b"{}", body_hash="h")


class Time:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Time()


@pytest.fixture
def open_registry(tmp_path, clock):
    made = []

    def open_one(path=None, **options):
        made.append(PendingRegistry(path or tmp_path / "folder/pending.sqlite3", server="s", now=clock, **options))
        return made[-1]

    yield open_one
    for registry in made:
        registry.close()


def test_a_record_comes_back_as_it_was_kept(open_registry):
    record = replace(NEW, progress={"step": "ü"}, percentage=12.5, body=b"\x00\xff", request_id=ID)
    open_registry().add(record)

    found = open_registry().get("k")

    assert found == replace(record, updated_at=1000.0)
    assert open_registry().find(ID) == found


def test_what_changes_is_kept_and_what_does_not_fit_changes_nothing(open_registry):
    registry = open_registry()
    registry.add(NEW)

    before, after = registry.change("k", partial(records.claim_to_send, holder="me", now=1.0))
    same, unchanged = registry.change("k", partial(records.missed))

    assert (before.state, after.state) == (State.QUEUED, State.SENDING)
    assert same is unchanged
    assert open_registry().get("k") == unchanged


def test_a_change_to_what_was_forgotten_says_so(open_registry):
    with pytest.raises(TaskNotFound, match="nothing"):
        open_registry().change("nothing", records.acked)


def test_the_file_is_for_its_user_alone(open_registry, tmp_path):
    open_registry().add(NEW)

    assert os.stat(tmp_path / "folder").st_mode & 0o777 == 0o700
    assert os.stat(tmp_path / "folder/pending.sqlite3").st_mode & 0o777 == 0o600


def test_promises_are_brought_to_disk_and_progress_is_not_waited_for(open_registry):
    registry = open_registry()
    said = []
    registry.add(NEW)
    registry._connection.set_trace_callback(said.append)

    registry.change("k", partial(records.accepted, request_id=ID))
    registry.note("k", partial(records.moved, cursor=3))

    assert [line for line in said if "synchronous" in line] == [
        "PRAGMA synchronous = FULL",
        "PRAGMA synchronous = NORMAL",
    ]
    assert registry._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_many_threads_that_settle_one_task_find_one_of_them_to_be_first(open_registry):
    registries = [open_registry() for _ in range(4)]
    registries[0].add(replace(NEW, state=State.FOLLOWING, request_id=ID))
    ready, first = threading.Barrier(8), []

    def settle(registry):
        ready.wait()
        for seq in range(1, 21):
            sighting = Sighting(status="failed", seq=seq, attempt=seq, via="poll")
            before, after = registry.change("k", partial(records.sighted, sighting=sighting))
            if after.settled_seq > before.settled_seq:
                first.append(seq)

    threads = [threading.Thread(target=settle, args=(registries[n % 4],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(first) == len(set(first))
    assert max(first) == 20


SETTLE = """
import sys
from functools import partial
from flask_bgtasks.client.pending import records
from flask_bgtasks.client.pending.records import Sighting
from flask_bgtasks.client.pending.registry import PendingRegistry
registry = PendingRegistry(sys.argv[1], server="s")
sys.stdin.readline()
for n in range(30):
    sighting = Sighting(status="completed", seq=5, attempt=1, via="poll")
    before, after = registry.change(f"k{n}", partial(records.sighted, sighting=sighting))
    if after is not before:
        print(n)
registry.close()
"""


def test_processes_that_settle_the_same_tasks_share_them_out(open_registry, tmp_path):
    registry = open_registry()
    for n in range(30):
        registry.add(replace(NEW, key=f"k{n}", state=State.FOLLOWING, request_id=str(uuid.UUID(int=n))))
    command = [sys.executable, "-c", SETTLE, registry.path]
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipe) for _ in range(3)]

    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    won = [line for process in processes for line in process.communicate(timeout=60)[0].split()]

    assert sorted(map(int, won)) == list(range(30))


def test_a_child_of_fork_has_a_connection_of_its_own(open_registry):
    registry = open_registry()
    registry.add(NEW)
    mine = registry._connection

    registry._forget()  # what a fork does to the child's copy

    assert registry.get("k").key == "k"
    assert registry._connection is not mine
    mine.close()


def test_what_is_over_is_kept_for_a_day_and_no_more_than_two_hundred(open_registry, clock):
    registry = open_registry()
    for n in range(MAX_FINISHED + 5):
        registry.add(replace(NEW, key=f"over{n}", state=State.ACKED))
        clock.now += 1
    registry.add(NEW)

    assert registry.prune() == 5
    assert registry.get("over4") is None
    assert registry.get("over5") is not None
    clock.now += FINISHED_SECONDS
    assert registry.prune() == MAX_FINISHED
    assert registry.get("k").state is State.QUEUED  # what is pending stays, however old


def test_a_file_of_a_newer_version_is_left_alone(open_registry, tmp_path):
    path = tmp_path / "newer.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(ConfigurationError, match="newer"):
        open_registry(path).get("k")


@pytest.mark.parametrize("what", ["no database", "folder"])
def test_a_file_that_cannot_be_used_is_named(open_registry, tmp_path, what):
    path = tmp_path / "broken"
    path.mkdir() if what == "folder" else path.write_bytes(b"no database" * 100)

    with pytest.raises(StoreUnavailable, match="broken"):
        open_registry(path).add(NEW)
