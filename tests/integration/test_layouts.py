"""A database of every layout there was is brought up to date: real ones, which the code of their time made.

`tests/data/layouts/` has them. They are opened by the app of today that they belong to.
"""

import contextlib
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from flask import Flask, abort, request

from flask_bgtasks import (
    BackgroundTasks,
    ConfigurationError,
    StoreUnavailable,
    StoreUnusable,
    TaskNotFound,
    checkpoint,
    step,
)
from flask_bgtasks.core.devices import FCM_TOKEN, make_device
from flask_bgtasks.stores.sql import SqlStore
from flask_bgtasks.stores.sql.drivers import postgresql
from flask_bgtasks.stores.sql.schema import VERSION
from flask_bgtasks.stores.types import NewDelivery, Settlement, TaskQuery
from tests.support.paths import ROOT
from tests.support.stored_input import stored_input
from tests.support.tasks import new_task
from tests.support.waiting import PATIENCE, until

LEASE = timedelta(seconds=60)

DUMPS = ROOT / "tests" / "data" / "layouts"

LAYOUTS = range(1, VERSION + 1)

OLDER = range(1, VERSION)


class Base:
    """A database: opens stores on it, and executes scripts without them."""

    def __init__(self, url, execute, select):
        self.url = url
        self.dialect = url.partition(":")[0].partition("+")[0]
        self.execute = execute
        self.select = select
        self._made = []

    def fill(self, layout):
        """Make it one of that layout."""
        self.execute((DUMPS / f"{layout}.{self.dialect}.sql").read_text())

    def open(self, app_id="shop", **options):
        store = SqlStore(self.url, app_id=app_id, **options)
        self._made.append(store)
        return store

    def upgraded(self, layout):
        """A store on it, filled with that layout."""
        self.fill(layout)
        return self.open()

    def close(self):
        for store in self._made:
            store.close()

    @property
    def schema(self):
        """Its tables, columns and indexes, in words that do not depend on how they came to be."""
        if self.dialect == "sqlite":
            tables = self.select("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name LIKE 'bgtasks%'")
            columns = [
                (table, *row[1:4], (row[4] or "").strip("'"), row[5])
                for table, _ in tables
                for row in self.select(f"PRAGMA table_info({table})")
            ]
            kinds = [(table, "AUTOINCREMENT" in sql, "WITHOUT ROWID" in sql) for table, sql in tables]
            return sorted(columns), sorted(kinds), sorted(self.select(_SQLITE_INDEXES))
        indexes = [(name, text) for name, text in self.select(_POSTGRESQL_INDEXES)]
        return sorted(self.select(_POSTGRESQL_COLUMNS)), sorted(
            # of a table that was made anew while the one before held the name
            (re.sub("_pkey1$", "_pkey", name), text.replace("_pkey1 ", "_pkey "))
            for name, text in indexes
        )


_SQLITE_INDEXES = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND name LIKE 'bgtasks%'"
_POSTGRESQL_INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
_POSTGRESQL_COLUMNS = """SELECT table_name, column_name, data_type, is_nullable, coalesce(column_default, '')
FROM information_schema.columns WHERE table_schema = 'public'"""


@pytest.fixture(params=["sqlite", "postgresql"])
def make_base(request, tmp_path):
    """Makes empty databases."""
    made = []

    def sqlite():
        path = tmp_path / f"{len(made)}.sqlite3"

        def execute(script):
            with contextlib.closing(sqlite3.connect(path)) as raw:
                raw.executescript(script)

        def select(query):
            with contextlib.closing(sqlite3.connect(path)) as raw:
                return raw.execute(query).fetchall()

        return Base(f"sqlite:///{path}", execute, select)

    def postgres():
        import psycopg

        url = request.getfixturevalue("new_postgresql_database")()

        def connect():
            return contextlib.closing(psycopg.connect(url.replace("+psycopg", ""), autocommit=True))

        def execute(script):
            with connect() as raw:
                raw.execute(script)

        def select(query):
            with connect() as raw:
                return raw.execute(query).fetchall()

        return Base(url, execute, select)

    def make():
        made.append({"sqlite": sqlite, "postgresql": postgres}[request.param]())
        return made[-1]

    yield make
    for base in made:
        base.close()


@pytest.fixture
def base(make_base):
    return make_base()


# -- every layout ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_database_of_every_layout_becomes_what_a_new_one_is(make_base, layout):
    """The newest too: if this fails for it alone, the tables were changed and `VERSION` was not."""
    old, new = make_base(), make_base()
    new.open().check()

    old.upgraded(layout).check()

    assert old.schema == new.schema
    assert old.open().tables.layout().usable


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_in_a_database_of_every_layout_reads_as_before(base, layout):
    store = base.upgraded(layout)

    by_status = {task.status.value: task for task in store.find(TaskQuery()).tasks}
    assert Counter(task.name for task in store.find(TaskQuery()).tasks) == {"write": 3, "fail": 1, "draw": 1}
    assert sorted(by_status) == ["cancelled", "completed", "failed", "processing", "started"]
    assert {task.owner for task in by_status.values()} == {"ada"}
    assert {task.app for task in by_status.values()} == {"shop"}
    completed, failed, interrupted = by_status["completed"], by_status["failed"], by_status["processing"]
    assert b"completed" in store.load_result(completed.request_id).body
    assert (failed.error_message, failed.result_status) == ("out of paper", 422)
    told = [event.type.value for event in store.events(completed.request_id)]
    assert [event for event in told if event != "progress"] == [
        "accepted",
        "started",
        *["step_started", "step_finished", "step_started"],
        *["output", "step_finished", "completed"],
    ]
    assert interrupted.progress.step == "Ink"
    assert stored_input(store, by_status["started"].request_id)["path"] == "/write"
    assert len(store.load_checkpoints(interrupted.request_id)) == (layout > 1)
    assert store.load_durations("write").keys() == {"Outline", "Write"}

    assert {letter.request_id for letter in store.dead_deliveries(limit=10)} == {failed.request_id}
    assert store.stats().deliveries_pending == 8
    if layout >= 3:
        (phone,) = store.devices(owner="ada")
        assert (phone.value, phone.app, phone.platform) == ("token-of-ada", "studio", "ios")
        assert store.load_preferences("ada")["kinds"] == ["failed"]

    scope = completed.idempotency_scope
    again = new_task(owner="ada", idempotency_scope=scope, fingerprint=completed.fingerprint)
    assert store.create(again, input={}).task == completed


@pytest.fixture
def serve(tmp_path):
    """Serves a database by the app of today that it belongs to."""
    made = []

    def serve(url):
        app = Flask("shop", instance_path=str(tmp_path / "instance"))
        app.secret_key = "of a test"
        bg = BackgroundTasks()
        app.sketched = []

        @app.post("/write")
        @bg.background(steps=["Outline", "Write"])
        def write():
            return {"text": request.get_json()["text"]}

        @app.post("/fail")
        @bg.background
        def fail():
            abort(422)

        @app.post("/draw")
        @bg.background(steps=["Sketch", "Ink"])
        def draw():
            def sketch():
                app.sketched.append("again")
                return {"lines": 3}

            with step("Sketch"):
                sketched = checkpoint("sketch", sketch)
            with step("Ink"):
                return sketched

        bg.init_app(app, store=url, sinks=["memory"])
        bg.owner_loader(lambda: request.headers.get("X-User"))
        made.append(app)
        return app

    yield serve
    for app in made:
        app.extensions["bgtasks"].close(grace=10)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_a_database_of_every_layout_what_waits_runs_and_what_was_interrupted_resumes(base, serve, layout):
    base.fill(layout)
    app = serve(base.url)
    store = app.extensions["bgtasks"].store
    asked = [task for task in store.find(TaskQuery()).tasks if task.status.value in ("started", "processing")]

    app.test_client().post("/write", json={"text": "new"})  # the first request: the process serves

    def ended():
        return all(store.get(task.request_id).done for task in asked)

    until(ended)
    found = {task.name: store.get(task.request_id) for task in asked}
    assert {name: task.status.value for name, task in found.items()} == {"write": "completed", "draw": "completed"}
    assert found["draw"].attempt == 2
    assert b'"lines":3' in store.load_result(found["draw"].request_id).body.replace(b" ", b"")
    assert app.sketched == (["again"] if layout == 1 else [])


@pytest.mark.parametrize("layout", [4, 5])
def test_in_an_updated_database_the_id_of_a_delivery_is_not_used_again(base, layout):
    base.upgraded(layout).purge()
    base.execute("DELETE FROM bgtasks_deliveries")
    store = base.open()
    store.create(new_task(), input={}, deliveries=[NewDelivery("mail")])
    [last] = store.due_deliveries("mail", worker="w", lease=LEASE)
    store.settle_delivery(last, Settlement())
    store.close()

    store = base.open()
    store.create(new_task(), input={}, deliveries=[NewDelivery("mail")])

    [newer] = store.due_deliveries("mail", worker="w", lease=LEASE)
    assert newer.id > last.id


def test_what_a_process_of_the_layout_before_had_leased_is_delivered_when_it_is_gone(base):
    base.fill(5)
    base.execute("UPDATE bgtasks_deliveries SET worker = 'old', leased_until = 1 WHERE dead = 0")

    store = base.open()

    assert store.due_deliveries("phone", worker="w", lease=LEASE) == []
    assert store.end_delivery_leases("phone", store.delivery_leases("phone")) == 8
    assert len(store.due_deliveries("phone", worker="w", lease=LEASE)) == 4  # the first of each task


def test_what_has_no_app_yet_is_adopted_by_the_first_that_opens_the_database(base):
    base.fill(4)

    shop, blog = base.open("shop"), base.open("blog")

    assert shop.apps() == {"shop": 5}
    tasks = shop.find(TaskQuery()).tasks
    assert {task.app for task in tasks} == {"shop"}
    assert len(shop.devices(owner="ada")) == 1
    assert shop.load_preferences("ada")["kinds"] == ["failed"]
    assert shop.load_durations("write")
    with pytest.raises(TaskNotFound):
        blog.get(tasks[0].request_id)
    assert blog.devices(owner="ada") == []
    assert blog.load_preferences("ada") is None
    assert blog.load_durations("write") == {}
    phone = make_device(FCM_TOKEN, "token-of-ada", owner="ada")
    assert blog.save_device(phone, max_devices=5) is not None  # each app has its own


def test_what_a_process_of_an_older_version_still_writes_is_adopted_while_others_run(base):
    store = base.open()
    task = store.create(new_task(), input={}, deliveries=[NewDelivery("phone")]).task
    base.execute("UPDATE bgtasks_tasks SET app = ''; UPDATE bgtasks_deliveries SET app = '';")
    assert store.runnable(limit=5) == []

    store.purge()

    assert [found.request_id for found in store.runnable(limit=5)] == [task.request_id]
    assert len(store.due_deliveries("phone", worker="w", lease=LEASE)) == 1
    assert store.find(TaskQuery()).tasks == [task]


# -- how it is done ----------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from flask_bgtasks.stores.sql import SqlStore

store = SqlStore(sys.argv[1], app_id="shop")
store._database.on_open = lambda connection: os.kill(os.getpid(), signal.SIGKILL)
store.check()
"""
"""Dies when everything is made, and nothing is committed yet."""


@pytest.mark.parametrize("layout", OLDER)
def test_an_upgrade_that_is_killed_in_the_middle_leaves_the_old_layout_whole(base, layout):
    base.fill(layout)
    before, rows = base.schema, base.select("SELECT * FROM bgtasks_tasks ORDER BY number")

    died = subprocess.run([sys.executable, "-c", KILLED, base.url], timeout=PATIENCE, check=False)

    assert died.returncode == -signal.SIGKILL
    assert base.schema == before
    assert base.select("SELECT * FROM bgtasks_tasks ORDER BY number") == rows
    assert base.open().tables.upgrade().found == layout
    assert base.open().tables.layout().usable


def test_of_several_that_open_an_old_database_at_once_one_upgrades_it(base, caplog):
    base.fill(1)
    stores = [base.open() for _ in range(4)]
    together = threading.Barrier(len(stores))

    def count(store):
        together.wait(PATIENCE)
        return sum(store.stats().by_status.values())

    with ThreadPoolExecutor(len(stores)) as pool:
        assert list(pool.map(count, stores)) == [5] * len(stores)

    said = [record.getMessage() for record in caplog.records if "were upgraded" in record.getMessage()]
    assert said == [f"the tables of the task store were upgraded from layout 1 to {VERSION}"]


def test_an_upgrade_waits_for_no_long_query_of_others_and_can_be_repeated(new_postgresql_database, monkeypatch):
    import psycopg

    monkeypatch.setattr(postgresql, "LOCK_SECONDS", 0.1)
    url = new_postgresql_database()
    with psycopg.connect(url.replace("+psycopg", "")) as other:
        other.execute((DUMPS / "6.postgresql.sql").read_text())
        other.commit()
        other.execute("SELECT count(*) FROM bgtasks_tasks")  # holds a lock until its transaction ends

        with contextlib.closing(SqlStore(url)) as store:
            with pytest.raises(StoreUnavailable, match="lock timeout"):
                store.check()
            assert other.execute("SELECT value FROM bgtasks_meta WHERE key = 'version'").fetchone() == ("6",)
            other.rollback()

            store.check()
            assert store.tables.layout().usable


@pytest.mark.parametrize("layout", OLDER)
def test_the_statements_for_a_database_administrator_do_the_same(make_base, layout):
    base, new = make_base(), make_base()
    new.open().check()
    base.fill(layout)
    store = base.open(auto_upgrade=False)

    base.execute(";\n".join(store.tables.statements()))

    assert base.schema == new.schema
    assert store.stats().by_status["completed"] == 1
    assert store.tables.statements() == ()


def test_a_new_database_can_be_made_by_its_statements(make_base):
    base, new = make_base(), make_base()
    new.open().check()

    base.execute(";\n".join(base.open().tables.statements()))

    assert base.schema == new.schema


@pytest.mark.parametrize("layout", [None, 6])
def test_without_automatic_upgrades_an_old_database_is_refused_until_it_is_upgraded(base, layout):
    if layout is not None:
        base.fill(layout)
    before = base.schema
    store = base.open(auto_upgrade=False)

    with pytest.raises(StoreUnusable, match=f"needs layout {VERSION}.*flask bgtasks db upgrade"):
        store.create(new_task(), input={})
    with pytest.raises(StoreUnusable, match="BGTASKS_AUTO_UPGRADE is off"):
        store.check()
    assert base.schema == before

    base.open(auto_upgrade=False).tables.upgrade()

    task = store.create(new_task(), input={}).task  # without a restart
    assert store.get(task.request_id) == task


def test_a_missing_index_is_made_again_and_a_missing_column_is_told(base):
    base.open().check()
    base.execute("DROP INDEX bgtasks_tasks_queue; ALTER TABLE bgtasks_tasks DROP COLUMN muted_at")
    tables = base.open(auto_upgrade=False).tables
    assert tables.layout().missing == ("bgtasks_tasks.muted_at", "bgtasks_tasks_queue")

    tables.upgrade()

    assert tables.layout().missing == ("bgtasks_tasks.muted_at",)
    assert not tables.layout().usable


def test_a_database_of_a_newer_version_is_refused(base):
    base.open().check()
    base.execute("UPDATE bgtasks_meta SET value = '99' WHERE key = 'version'")

    with pytest.raises(ConfigurationError, match="made by a newer flask-bgtasks"):
        base.open().check()
    with pytest.raises(ConfigurationError, match="made by a newer flask-bgtasks"):
        base.open().tables.upgrade()
    with pytest.raises(ConfigurationError, match="made by a newer flask-bgtasks"):
        base.open().tables.statements()
