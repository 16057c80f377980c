"""How often the file of an SQLite database is looked at, and when it is not left at that."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from flask_bgtasks import StoreUnavailable
from flask_bgtasks.core.transitions.transition import Durability
from flask_bgtasks.stores.sql import SqlStore
from flask_bgtasks.stores.sql.drivers import layouts, sqlite_file
from tests.support.tasks import new_task
from tests.support.waiting import PATIENCE


@pytest.fixture
def clock(monkeypatch):
    """The time by which looks are counted; it stands until a test moves it."""
    now = [1000.0]
    monkeypatch.setattr(sqlite_file.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tasks.sqlite3"


@pytest.fixture
def store(path, clock):
    store = SqlStore(f"sqlite:///{path}")
    store.create(new_task(), input={})
    yield store
    store.close()


@pytest.fixture
def looks(path, monkeypatch):
    """How often somebody looked at the file since this was asked last."""
    seen, stat = [], os.stat

    def counted(name, *args, **kwargs):
        if str(name) == str(path):
            seen.append(name)
        return stat(name, *args, **kwargs)

    def count():
        count, seen[:] = len(seen), []
        return count

    monkeypatch.setattr(os, "stat", counted)
    return count


def test_what_is_read_and_what_promises_nothing_looks_once_in_a_while(store, clock, looks):
    store.stats()  # by a connection that is there from now on
    looks()
    clock[0] += sqlite_file.LOOK_SECONDS
    for _ in range(10):
        task = new_task()
        store.create(task, input={}, durability=Durability.PROCESS)
        store.get(task.request_id)
    assert looks() == 1

    clock[0] += sqlite_file.LOOK_SECONDS
    store.get(task.request_id)
    store.get(task.request_id)
    assert looks() == 1


def test_what_is_promised_is_in_the_file_that_is_there(store, path, looks):
    store.create(new_task(), input={})
    assert looks() == 1

    path.unlink()
    with pytest.raises(StoreUnavailable):
        store.create(new_task(), input={})


def test_once_it_was_missed_it_is_looked_for_by_everyone_until_it_is_back(store, path):
    task = new_task()
    store.create(task, input={})
    store.get(task.request_id)
    path.rename(path.with_name("away"))
    assert store.get(task.request_id).request_id == task.request_id  # seen a moment ago
    with pytest.raises(StoreUnavailable):
        store.create(new_task(), input={})

    with pytest.raises(StoreUnavailable):
        store.get(task.request_id)
    path.with_name("away").rename(path)
    assert store.get(task.request_id).request_id == task.request_id


def test_a_connection_that_is_opened_later_makes_no_new_file(store, path):
    path.unlink()
    with pytest.raises(StoreUnavailable, match="deleted or replaced"):
        store.get(new_task().request_id)  # the first that reads

    assert not path.exists()


def test_threads_that_come_at_once_make_the_file_once(path, monkeypatch):
    made, create, together = [], layouts.create, threading.Barrier(4)

    def counted(*args, **options):
        made.append(threading.current_thread())
        create(*args, **options)

    def ask():
        together.wait(PATIENCE)
        return store.stats().by_status

    monkeypatch.setattr(layouts, "create", counted)
    store = SqlStore(f"sqlite:///{path}")
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask) for _ in range(4)]
    assert [one.result() for one in asked] == [{}] * 4
    store.close()

    assert len(made) == 1
