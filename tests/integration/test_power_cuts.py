"""What a power cut leaves of an SQLite store: the log as far as it was brought to disk, and nothing that came after.

The cut is made by hand: a copy of the database with its log, cut where the last sync found it. So all that a disk may
lose is lost, at each step of what is done.
"""

import os
import shutil
import sqlite3
import threading
from datetime import timedelta

import pytest

from flask_bgtasks import Result, Status, StoreUnavailable, TaskNotFound, current_task
from flask_bgtasks.core.transitions.attempt import Claim, Complete
from flask_bgtasks.core.transitions.transition import Durability
from flask_bgtasks.stores.sql import SqlStore
from tests.support.tasks import new_task
from tests.support.waiting import PATIENCE, until

CLAIM = Claim("worker", timedelta(seconds=60))


class Disk:
    """A folder with a store whose machine may lose power at any time."""

    def __init__(self, folder):
        self.path = folder / "tasks.sqlite3"
        self.syncs = 0
        self.app_id = ""
        self._log = self.path.with_name("tasks.sqlite3-wal")
        self._folder = folder
        self._kept = 0
        self._cuts = 0

    def synced(self):
        self.syncs += 1
        self._kept = self._log.stat().st_size

    def after_power_cut(self):
        """The store that is found when the machine is up again."""
        self._cuts += 1
        found = self._folder / f"after-{self._cuts}" / self.path.name
        found.parent.mkdir()
        shutil.copy(self.path, found)
        with self._log.open("rb") as log:
            found.with_name(self._log.name).write_bytes(log.read(self._kept))
        with sqlite3.connect(found) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        raw.close()
        return SqlStore(f"sqlite:///{found}", app_id=self.app_id)

    def status(self, request_id):
        """What a task is after a power cut now; None where it is lost."""
        store = self.after_power_cut()
        try:
            return store.get(request_id).status
        except TaskNotFound:
            return None
        finally:
            store.close()


@pytest.fixture
def disk(tmp_path, monkeypatch):
    real, disk = os.fsync, Disk(tmp_path)

    def fsync(descriptor):
        real(descriptor)
        disk.synced()

    monkeypatch.setattr("flask_bgtasks.stores.sql.drivers.wal_sync.os.fsync", fsync)
    return disk


@pytest.fixture
def store(disk):
    store = SqlStore(f"sqlite:///{disk.path}")
    store.create(new_task(), input={})  # its tables are on disk
    yield store
    store.close()


def in_the_request(store, **fields):
    """A task as a request stores it that runs it itself."""
    task = new_task(**fields)
    created = store.create(task, input={"n": 1}, claim=CLAIM, durability=Durability.PROCESS)
    assert created.attempt.task.attempt == 1
    return task.request_id


def end_in_the_request(store, request_id):
    store.transition(request_id, Complete(1, Result(b"done"), durability=Durability.SERVER))


def test_what_was_promised_is_there_whenever_the_power_goes(store, disk):
    waiting = store.create(new_task(), input={}).task.request_id
    begun = store.create(new_task(), input={}, claim=CLAIM).task.request_id

    assert (disk.status(waiting), disk.status(begun)) == (Status.STARTED, Status.PROCESSING)
    store.transition(begun, Complete(1))
    assert disk.status(begun) is Status.COMPLETED


def test_what_a_request_runs_itself_waits_for_no_disk_and_is_there_as_a_whole_or_not_at_all(store, disk):
    before = disk.syncs
    request_id = in_the_request(store)
    assert disk.status(request_id) is None
    end_in_the_request(store, request_id)
    assert disk.status(request_id) is None
    assert disk.syncs == before

    store.sync()
    assert disk.status(request_id) is Status.COMPLETED
    after = disk.after_power_cut()
    assert after.load_result(request_id) == Result(b"done")
    assert [event.seq for event in after.events(request_id)] == [1, 2, 3]
    after.close()


def test_an_end_that_was_not_brought_to_disk_is_as_if_the_process_had_died_before_it(store, disk):
    request_id = in_the_request(store)
    store.sync()
    assert disk.status(request_id) is Status.PROCESSING
    end_in_the_request(store, request_id)

    assert disk.status(request_id) is Status.PROCESSING
    after = disk.after_power_cut()
    after.expire_leases("worker")
    assert after.claim(request_id, worker="next", lease=timedelta(seconds=60)).input == {"n": 1}
    after.close()


def test_whatever_is_brought_to_disk_takes_along_what_was_stored_before_it(store, disk):
    first = in_the_request(store)
    store.create(new_task(), input={})
    assert disk.status(first) is Status.PROCESSING
    end_in_the_request(store, first)
    second = in_the_request(store)
    store.create(new_task(), input={})

    assert (disk.status(first), disk.status(second)) == (Status.COMPLETED, Status.PROCESSING)


def test_there_is_nothing_to_bring_to_disk_twice(store, disk):
    in_the_request(store)
    before = disk.syncs
    store.sync()
    store.sync()

    assert disk.syncs == before + 1


def test_a_sync_that_fails_is_made_again(store, disk, monkeypatch):
    request_id = in_the_request(store)

    def broken(descriptor):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("flask_bgtasks.stores.sql.drivers.wal_sync.os.fsync", broken)
        with pytest.raises(Exception, match="cannot be brought to disk"):
            store.sync()

    store.sync()
    assert disk.status(request_id) is Status.PROCESSING


def test_a_store_that_is_closed_leaves_nothing_behind(store, disk):
    request_id = in_the_request(store)
    store.close()

    found = SqlStore(f"sqlite:///{disk.path}")
    assert found.get(request_id).status is Status.PROCESSING
    found.close()


# -- in an app


@pytest.fixture
def make_client(make_app, bg, disk):
    """Makes a client of an app on that disk, with a view that runs as a task. Nothing is synced in passing."""

    def make(**settings):
        app = make_app(store=f"sqlite:///{disk.path}", runner="threads", progress_interval=3600, **settings)

        @app.get("/report")
        @bg.background(respond="prefer")
        def report():
            return {"syncs": disk.syncs}

        disk.app_id = app.extensions["bgtasks"].store.app_id
        client = app.test_client()
        client.get("/report")  # what comes once: tables, threads
        return client

    return make


def test_a_request_that_runs_its_task_itself_waits_for_no_disk(make_client, disk):
    client, before = make_client(sinks=[]), disk.syncs
    answer = client.get("/report")

    assert answer.json == {"syncs": before}
    assert disk.syncs == before


def test_an_end_that_a_sink_is_told_of_is_on_disk_before_it_is_told(make_client, disk):
    client, before = make_client(), disk.syncs
    answer = client.get("/report")

    assert answer.json == {"syncs": before}
    assert disk.syncs == before + 1
    assert disk.status(answer.headers["Task-Id"]) is Status.COMPLETED


def test_a_task_that_was_accepted_is_on_disk_before_the_client_hears_of_it(make_client, disk):
    client = make_client(sinks=[])
    answer = client.get("/report", headers={"Prefer": "respond-async"})

    assert answer.status_code == 202
    assert disk.status(answer.headers["Task-Id"]) is not None


def test_the_next_look_at_what_runs_brings_to_disk_what_waited_for_none(make_app, bg, disk):
    app, go = make_app(store=f"sqlite:///{disk.path}", runner="threads", sinks=[]), threading.Event()
    answered, disk.app_id = [], app.extensions["bgtasks"].store.app_id

    @app.get("/report")
    @bg.background(respond="prefer")
    def report():
        answered.append(current_task.request_id)
        assert go.wait(PATIENCE)
        return "done"

    request = threading.Thread(target=lambda: app.test_client().get("/report"))
    request.start()
    until(lambda: answered and disk.status(answered[0]) is Status.PROCESSING)
    go.set()
    request.join()

    until(lambda: disk.status(answered[0]) is Status.COMPLETED)


def test_an_end_that_is_stored_after_the_last_look_is_brought_to_disk_too(make_app, bg, disk, monkeypatch):
    app = make_app(store=f"sqlite:///{disk.path}", runner="threads", sinks=[], progress_interval=0.01)
    state = app.extensions["bgtasks"]
    disk.app_id, transition, awake = state.store.app_id, state.store.transition, state.engine._flusher._awake

    @app.get("/report")
    @bg.background(respond="prefer")
    def report():
        return "done"

    def late(*args, **kwargs):
        until(lambda: not awake.is_set())  # the attempt is no longer among those that are looked at
        return transition(*args, **kwargs)

    monkeypatch.setattr(state.store, "transition", late)
    answer = app.test_client().get("/report")

    until(lambda: disk.status(answer.headers["Task-Id"]) is Status.COMPLETED)


def test_a_disk_that_fails_for_a_while_is_in_the_log_and_that_it_is_over(make_app, bg, disk, caplog, monkeypatch):
    caplog.set_level("INFO", "flask_bgtasks")
    app, go = make_app(store=f"sqlite:///{disk.path}", runner="threads", sinks=[], progress_interval=0.01), []

    @bg.task
    def work():
        until(lambda: go)

    def broken():
        raise StoreUnavailable("Input/output error")

    with app.app_context():
        handle = work.submit()
        with monkeypatch.context() as patch:
            patch.setattr(app.extensions["bgtasks"].store, "sync", broken)
            until(lambda: "cannot be brought to disk yet: Input/output error" in caplog.text)
        until(lambda: "what was stored is on disk" in caplog.text)
        go.append(True)
        handle.wait(timeout=PATIENCE)

    assert caplog.text.count("cannot be brought to disk yet") == 1
