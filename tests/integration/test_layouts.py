"""A database of a layout before this one is brought up to date: SQLite and PostgreSQL, every layout that there was."""

import contextlib
import sqlite3
from datetime import timedelta

import pytest

from flask_bgtasks import ConfigurationError, TaskNotFound
from flask_bgtasks.core.devices import FCM_TOKEN, make_device
from flask_bgtasks.core.model import TokenNote
from flask_bgtasks.stores.sql import SqlStore
from flask_bgtasks.stores.types import NewDelivery, Settlement, TaskQuery
from tests.support.stored_input import stored_input
from tests.support.tasks import new_task

LEASE = timedelta(seconds=60)

LAYOUT_6 = """
    ALTER TABLE bgtasks_tasks DROP COLUMN suspicions;
    DELETE FROM bgtasks_meta WHERE key = 'version';
    INSERT INTO bgtasks_meta (key, value) VALUES ('version', '6');
"""

LAYOUT_5 = f"""{LAYOUT_6}
    ALTER TABLE bgtasks_deliveries DROP COLUMN lease;
    DELETE FROM bgtasks_meta WHERE key = 'version';
    INSERT INTO bgtasks_meta (key, value) VALUES ('version', '5');
"""

WITHOUT_AUTOINCREMENT = """
    CREATE TABLE old_deliveries (id INTEGER NOT NULL PRIMARY KEY, sink TEXT NOT NULL, kind TEXT NOT NULL,
        request_id VARCHAR(36), seq INTEGER NOT NULL, payload TEXT, tries INTEGER NOT NULL, created_at BIGINT NOT NULL,
        due_at BIGINT NOT NULL, dead INTEGER NOT NULL, error TEXT, worker TEXT, leased_until BIGINT,
        channel TEXT DEFAULT '' NOT NULL, app TEXT DEFAULT '' NOT NULL, lease BIGINT);
    INSERT INTO old_deliveries SELECT id, sink, kind, request_id, seq, payload, tries, created_at, due_at, dead, error,
        worker, leased_until, channel, app, lease FROM bgtasks_deliveries;
    DROP TABLE bgtasks_deliveries;
    ALTER TABLE old_deliveries RENAME TO bgtasks_deliveries;
    CREATE INDEX bgtasks_deliveries_owed ON bgtasks_deliveries (app, sink, due_at, id) WHERE dead = 0;
    CREATE INDEX bgtasks_deliveries_task ON bgtasks_deliveries (request_id, sink, channel, id);
    CREATE INDEX bgtasks_deliveries_dead ON bgtasks_deliveries (app, id) WHERE dead = 1;
    CREATE INDEX bgtasks_deliveries_leased ON bgtasks_deliveries (app, worker) WHERE worker IS NOT NULL;
    CREATE INDEX bgtasks_deliveries_appless ON bgtasks_deliveries (id) WHERE length(app) = 0;
"""
"""The table as SQLite had it until layout 5. PostgreSQL's ids come from a sequence, and always did."""

LAYOUT_4 = f"""{LAYOUT_5}
    DROP INDEX bgtasks_tasks_waiting; DROP INDEX bgtasks_tasks_queue; DROP INDEX bgtasks_tasks_leases;
    DROP INDEX bgtasks_tasks_scope; DROP INDEX bgtasks_tasks_failed; DROP INDEX bgtasks_tasks_newest;
    DROP INDEX bgtasks_tasks_appless; DROP INDEX bgtasks_deliveries_appless;
    DROP INDEX bgtasks_deliveries_owed; DROP INDEX bgtasks_deliveries_dead; DROP INDEX bgtasks_deliveries_leased;
    ALTER TABLE bgtasks_tasks DROP COLUMN app; ALTER TABLE bgtasks_deliveries DROP COLUMN app;
    CREATE INDEX bgtasks_tasks_waiting ON bgtasks_tasks (status, owner) WHERE status = 'started';
    CREATE INDEX bgtasks_tasks_queue ON bgtasks_tasks (status, place, name, queue) WHERE status = 'started';
    CREATE INDEX bgtasks_tasks_leases ON bgtasks_tasks (lease_until, name, worker) WHERE status = 'processing';
    CREATE UNIQUE INDEX bgtasks_tasks_scope ON bgtasks_tasks (idempotency_scope) WHERE idempotency_scope IS NOT NULL;
    CREATE INDEX bgtasks_tasks_failed ON bgtasks_tasks (name, completed_at) WHERE status = 'failed';
    CREATE INDEX bgtasks_tasks_newest ON bgtasks_tasks (owner, created_at, request_id) WHERE owner IS NOT NULL;
    CREATE INDEX bgtasks_deliveries_owed ON bgtasks_deliveries (sink, due_at, id) WHERE dead = 0;
    CREATE INDEX bgtasks_deliveries_dead ON bgtasks_deliveries (id) WHERE dead = 1;
    CREATE INDEX bgtasks_deliveries_leased ON bgtasks_deliveries (worker) WHERE worker IS NOT NULL;

    CREATE TABLE old_durations (name TEXT NOT NULL, step TEXT NOT NULL, position INTEGER NOT NULL,
        runs INTEGER NOT NULL, seconds FLOAT NOT NULL, PRIMARY KEY (name, step));
    INSERT INTO old_durations SELECT name, step, position, runs, seconds FROM bgtasks_durations;
    DROP TABLE bgtasks_durations;
    ALTER TABLE old_durations RENAME TO bgtasks_durations;

    CREATE TABLE old_devices (id VARCHAR(32) NOT NULL PRIMARY KEY, kind TEXT NOT NULL, value TEXT NOT NULL, owner TEXT,
        platform TEXT, app TEXT, lang TEXT, request_id VARCHAR(36), details TEXT NOT NULL, created_at BIGINT NOT NULL,
        seen_at BIGINT NOT NULL, installation TEXT);
    INSERT INTO old_devices SELECT id, kind, value, owner, platform, app, lang, request_id, details, created_at,
        seen_at, installation FROM bgtasks_devices;
    DROP TABLE bgtasks_devices;
    ALTER TABLE old_devices RENAME TO bgtasks_devices;
    CREATE INDEX bgtasks_devices_owner ON bgtasks_devices (owner, seen_at) WHERE request_id IS NULL;
    CREATE INDEX bgtasks_devices_task ON bgtasks_devices (request_id) WHERE request_id IS NOT NULL;
    CREATE INDEX bgtasks_devices_installation ON bgtasks_devices (installation) WHERE installation IS NOT NULL;
    CREATE INDEX bgtasks_devices_seen ON bgtasks_devices (seen_at);

    CREATE TABLE old_preferences (owner TEXT NOT NULL PRIMARY KEY, document TEXT NOT NULL);
    INSERT INTO old_preferences SELECT owner, document FROM bgtasks_preferences;
    DROP TABLE bgtasks_preferences;
    ALTER TABLE old_preferences RENAME TO bgtasks_preferences;

    CREATE TABLE old_marks (key TEXT NOT NULL PRIMARY KEY, until BIGINT NOT NULL);
    INSERT INTO old_marks SELECT key, until FROM bgtasks_marks;
    DROP TABLE bgtasks_marks;
    ALTER TABLE old_marks RENAME TO bgtasks_marks;

    DELETE FROM bgtasks_meta;
    INSERT INTO bgtasks_meta (key, value) VALUES ('version', '4');
"""

LAYOUT_3 = f"""{LAYOUT_4}
    ALTER TABLE bgtasks_tasks DROP COLUMN token_note;
    UPDATE bgtasks_meta SET value = '3' WHERE key = 'version';
"""

LAYOUT_2 = f"""{LAYOUT_3}
    DROP TABLE bgtasks_devices; DROP TABLE bgtasks_preferences; DROP TABLE bgtasks_marks;
    DROP INDEX bgtasks_tasks_failed; DROP INDEX bgtasks_deliveries_owed; DROP INDEX bgtasks_deliveries_task;
    ALTER TABLE bgtasks_tasks DROP COLUMN told_at; ALTER TABLE bgtasks_tasks DROP COLUMN muted_at;
    ALTER TABLE bgtasks_deliveries DROP COLUMN channel;
    CREATE INDEX bgtasks_deliveries_owed ON bgtasks_deliveries (sink, id) WHERE dead = 0;
    CREATE INDEX bgtasks_deliveries_task ON bgtasks_deliveries (request_id, sink, id);
    UPDATE bgtasks_meta SET value = '2' WHERE key = 'version';
"""


class Base:
    """A database: opens stores on it, and executes scripts without them."""

    def __init__(self, url, execute):
        self.url = url
        self._made = []
        self.execute = execute

    def downgrade(self, layout):
        """Make it one of a layout before."""
        self.execute(layout if self.url.startswith("postgresql") else WITHOUT_AUTOINCREMENT + layout)

    def open(self, app_id="shop"):
        store = SqlStore(self.url, app_id=app_id)
        self._made.append(store)
        return store

    def close(self):
        for store in self._made:
            store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def base(request, tmp_path):
    if request.param == "sqlite":
        path = tmp_path / "tasks.sqlite3"

        def execute(script):
            with contextlib.closing(sqlite3.connect(path)) as raw:
                raw.executescript(script)
    else:
        import psycopg

        url = request.getfixturevalue("new_postgresql_database")()
        path = url

        def execute(script):
            with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as raw:
                raw.execute(script)

    made = Base(f"sqlite:///{path}" if request.param == "sqlite" else path, execute)
    yield made
    made.close()


@pytest.mark.parametrize("layout", [LAYOUT_2, LAYOUT_3, LAYOUT_4, LAYOUT_5, LAYOUT_6], ids="23456")
def test_a_database_of_a_layout_before_is_brought_up_to_date(base, layout):
    store = base.open()
    task = store.create(new_task(owner="ada"), input={"a": 1}, deliveries=[NewDelivery("phone")]).task
    store.close()
    base.downgrade(layout)

    store = base.open()

    assert store.get(task.request_id) == task
    assert stored_input(store, task.request_id) == {"a": 1}
    noted = store.create(new_task(token_note=TokenNote("expo", "de", True)), input={}).task
    assert store.get(noted.request_id) == noted
    (owed,) = store.due_deliveries("phone", worker="w", lease=LEASE)
    assert (owed.request_id, owed.channel) == (task.request_id, "")
    store.save_preferences("ada", {"kinds": []})
    assert store.load_preferences("ada") == {"kinds": []}


def test_an_updated_database_has_the_indexes_of_a_new_one(base):
    def indexes(store):
        sql = "SELECT name, sql FROM sqlite_master WHERE type = 'index'"
        if base.url.startswith("postgresql"):
            sql = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
        found = store._database.read(lambda connection: connection.execute(sql).fetchall())
        return {name: text for name, text in found if name.startswith("bgtasks_") and not name.endswith("_pkey")}

    store = base.open()
    expected = indexes(store)
    store.close()
    base.downgrade(LAYOUT_4)

    assert indexes(base.open()) == expected


@pytest.mark.parametrize("layout", [LAYOUT_4, LAYOUT_5], ids="45")
def test_in_an_updated_database_the_id_of_a_delivery_is_not_used_again(base, layout):
    store = base.open()
    store.create(new_task(), input={}, deliveries=[NewDelivery("phone"), NewDelivery("mail")])
    store.close()
    base.downgrade(layout)
    store = base.open()
    [last] = store.due_deliveries("mail", worker="w", lease=LEASE)
    store.settle_delivery(last, Settlement())
    store.close()

    store = base.open()
    store.create(new_task(), input={}, deliveries=[NewDelivery("mail")])

    [newer] = store.due_deliveries("mail", worker="w", lease=LEASE)
    assert newer.id > last.id


def test_what_a_process_of_the_layout_before_had_leased_is_delivered_when_it_is_gone(base):
    store = base.open()
    store.create(new_task(), input={}, deliveries=[NewDelivery("phone")])
    store.close()
    base.downgrade(LAYOUT_5)
    base.execute("UPDATE bgtasks_deliveries SET worker = 'old', leased_until = 1")

    store = base.open()

    assert store.due_deliveries("phone", worker="w", lease=LEASE) == []
    assert store.end_delivery_leases("phone", store.delivery_leases("phone")) == 1
    assert len(store.due_deliveries("phone", worker="w", lease=LEASE)) == 1


def test_what_has_no_app_yet_is_adopted_by_the_first_that_opens_the_database(base):
    store = base.open("before")
    task = store.create(
        new_task(owner="ada", idempotency_scope="k", fingerprint="f"), input={}, deliveries=[NewDelivery("phone")]
    )
    phone = store.save_device(make_device(FCM_TOKEN, "token", owner="ada", app="studio"), max_devices=5)
    store.save_preferences("ada", {"kinds": ["push"]})
    store.save_durations("t", {"Write": 2.0})
    store.set_mark("silence", timedelta(hours=1))
    store.close()
    base.downgrade(LAYOUT_4)

    shop, blog = base.open("shop"), base.open("blog")

    assert shop.get(task.task.request_id).app == "shop"
    assert shop.create(new_task(idempotency_scope="k", fingerprint="f"), input={}).replayed
    assert shop.devices(owner="ada") == [phone]
    assert shop.load_preferences("ada") == {"kinds": ["push"]}
    assert shop.load_durations("t")["Write"].seconds == 2.0
    assert not shop.take_mark("silence", LEASE)
    assert len(shop.due_deliveries("phone", worker="w", lease=LEASE)) == 1
    assert shop.apps() == {"shop": 1}
    with pytest.raises(TaskNotFound):
        blog.get(task.task.request_id)
    assert blog.devices(owner="ada") == []
    assert blog.load_preferences("ada") is None
    assert blog.load_durations("t") == {}
    assert blog.take_mark("silence", LEASE)


def test_what_a_process_of_an_older_version_still_writes_is_adopted_while_others_run(base):
    store = base.open()
    task = store.create(new_task(), input={}, deliveries=[NewDelivery("phone")]).task
    base.execute("UPDATE bgtasks_tasks SET app = ''; UPDATE bgtasks_deliveries SET app = '';")
    assert store.runnable(limit=5) == []

    store.purge()

    assert [found.request_id for found in store.runnable(limit=5)] == [task.request_id]
    assert len(store.due_deliveries("phone", worker="w", lease=LEASE)) == 1
    assert store.find(TaskQuery()).tasks == [task]


def test_a_database_of_a_newer_version_is_refused(base):
    base.open().check()
    base.execute("UPDATE bgtasks_meta SET value = '99' WHERE key = 'version'")

    with pytest.raises(ConfigurationError, match="made by a newer flask-bgtasks"):
        base.open().check()
