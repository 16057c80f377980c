"""The SQLite file holds what users sent: other users of the machine cannot read it, whatever the umask is."""

import os
import sqlite3
import stat
from datetime import timedelta

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks
from flask_bgtasks.core.model import TaskKind
from flask_bgtasks.core.transitions.outside import RequestCancel
from flask_bgtasks.stores.base import PRIVATE
from flask_bgtasks.stores.sql import SqlStore
from tests.support.tasks import new_task

pytestmark = pytest.mark.skipif(os.name != "posix", reason="file modes are of POSIX")


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def opened():
    """Opens a store on a file and writes into it, so that its log is there."""
    stores = []

    def open_(path):
        store = SqlStore(f"sqlite:///{path}")
        stores.append(store)
        store.save_preferences("ada", {"quiet": True})
        assert store.load_preferences("ada") == {"quiet": True}
        return store

    yield open_
    for store in stores:
        store.close()


def modes(path):
    return {name: oct(stat.S_IMODE(os.stat(f"{path}{name}").st_mode)) for name in ("", "-wal", "-shm")}


def test_the_file_its_log_and_its_shared_memory_are_for_this_user_alone(tmp_path, opened, umask):
    opened(tmp_path / "tasks.sqlite3")

    assert set(modes(tmp_path / "tasks.sqlite3").values()) == {"0o600"}


def test_a_file_that_was_open_to_everybody_is_closed(tmp_path, opened):
    path = tmp_path / "tasks.sqlite3"
    opened(path).close()
    path.chmod(0o644)

    opened(path)

    assert set(modes(path).values()) == {"0o600"}


def test_a_group_that_was_let_in_on_purpose_stays(tmp_path, opened):
    path = tmp_path / "tasks.sqlite3"
    opened(path).close()
    path.chmod(0o664)

    opened(path)

    assert set(modes(path).values()) == {"0o660"}


def test_a_folder_that_is_made_for_it_is_private_and_one_that_is_there_stays(tmp_path, umask):
    there = tmp_path / "there"
    there.mkdir()
    before = there.stat().st_mode
    for folder in (tmp_path / "made", there):
        bgtasks = BackgroundTasks()
        app = Flask("app", instance_path=str(folder))
        bgtasks.init_app(app)
        app.extensions["bgtasks"].store.save_preferences("ada", {})
        app.extensions["bgtasks"].close(grace=1)
        assert stat.S_IMODE((folder / "bgtasks.sqlite3").stat().st_mode) == 0o600

    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700
    assert there.stat().st_mode == before


def test_a_link_to_a_file_is_followed(tmp_path, opened):
    (tmp_path / "link").symlink_to(tmp_path / "real.sqlite3")

    opened(tmp_path / "link")

    assert modes(tmp_path / "real.sqlite3")[""] == "0o600"


def test_what_is_erased_is_overwritten_in_the_file(tmp_path, opened, monkeypatch):
    """Also where SQLite was built without it, as python.org's is."""
    connect = sqlite3.connect

    def connect_to_such_a_build(*args, **kwargs):
        raw = connect(*args, **kwargs)
        raw.execute("PRAGMA secure_delete=OFF")
        return raw

    monkeypatch.setattr(sqlite3, "connect", connect_to_such_a_build)
    path = tmp_path / "tasks.sqlite3"
    store = opened(path)
    secret = "hunter2-" * 2000  # longer than a page
    kept = {"path": "/", PRIVATE: {"identity": {"flask_jwt_extended": {"claim": secret}}}}
    for _ in range(3):
        task = new_task(kind=TaskKind.VIEW, expires_after=timedelta(days=7))
        store.create(task, input=kept)
        store.transition(task.request_id, RequestCancel())

    store.close()

    assert b"hunter2" not in path.read_bytes()
