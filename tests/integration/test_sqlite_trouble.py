"""An SQLite file that is deleted, replaced, damaged, read-only, too new, or on a full disk: refused and said."""

import errno
import os
import resource
import shutil
import sqlite3
import threading
import time
from contextlib import contextmanager

import pytest

from flask_bgtasks import StoreUnavailable, current_task, step
from flask_bgtasks.stores.sql import SqlStore
from flask_bgtasks.stores.sql.drivers import sqlite, sqlite_file
from tests.support.tasks import new_task
from tests.support.waiting import PATIENCE


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tasks.sqlite3"


@pytest.fixture
def make(make_app, bg, path):
    def make(**settings):
        app = make_app(store=f"sqlite:///{path}", **{"sinks": [], **settings})

        @app.post("/work")
        @bg.background()
        def work():
            return {}

        return app

    return make


def refused(answer):
    assert answer.status_code == 503, answer.text
    assert answer.json["type"].endswith("#store-unavailable")
    assert answer.headers["Retry-After"]
    return answer.json["detail"]


def unwell(client):
    answer = client.get("/tasks/health")
    assert answer.status_code == 503, answer.text
    return answer.json["checks"]["store"]


def delete(path):
    path.unlink()


def replace_by_another(path):
    sqlite3.connect(path.with_name("other")).close()
    path.with_name("other").touch()
    path.with_name("other").replace(path)


def restore_a_copy(path):
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


@pytest.mark.parametrize("change", [delete, replace_by_another, restore_a_copy], ids=lambda change: change.__name__)
def test_nothing_is_accepted_into_a_file_that_is_no_longer_there(make, finished, path, change):
    app = make()
    client = app.test_client()
    task = finished(app, client.post("/work", json={}))

    change(path)

    assert "deleted or replaced" in refused(client.post("/work", json={}))
    assert "deleted or replaced" in refused(client.get("/tasks?seen=false&ids=" + task.request_id))
    assert "deleted or replaced" in unwell(client)


def test_a_file_that_is_put_back_is_used_again(make, finished, path):
    app = make()
    client = app.test_client()
    finished(app, client.post("/work", json={}))
    path.rename(path.with_name("away"))
    refused(client.post("/work", json={}))
    path.with_name("away").rename(path)

    assert finished(app, client.post("/work", json={})).status.value == "completed"
    assert client.get("/tasks/health").status_code == 200


def test_a_file_that_goes_while_it_is_opened_leaves_its_log(path, monkeypatch):
    """What was stored last stands in the log alone; an empty file in its place would have SQLite delete that."""
    store = SqlStore(f"sqlite:///{path}")
    task = store.create(new_task(), input={}).task
    check = sqlite_file.DatabaseFile.check

    def goes_afterwards(file, *, at_once=False):
        check(file, at_once=at_once)
        if at_once and path.exists():
            path.rename(path.with_name("away"))

    with monkeypatch.context() as patched:
        patched.setattr(sqlite_file.DatabaseFile, "check", goes_afterwards)
        with pytest.raises(StoreUnavailable, match="deleted or replaced"):
            store.change_token()  # on a connection of its own, which is opened now
    assert not path.exists()
    path.with_name("away").rename(path)

    assert store.get(task.request_id) == task
    assert store.create(new_task(), input={})
    store.close()


def test_a_log_that_is_deleted_takes_no_promise(make, finished, path):
    app = make()
    client = app.test_client()
    finished(app, client.post("/work", json={}))
    path.with_name(path.name + "-wal").unlink()

    assert "deleted or replaced" in refused(client.post("/work", json={}))


def garbage(path):
    path.write_bytes(b"not a database at all" * 1000)


def newer(path):
    store = sqlite.SqliteDatabase(str(path), synchronous="NORMAL", clock=None)
    store.read(lambda connection: None)
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE bgtasks_meta SET value = '99' WHERE key = 'version'")
    connection.close()


def damaged(path):
    newer(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 8000)


@pytest.mark.parametrize(("prepare", "says"), [(garbage, "damaged"), (damaged, "damaged"), (newer, "newer")])
def test_a_file_that_cannot_be_used_is_a_503_with_a_sentence(make, path, prepare, says):
    prepare(path)
    client = make().test_client()

    assert says in refused(client.post("/work", json={}))
    assert says in unwell(client)
    assert str(path) not in client.post("/work", json={}).text


def test_a_layout_that_a_newer_version_made_meanwhile_shows_in_health(make, finished, path):
    app = make()
    client = app.test_client()
    finished(app, client.post("/work", json={}))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE bgtasks_meta SET value = '99' WHERE key = 'version'")
    connection.close()

    assert "newer" in unwell(client)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_file_that_may_only_be_read_is_a_503_with_a_sentence(make, path, tmp_path):
    make().test_client().post("/work", json={})
    path.chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        client = make().test_client()
        assert "cannot be written" in refused(client.post("/work", json={}))
        assert "cannot be written" in unwell(client)
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("attempt to write a readonly database", "cannot be written"),
        ("database disk image is malformed", "damaged"),
        ("database or disk is full", "disk is full"),
    ],
)
def test_what_sqlite_says_becomes_a_sentence_without_a_path(text, says):
    error = sqlite_file.unavailable("/secret/tasks.sqlite3", sqlite3.OperationalError(text))

    assert isinstance(error, StoreUnavailable)
    assert says in error.brief
    assert "/secret" not in error.brief


@contextmanager
def full_disk():
    """No file may grow: what stands for a full disk."""
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_on_a_full_disk_health_is_not_ok_until_there_is_room(make, finished):
    app = make()
    client = app.test_client()
    finished(app, client.post("/work", json={}))

    with full_disk():
        state, answer = unwell(client), client.post("/work", json={})

    assert state.startswith("unavailable")
    refused(answer)
    assert client.get("/tasks/health").status_code == 200
    assert finished(app, client.post("/work", json={})).status.value == "completed"


def test_a_disk_with_no_room_left_shows_in_health_though_the_log_has_some(make, finished, monkeypatch):
    app = make()
    client = app.test_client()
    finished(app, client.post("/work", json={}))
    real = os.statvfs

    def full(path):
        return os.statvfs_result((*real(path)[:3], 0, 0, *real(path)[5:]))

    monkeypatch.setattr(sqlite_file.os, "statvfs", full)

    assert "disk is full" in unwell(client)


@contextmanager
def no_descriptors():
    """No file can be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(OSError) as refused_open:
            os.open(os.devnull, os.O_RDONLY)
        assert refused_open.value.errno == errno.EMFILE
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_without_descriptors_a_task_waits_and_goes_on_when_there_are_some(make_app, bg, path, caplog):
    app = make_app(store=f"sqlite:///{path}", sinks=[], lease_seconds=3)
    state = app.extensions["bgtasks"]
    begun, go_on = threading.Event(), threading.Event()

    @bg.task
    def work():
        with step("Draw"):
            begun.set()
            number = 0
            while not go_on.is_set():
                number += 1
                current_task.update(details=str(number))
                time.sleep(0.001)
        return current_task.attempt

    state.lifecycle.start()
    with app.app_context():
        handle = work.submit()
        assert begun.wait(PATIENCE)
        with no_descriptors():
            state.store.close()  # so that all of it has to be opened again
            deadline = time.monotonic() + 10
            while not all(text in caplog.text for text in ("progress of task", "the lease of task", "lost work")):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            with pytest.raises(StoreUnavailable):
                state.store.check()
        before = handle.task.seq
        while handle.task.seq == before and handle.progress is None:
            time.sleep(0.01)
        go_on.set()
        assert handle.wait(timeout=PATIENCE) == 1
    assert "broke" not in caplog.text


@contextmanager
def descriptors(count):
    """So many files can still be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, before[1]))
    taken = []
    try:
        with pytest.raises(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in taken:
            os.close(descriptor)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
@pytest.mark.parametrize("count", range(8))
def test_what_is_refused_for_want_of_descriptors_is_not_stored(path, count):
    store = SqlStore(f"sqlite:///{path}")
    store.check()
    store.close()
    task = new_task()

    with descriptors(count):
        try:
            store.create(task, input={})
            stored = 1
        except StoreUnavailable:
            stored = 0

    assert sum(store.stats().by_status.values()) == stored
    store.close()
