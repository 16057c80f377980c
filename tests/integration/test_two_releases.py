"""Two releases on one store, as a rolling deploy has them: the older one leaves alone what it does not understand.

The newer release is another process: the code of today with a layout that is one higher.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading

import pytest
import sqlalchemy as sa

from flask_bgtasks import current_task, hookimpl
from flask_bgtasks.core.preferences import Preferences
from flask_bgtasks.runtime.log_lines import Recurring
from flask_bgtasks.stores import conversions
from flask_bgtasks.stores.sql import SqlStore
from flask_bgtasks.stores.sql.drivers import layouts
from flask_bgtasks.stores.sql.schema import VERSION
from flask_bgtasks.stores.types import NewDelivery, TaskQuery
from tests.support.paths import ROOT
from tests.support.tasks import new_task
from tests.support.waiting import PATIENCE, until

NEWER = f"""
import os
from flask import Flask
from flask_bgtasks.stores.sql import schema

schema.VERSION, schema.OLDEST = {VERSION + 1}, int(os.environ["OLDEST"])
schema.UPGRADES[{VERSION + 1}] = ("ALTER TABLE bgtasks_tasks ADD COLUMN labels TEXT NOT NULL DEFAULT ''",)

from flask_bgtasks import BackgroundTasks, current_task

app = Flask("app_under_test")
bg = BackgroundTasks(app, store=os.environ["STORE"], sinks=[])


@app.post("/work")
@bg.background()
def work():
    return {{"release": "newer", "attempt": current_task.attempt}}


@bg.task(name="paint")
def paint():
    return {{"release": "newer"}}
"""

LEASE_SECONDS = 2


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/tasks.sqlite3"
    return request.getfixturevalue("new_postgresql_database")()


@pytest.fixture
def execute(url):
    """Executes a statement in the database, without a store."""
    engine = sa.create_engine(url)

    def execute(sql, **values):
        with engine.begin() as connection:
            done = connection.execute(sa.text(sql), values)
            return done.freeze()() if done.returns_rows else None

    yield execute
    engine.dispose()


@pytest.fixture
def older(make_app, bg, url, monkeypatch):
    """The older release's app; its task runs until `go_on` is set."""
    monkeypatch.setattr(layouts, "LOOK_SECONDS", 0.1)
    app = make_app(store=url, sinks=[], lease_seconds=LEASE_SECONDS)
    app.begun, app.go_on = threading.Event(), threading.Event()

    @app.post("/work")
    @bg.background()
    def work():
        app.begun.set()
        app.go_on.wait(PATIENCE)
        return {"release": "older", "attempt": current_task.attempt}

    yield app
    app.go_on.set()


@pytest.fixture
def deploy(tmp_path, url):
    """Starts a worker process of the newer release, which upgrades the tables; ends what it started."""
    started = []

    def deploy(*, oldest):
        (tmp_path / "newer.py").write_text(NEWER)
        environment = {**os.environ, "STORE": url, "OLDEST": str(oldest), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "flask", "--app", str(tmp_path / "newer.py"), "bgtasks", "worker"]
        with (tmp_path / "newer.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        started.append(process)

    yield deploy
    for process in started:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        process.kill()


def layout_of(execute):
    return int(execute("SELECT value FROM bgtasks_meta WHERE key = 'version'").scalar_one())


def said(caplog, what):
    return [record for record in caplog.records if what in record.getMessage()]


def test_beside_a_newer_layout_that_leaves_room_the_older_release_goes_on(older, deploy, execute, caplog):
    client = older.test_client()
    first = client.post("/work").headers["Task-Id"]
    assert older.begun.wait(PATIENCE)

    deploy(oldest=VERSION)
    until(lambda: layout_of(execute) == VERSION + 1)
    until(lambda: said(caplog, "may go on using them"))
    second = client.post("/work").headers["Task-Id"]
    older.go_on.set()

    for request_id in (first, second):
        until(lambda request_id=request_id: client.get(f"/tasks/{request_id}").json["done"])
    assert client.get(f"/tasks/{first}/result").json == {"release": "older", "attempt": 1}
    assert client.get(f"/tasks/{second}/result").json["attempt"] == 1  # whichever release took it
    assert client.get("/tasks/health").status_code == 200
    assert len(said(caplog, f"are of layout {VERSION + 1} now, made by a newer flask-bgtasks")) == 1


def test_beside_a_newer_layout_without_room_the_older_release_stops_and_its_tasks_go_on_there(
    older, deploy, execute, caplog
):
    client = older.test_client()
    request_id = client.post("/work").headers["Task-Id"]
    assert older.begun.wait(PATIENCE)

    deploy(oldest=VERSION + 1)
    until(lambda: said(caplog, "cannot use them"))
    refused = client.post("/work")
    older.go_on.set()

    assert refused.status_code == 503
    assert refused.headers["Retry-After"]
    assert "made by a newer version" in refused.json["detail"]
    assert "newer" in client.get("/tasks/health").json["checks"]["store"]

    def ended():
        return execute("SELECT status FROM bgtasks_tasks WHERE request_id = :id", id=request_id).scalar_one()

    until(lambda: ended() == "completed")
    body = execute(
        "SELECT body FROM bgtasks_payloads JOIN bgtasks_tasks ON task = number "
        "WHERE request_id = :id AND part = 'result'",
        id=request_id,
    ).scalar_one()
    assert json.loads(bytes(body)) == {"release": "newer", "attempt": 2}
    assert execute("SELECT count(*) FROM bgtasks_tasks").scalar_one() == 1  # what was refused is not stored
    assert len(said(caplog, "cannot use them")) == 1


def test_a_release_that_is_rolled_back_opens_the_newer_layout_that_leaves_room_and_changes_nothing(url, execute):
    with contextlib.closing(SqlStore(url)) as store:
        task = store.create(new_task(), input={}).task
    execute(f"UPDATE bgtasks_meta SET value = '{VERSION + 1}' WHERE key = 'version'")
    execute(f"INSERT INTO bgtasks_meta (key, value) VALUES ('oldest', '{VERSION}')")
    execute("DROP INDEX bgtasks_tasks_failed")  # the newer one may have another in its place

    with contextlib.closing(SqlStore(url)) as store:
        assert store.get(task.request_id) == task
        store.create(new_task(), input={})
        assert store.tables.layout().missing == ("bgtasks_tasks_failed",)
        assert store.tables.layout().found == VERSION + 1


def test_a_copy_of_before_the_upgrade_that_is_restored_while_a_process_serves_is_upgraded(older, execute, caplog):
    client = older.test_client()
    assert client.get("/tasks/health").status_code == 200
    execute("ALTER TABLE bgtasks_tasks DROP COLUMN suspicions")
    execute(f"UPDATE bgtasks_meta SET value = '{VERSION - 1}' WHERE key = 'version'")

    until(lambda: client.get("/tasks/health").status_code == 200 and said(caplog, "were upgraded from layout"))

    assert layout_of(execute) == VERSION
    assert client.post("/work").status_code == 202


# -- within one layout -------------------------------------------------------------------------------------------------


@pytest.fixture
def store(older):
    return older.extensions["bgtasks"].store


def test_a_task_whose_name_only_the_newer_release_knows_waits_for_it(older, deploy, store):
    client = older.test_client()
    older.go_on.set()
    paint = store.create(new_task(name="paint"), input={"args": [], "kwargs": {}}).task.request_id
    request_id = client.post("/work").headers["Task-Id"]  # behind it in the queue
    until(lambda: store.get(request_id).done)
    assert store.get(paint).status.value == "started"

    deploy(oldest=VERSION)

    until(lambda: store.get(paint).done)
    assert json.loads(store.load_result(paint).body) == {"release": "newer"}


@pytest.mark.parametrize(("column", "word"), [("status", "paused"), ("kind", "stream"), ("on_interrupt", "ask")])
def test_a_task_with_a_word_that_is_not_known_is_left_alone_and_hides_no_other(
    older, execute, store, caplog, monkeypatch, column, word
):
    monkeypatch.setattr(conversions, "_left_alone", Recurring(logging.getLogger("flask_bgtasks")))  # says it anew
    client = older.test_client()
    older.go_on.set()
    strange = client.post("/work").headers["Task-Id"]
    until(lambda: store.get(strange).done)
    waiting = {"status": "started", column: word}
    to = ", ".join(f"{name} = '{value}'" for name, value in waiting.items())
    execute(f"UPDATE bgtasks_tasks SET completed_at = NULL, expire_at = NULL, {to}")
    before = execute("SELECT * FROM bgtasks_tasks").all()

    other = client.post("/work").headers["Task-Id"]

    until(lambda: client.get(f"/tasks/{other}").json["done"])
    asked = client.get(f"/tasks/{strange}")
    assert asked.status_code == 503
    assert "stored by a newer version" in asked.json["detail"]
    assert [task.request_id for task in store.find(TaskQuery()).tasks] == [other]
    assert store.purge() == 0
    assert execute("SELECT * FROM bgtasks_tasks WHERE request_id = :id", id=strange).all() == before
    assert len(said(caplog, f"left alone: task '{strange}': its {column} '{word}'")) == 1


def test_an_event_of_a_type_that_is_not_known_is_passed_on_as_it_is(older, execute):
    client = older.test_client()
    older.go_on.set()
    request_id = client.post("/work").headers["Task-Id"]
    until(lambda: client.get(f"/tasks/{request_id}").json["done"])
    execute("UPDATE bgtasks_events SET type = 'paused' WHERE seq = 2")

    page = client.get(f"/tasks/{request_id}/events", headers={"Accept": "application/json"}).json
    assert [event["type"] for event in page["events"]] == ["accepted", "paused", "completed"]
    assert "event: paused\n" in client.get(f"/tasks/{request_id}/events?starting_after=0").text


def test_values_with_more_in_them_are_read_without_it(older, execute, store):
    client = older.test_client()
    older.go_on.set()
    request_id = client.post("/work", json={"a": 1}).headers["Task-Id"]
    until(lambda: client.get(f"/tasks/{request_id}").json["done"])
    execute("UPDATE bgtasks_tasks SET progress = '[0,1,50.0,null,0,null,null,null,1]'")
    execute("UPDATE bgtasks_tasks SET token_note = '[null,null,true,1]'")
    execute("UPDATE bgtasks_payloads SET head = '[200,\"application/json\",[],\"zstd\"]' WHERE part = 'result'")

    assert store.get(request_id).progress.percentage == 50.0
    assert store.get(request_id).token_note.registered is True
    assert client.get(f"/tasks/{request_id}/result").json["release"] == "older"


def test_preferences_with_more_in_them_count_as_far_as_they_are_known():
    stored = {"kinds": ["failed", "digest"], "muted": ["work"], "channel": "mail"}

    assert Preferences.from_stored(stored) == Preferences(frozenset({"failed"}), muted=frozenset({"work"}))


def test_a_delivery_of_a_kind_that_is_not_known_is_kept_for_the_newer_release(make_dispatcher, execute, store, caplog):
    class Phone:
        name = "phone"

        @hookimpl
        def bgtasks_task_event(self, task, event):
            raise AssertionError("not called")

    store.add_delivery(NewDelivery("phone", "digest", {"of": "a week"}))
    deliveries = make_dispatcher(Phone())
    deliveries.wake()

    until(lambda: execute("SELECT due_at > created_at FROM bgtasks_deliveries").scalar_one())

    assert execute("SELECT kind, dead, tries FROM bgtasks_deliveries").all() == [("digest", 0, 0)]
    assert said(caplog, "of kind 'digest' is left to the newer flask-bgtasks that stored it")
