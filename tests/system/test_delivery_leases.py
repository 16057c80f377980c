"""Deliveries of several processes: one hangs in a sink, one is stopped, one has another clock."""

import contextlib
import os
import signal
import subprocess
import sys
from datetime import timedelta

import pytest

from flask_bgtasks.stores.sql import SqlStore
from flask_bgtasks.stores.types import NewDelivery
from tests.support.paths import ROOT
from tests.support.tasks import new_task
from tests.support.waiting import PATIENCE, until

pytestmark = [pytest.mark.system, pytest.mark.slow]

EVENT = [NewDelivery("noted")]

PROCESS = """
import os, sys, time
from datetime import timedelta
from pathlib import Path
from flask import Flask
from flask_bgtasks import BackgroundTasks, hookimpl
from flask_bgtasks.delivery import dispatcher, sink_worker
from flask_bgtasks.stores.types import system_clock
from flask_bgtasks.stores.sql import SqlStore

folder, me, hours = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
dispatcher.LEASE, sink_worker.MAX_SECONDS, sink_worker.LOOK_SECONDS = timedelta(seconds=2), 1.0, 0.05

def note(*words):
    out = os.open(folder / "notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(out, (" ".join(map(str, (me, *words))) + "\\n").encode())
    os.close(out)

class Store(SqlStore):
    def delivery_leases(self, sink):
        note("looks")
        return super().delivery_leases(sink)

class Noted:
    name = "noted"

    @hookimpl
    def bgtasks_task_event(self, task, event):
        note("begin", task.request_id, event.seq)
        while me == "slow" and not (folder / "go").exists():
            time.sleep(0.01)
        note("end", task.request_id, event.seq)

    @hookimpl
    def bgtasks_open_store(self, app, url, settings):
        return Store(url, clock=lambda: system_clock() + timedelta(hours=hours))

bgtasks = BackgroundTasks()
bgtasks.register(Noted())
app = Flask("shop", instance_path=str(folder))
bgtasks.init_app(app, store=f"sqlite:///{folder}/tasks.sqlite3", runner="external", app_id="shop")
app.extensions["bgtasks"].deliveries.wake()
sys.stdin.read()
"""


@pytest.fixture
def notes(tmp_path):
    """What the processes noted: who, and what."""

    def read():
        with contextlib.suppress(FileNotFoundError):
            return [tuple(line.split()) for line in (tmp_path / "notes").read_text().splitlines()]
        return []

    return read


@pytest.fixture
def process(tmp_path):
    """Begins a process that delivers."""
    begun = []

    def begin(name, *, hours=0):
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", PROCESS, str(tmp_path), name, str(hours)]
        begun.append(subprocess.Popen(command, stdin=subprocess.PIPE, env=env))
        return begun[-1]

    yield begin
    (tmp_path / "go").touch()
    for one in begun:
        one.send_signal(signal.SIGCONT)
        one.stdin.close()
        one.wait(PATIENCE)


@pytest.fixture
def store(tmp_path):
    made = SqlStore(f"sqlite:///{tmp_path}/tasks.sqlite3", app_id="shop")
    yield made
    made.close()


def with_deliveries(store):
    """A task with two events to deliver; its id."""
    task = new_task()
    store.create(task, input={}, deliveries=EVENT)
    store.claim(task.request_id, worker="w", lease=timedelta(hours=1), deliveries=EVENT)
    return task.request_id


def told(notes, request_id):
    return [(who, what, int(rest[1])) for who, what, *rest in notes() if rest and rest[0] == request_id]


def test_a_call_beyond_its_lease_is_made_once_and_in_order_whatever_another_process_takes_for_the_time(
    process, store, notes, tmp_path
):
    first = with_deliveries(store)
    process("slow")
    until(lambda: told(notes, first))

    process("ahead", hours=1)
    until(lambda: notes().count(("ahead", "looks")) > 40)  # in one lease it looks twelve times
    assert told(notes, first) == [("slow", "begin", 1)]
    (tmp_path / "go").touch()
    until(lambda: store.stats().deliveries_pending == 0)

    assert [(what, seq) for _, what, seq in told(notes, first)] == [("begin", 1), ("end", 1), ("begin", 2), ("end", 2)]


def test_what_a_stopped_process_was_delivering_is_delivered_and_when_it_wakes_up_nothing_is_lost(
    process, store, notes, tmp_path
):
    first = with_deliveries(store)
    slow = process("slow")
    until(lambda: told(notes, first))
    slow.send_signal(signal.SIGSTOP)

    process("other")
    until(lambda: store.stats().deliveries_pending == 0)
    assert [(who, what, seq) for who, what, seq in told(notes, first) if who == "other"] == [
        ("other", what, seq) for seq in (1, 2) for what in ("begin", "end")
    ]

    (tmp_path / "go").touch()
    later = [with_deliveries(store) for _ in range(5)]  # what is settled late now must not be theirs
    slow.send_signal(signal.SIGCONT)
    until(lambda: ("slow", "end", 1) in told(notes, first))
    until(lambda: store.stats().deliveries_pending == 0)

    for request_id in later:
        assert [seq for _, what, seq in told(notes, request_id) if what == "end"] == [1, 2]
    assert store.dead_deliveries() == []
