"""What is special about SQLite: shared commits, the disk, other processes, forks."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from flask_bgtasks import ConfigurationError, LeaseLost, Status, StoreUnavailable
from flask_bgtasks.core.transitions.attempt import Claim, Complete, Report
from flask_bgtasks.stores.conversions import EPOCH, micros
from flask_bgtasks.stores.sql import SqlStore
from flask_bgtasks.stores.sql.drivers import sqlite
from flask_bgtasks.stores.types import Limits, NewDelivery, TaskQuery
from tests.support.paths import ROOT
from tests.support.stored_input import stored_input
from tests.support.tasks import new_task
from tests.support.waiting import PATIENCE

LEASE = timedelta(seconds=60)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tasks.sqlite3"


@pytest.fixture
def make(path):
    made = []

    def make(**kwargs):
        store = SqlStore(f"sqlite:///{path}", **kwargs)
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


@pytest.fixture
def traced(make):
    """A store whose writer's statements are recorded."""
    store, statements = make(), []
    store.create(new_task(), input={})
    store._database._commits.writer.raw.set_trace_callback(statements.append)
    return store, statements


class Held:
    """An operation that keeps the writer's transaction open until it is let go."""

    def __init__(self, store):
        self.entered, self.go = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=store._database.write, args=(self._wait,), kwargs={"durable": False})

    def _wait(self, connection):
        self.entered.set()
        assert self.go.wait(PATIENCE)

    def __enter__(self):
        self.thread.start()
        assert self.entered.wait(PATIENCE)
        return self

    def __exit__(self, *_):
        self.go.set()
        self.thread.join(10)


def queued(store, count):
    """Wait until so many operations wait behind the one that is held."""
    waiting = threading.Event()
    while len(store._database._commits._queue) < count:
        waiting.wait(0.001)


def start(call):
    outcome = []

    def run():
        try:
            outcome.append(call())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


# -- shared commits


def test_operations_that_come_together_share_one_transaction(traced):
    store, statements = traced
    with Held(store) as held:
        threads = [start(lambda: store.create(new_task(), input={})) for _ in range(10)]
        queued(store, 10)
        statements.clear()
        held.go.set()
        for thread, _ in threads:
            thread.join(10)

    assert [s for s in statements if s == "COMMIT"] == ["COMMIT"] * 2  # the held one's, and theirs
    assert store.stats().by_status == {"started": 11}


def test_a_refused_operation_does_not_disturb_those_beside_it(traced):
    store, _ = traced
    running = store.create(new_task(), input={}).task.request_id
    store.claim(running, worker="w", lease=LEASE)
    with Held(store) as held:
        good = [start(lambda: store.create(new_task(), input={})) for _ in range(3)]
        thread, refused = start(lambda: store.transition(running, Complete(7)))
        good += [start(lambda: store.create(new_task(), input={})) for _ in range(3)]
        queued(store, 7)
        held.go.set()
        for one, _ in [*good, (thread, None)]:
            one.join(10)

    assert isinstance(refused[0], LeaseLost)
    assert all(not isinstance(outcome[0], Exception) for _, outcome in good)
    assert store.stats().by_status == {"started": 7, "processing": 1}


def test_an_operation_that_fails_half_way_is_undone_and_the_others_are_kept(traced):
    store, _ = traced

    def half_way(connection):
        connection.write("INSERT INTO bgtasks_meta (key, value) VALUES ('half', 'way')", {})
        raise ValueError("half-way")

    with Held(store) as held:
        before = start(lambda: store.create(new_task(), input={}))
        queued(store, 1)
        thread, failed = start(lambda: store._database.write(half_way, durable=True))
        queued(store, 2)
        after = start(lambda: store.create(new_task(), input={}))
        queued(store, 3)
        held.go.set()
        for one, _ in (before, (thread, None), after):
            one.join(10)

    assert isinstance(failed[0], ValueError)
    assert store.stats().by_status == {"started": 3}
    left = store._database.read(lambda c: c.execute("SELECT * FROM bgtasks_meta WHERE key = 'half'").fetchall())
    assert left == []


def test_an_operation_that_fails_half_way_alone_is_undone_too(traced):
    store, _ = traced

    def half_way(connection):
        connection.write("INSERT INTO bgtasks_meta (key, value) VALUES ('half', 'way')", {})
        raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        store._database.write(half_way, durable=True)
    store.create(new_task(), input={})
    left = store._database.read(lambda c: c.execute("SELECT * FROM bgtasks_meta WHERE key = 'half'").fetchall())
    assert left == []


def test_readers_do_not_wait_for_a_long_transaction(traced):
    store, _ = traced
    task = store.create(new_task(), input={}).task
    with Held(store):
        assert store.get(task.request_id) == task


# -- the disk


@pytest.fixture
def syncs(monkeypatch):
    """Counts what is brought to disk, by file."""
    real, calls = os.fsync, []

    def fsync(fd):
        calls.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        real(fd)

    monkeypatch.setattr("flask_bgtasks.stores.sql.drivers.wal_sync.os.fsync", fsync)
    return calls


def test_what_is_promised_is_on_disk_when_the_call_returns(make, syncs):
    store = make()
    task = store.create(new_task(), input={}).task
    assert syncs == ["tasks.sqlite3-wal"]
    store.claim(task.request_id, worker="w", lease=LEASE)
    store.save_progress(task.request_id, attempt=1, progress=None)
    store.renew(task.request_id, attempt=1, lease=LEASE)
    assert len(syncs) == 1
    store.transition(task.request_id, Complete(1))

    assert len(syncs) == 2


def test_normal_waits_for_no_disk(make, syncs):
    make(synchronous="NORMAL").create(new_task(), input={})

    assert syncs == []


def test_a_refused_operation_waits_for_no_disk(make, syncs):
    store = make()
    task = store.create(new_task(), input={}).task
    with pytest.raises(LeaseLost):
        store.transition(task.request_id, Complete(1))

    assert len(syncs) == 1


def test_one_sync_serves_all_who_committed_before_it_began(make, monkeypatch):
    store = make()
    store.create(new_task(), input={})
    real, entered, go, calls = os.fsync, threading.Event(), threading.Event(), []

    def slow(fd):
        calls.append(1)
        entered.set()
        assert go.wait(PATIENCE)
        real(fd)

    monkeypatch.setattr("flask_bgtasks.stores.sql.drivers.wal_sync.os.fsync", slow)
    first = start(lambda: store.create(new_task(), input={}))
    assert entered.wait(PATIENCE)
    others = [start(lambda: store.create(new_task(), input={})) for _ in range(9)]
    waiting = threading.Event()
    while len(store._database._sync._turn._waiters) < 9:
        waiting.wait(0.001)
    go.set()
    for thread, _ in [first, *others]:
        thread.join(10)

    assert len(calls) == 2  # the first's, and one for all who came while it ran
    assert store.stats().by_status == {"started": 11}


def test_a_disk_that_fails_is_said_and_the_next_write_tries_again(make, monkeypatch):
    store = make()

    def broken(fd):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("flask_bgtasks.stores.sql.drivers.wal_sync.os.fsync", broken)
        with pytest.raises(StoreUnavailable, match="cannot be brought to disk"):
            store.create(new_task(), input={})

    store.create(new_task(), input={})


def test_a_full_disk_refuses_and_leaves_nothing_half_done(make):
    store = make()
    task = store.create(new_task(), input={}).task
    raw = store._database._commits.writer.raw
    raw.execute(f"PRAGMA max_page_count={raw.execute('PRAGMA page_count').fetchone()[0] + 2}")
    with pytest.raises(StoreUnavailable, match="full"):
        store.create(new_task(), input={"text": "x" * 100_000})

    assert store.stats().by_status == {"started": 1}
    raw.execute("PRAGMA max_page_count=1000000")
    store.create(new_task(), input={"text": "x" * 100_000})
    assert store.get(task.request_id) == task


def test_a_database_that_another_process_holds_is_unavailable_not_broken(make, path, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    store = make()
    store.create(new_task(), input={})
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        store.create(new_task(), input={})
    other.execute("ROLLBACK")
    other.close()

    store.create(new_task(), input={})


# -- opening


def test_nothing_is_opened_before_it_is_needed(make, path):
    make()

    assert not path.exists()


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda path: path.write_bytes(b"not a database at all" * 100), "not a database"),
        (lambda path: path.mkdir(), "cannot be opened"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_mend(make, path, prepare, says):
    prepare(path)

    with pytest.raises(ConfigurationError, match="BGTASKS_STORE") as refused:
        make().check()
    assert says in str(refused.value)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("url", ["postgresql+psycopg://u:secret@h:port/x", "postgresql://u:secret/x", "sqlite:/secret"])
def test_what_is_no_url_is_refused_without_its_password(url):
    with pytest.raises(ConfigurationError, match="BGTASKS_STORE: expected an URL that SQLAlchemy takes") as refused:
        SqlStore(url)

    assert "secret" not in str(refused.value)
    assert refused.value.__suppress_context__


def test_a_missing_folder_is_named(tmp_path):
    store = SqlStore(f"sqlite:///{tmp_path}/missing/tasks.sqlite3")

    with pytest.raises(ConfigurationError, match="Its folder has to be there"):
        store.check()


# -- other processes

CHILD = """
import sys
from flask_bgtasks.stores.sql import SqlStore
from tests.support.tasks import new_task
store = SqlStore("sqlite:///" + sys.argv[1])
for n in range(int(sys.argv[2])):
    print(store.create(new_task(), input={"n": n}).task.request_id, flush=True)
"""


def child(path, count):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CHILD, str(path), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)


def test_processes_that_start_at_once_share_one_file(make, path):
    children = [child(path, 100) for _ in range(4)]
    ids = [line.strip() for process in children for line in process.communicate(timeout=60)[0].splitlines()]

    assert [process.returncode for process in children] == [0] * 4
    assert len(ids) == 400
    assert make().stats().by_status == {"started": 400}


def test_what_was_acknowledged_survives_kill_9(make, path):
    process = child(path, 100_000)
    acknowledged = [process.stdout.readline().strip() for _ in range(200)]
    process.send_signal(signal.SIGKILL)
    acknowledged += [line.strip() for line in process.communicate(timeout=30)[0].splitlines() if len(line) == 37]
    store = make()

    for request_id in acknowledged:
        assert store.get(request_id).status is Status.STARTED
        assert "n" in stored_input(store, request_id)


def test_a_child_of_fork_opens_its_own_connections(make):
    store = make()
    task = store.create(new_task(), input={}).task
    token = store.change_token()
    pid = os.fork()
    if pid == 0:  # pragma: no cover - the child
        try:
            store.claim(task.request_id, worker="child", lease=LEASE)
            os._exit(0 if store.get(task.request_id).attempt == 1 else 1)
        except BaseException:
            os._exit(2)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert store.change_token() != token
    assert store.get(task.request_id).worker == "child"
    store.transition(task.request_id, Complete(1))


def test_a_change_elsewhere_changes_the_token(make, path):
    here, there = make(), make()
    here.check()
    before = here.change_token()
    assert here.change_token() == before
    there.create(new_task(), input={})

    assert here.change_token() != before


# -- indexes


@pytest.fixture
def plan(make):
    store = make()
    store.create(new_task(owner="ada"), input={})

    def plan(sql, parameters):
        rows = store._database.read(lambda c: c.execute("EXPLAIN QUERY PLAN " + sql, parameters).fetchall())
        return " / ".join(row[3] for row in rows)

    plan.store = store
    return plan


def test_the_hot_statements_use_their_indexes(plan):
    sql = plan.store._sql
    expected = {
        (sql.select_task, "id app"): "sqlite_autoindex_bgtasks_tasks_1",
        (sql.select_by_scope, "app scope"): "bgtasks_tasks_scope",
        (sql.count_waiting, "app limit"): "USING COVERING INDEX",
        (sql.count_waiting_of_owner, "app owner limit"): "bgtasks_tasks_waiting",
        (sql.select_events, "app id after limit"): "USING PRIMARY KEY",
        (sql.select_due, "app sink now limit"): "bgtasks_deliveries_owed",
        (sql.select_over, "now limit"): "bgtasks_tasks_over",
        (sql.expire_leases, "app who until"): "bgtasks_tasks_leases",
        (sql.free_deliveries, "app who"): "bgtasks_deliveries_leased",
        (sql.count_running, "app now name besides"): "bgtasks_tasks_leases",
    }
    for (text, names), index in expected.items():
        steps = plan(text, dict.fromkeys(names.split(), 1))

        assert index in steps, steps
        assert re.search(r"SCAN bgtasks_\w+(?! USING)\b(?! USING)", steps) is None, steps
        # The few tasks that a dead process held are sorted: whoever changes several locks them in one order.
        assert "TEMP B-TREE" not in steps or text == sql.expire_leases, steps


def test_no_statement_is_planned_anew_because_a_value_might_be_that_of_a_partial_index(plan):
    store = plan.store
    query = "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql LIKE '% WHERE %'"
    partial = [row[0].partition(" WHERE ")[2] for row in store._database.read(lambda c: c.execute(query).fetchall())]
    compared = {column for text in partial for column in re.findall(r"(\w+) = '?\w*'?", text)}
    statements = [
        getattr(store._sql, name) for name, kind in vars(type(store._sql)).items() if hasattr(kind, "attrname")
    ]

    assert {"status", "dead"} <= compared
    assert len(statements) > 20
    for text in statements:
        asked = set(re.findall(r"(\w+) = :", text.partition("WHERE")[2]))
        assert not asked & compared, text


@pytest.mark.parametrize(
    ("ask", "indexes"),
    [
        (lambda store: store.runnable(limit=4, names=["t", "u"]), ["bgtasks_tasks_leases", "bgtasks_tasks_queue"]),
        (lambda store: store.runnable(limit=4), ["bgtasks_tasks_leases", "bgtasks_tasks_queue"]),
        (
            lambda store: store.runnable(limit=4, names=["t"], queues=["q"], most_running={"t": 1}),
            ["bgtasks_tasks_leases", "bgtasks_tasks_leases", "bgtasks_tasks_queue"],
        ),
        (lambda store: store.find(TaskQuery(owner="ada")), ["bgtasks_tasks_newest"]),
        (lambda store: store.devices(owner="ada"), ["bgtasks_devices_owner"]),
        (lambda store: store.devices(request_id="t"), ["bgtasks_devices_task"]),
        (lambda store: store.load_preferences("ada"), ["sqlite_autoindex_bgtasks_preferences_1"]),
        (lambda store: store.count_failed("t", since=store.now()), ["bgtasks_tasks_failed"]),
    ],
)
def test_the_scans_use_their_indexes(plan, ask, indexes, monkeypatch):
    store, seen = plan.store, []
    original = store._sql.cold

    def cold(statement):
        seen.append(original(statement))
        return seen[-1]

    monkeypatch.setattr(store._sql, "cold", cold)
    store._sql.known.cache_clear()
    ask(store)

    assert len(seen) == len(indexes)
    for index, (text, values) in zip(indexes, seen, strict=True):
        names = re.findall(r":(\w+)", text)
        steps = plan(text, {**dict.fromkeys(names, 1), **values})
        assert index in steps, steps
        assert re.search(r"SCAN bgtasks_\w+(?! USING)\b(?! USING)", steps) is None, steps
        few = "devices" in index  # of one owner: sorted in no time
        assert "TEMP B-TREE" not in steps or few or "name" in steps or "GROUP BY" in text, steps


def test_what_is_held_costs_a_look_nothing(make):
    store = make()
    task = store.create(new_task(), input={}).task
    for n in range(2000):
        store.add_delivery(NewDelivery("phone", channel=str(n), delay=timedelta(hours=8)), request_id=task.request_id)
    store.add_delivery(NewDelivery("phone", channel="due"), request_id=task.request_id)
    steps = []

    def look(connection):
        connection.raw.set_progress_handler(lambda: steps.append(1), 10)  # SQLite's own instructions, ten at a time
        query = {"app": "", "sink": "phone", "now": micros(connection.now()), "limit": 100}
        found = connection.execute(store._sql.select_due, query).fetchall()
        connection.raw.set_progress_handler(None, 0)
        return found

    found = store._database.read(look)

    assert len(found) == 1
    assert len(steps) < 100, "it walked over what is held"


def test_a_thousand_waiting_tasks_are_not_counted_for_each_new_one(traced):
    store, statements = traced
    limits = Limits(max_queued=10_000)
    for _ in range(200):
        store.create(new_task(), input={}, limits=limits)

    assert sum("count(*)" in s for s in statements) < 10


def test_a_report_of_nothing_still_checks_the_holder(make):
    store = make()
    task = store.create(new_task(), input={}).task
    store.transition(task.request_id, Claim("w", LEASE))

    with pytest.raises(LeaseLost):
        store.transition(task.request_id, Report(2))


def test_a_leader_that_is_ended_takes_none_of_those_with_it_who_share_its_transaction(path):
    database = sqlite.SqliteDatabase(str(path), synchronous="NORMAL", clock=lambda: EPOCH)
    entered, go_on, errors, results = threading.Event(), threading.Event(), [], []

    def blocker(connection):
        entered.set()
        assert go_on.wait(PATIENCE)

    def ended(connection):
        connection.write("INSERT INTO bgtasks_meta (key, value) VALUES ('ended', '1')", {})
        raise SystemExit

    def number(n):
        def operation(connection):
            connection.write(f"INSERT INTO bgtasks_meta (key, value) VALUES ('n{n}', '1')", {})
            return n

        return operation

    def write(operation):
        try:
            results.append(database.write(operation, durable=False))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(blocker,))]
    threads[0].start()
    assert entered.wait(PATIENCE)
    for operation in (ended, number(1), number(2)):  # they queue in this order, and the first of them leads
        threads.append(threading.Thread(target=write, args=(operation,)))
        waiting = len(database._commits._queue)
        threads[-1].start()
        while len(database._commits._queue) == waiting:
            time.sleep(0.001)
    go_on.set()
    for thread in threads:
        thread.join(10)

    kept = database.read(lambda c: c.execute("SELECT key FROM bgtasks_meta WHERE key != 'version'").fetchall())
    database.close()
    assert [type(error) for error in errors] == [SystemExit]
    assert sorted(n for n in results if n) == [1, 2]
    assert {row[0] for row in kept} == {"n1", "n2"}
