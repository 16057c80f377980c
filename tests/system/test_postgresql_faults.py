"""A PostgreSQL server that is killed, frozen, cut off and crowded, and what becomes of the tasks in it."""

import gc
import shutil
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, Status, StoreUnavailable, checkpoint, current_task, step
from flask_bgtasks.core.model import Entry, EventType, Progress
from flask_bgtasks.stores.sql import SqlStore
from flask_bgtasks.stores.sql.drivers import postgresql, psycopg_connection
from tests.backends import free_port
from tests.backends.network import Network
from tests.backends.postgresql import Cluster
from tests.support.tasks import new_task
from tests.support.waiting import PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.slow]

LEASE = timedelta(seconds=30)


@pytest.fixture(scope="module")
def running():
    pytest.importorskip("psycopg")
    folder, port = Path(tempfile.mkdtemp(prefix="bgtasks-pg-")), free_port()
    # What is not waited for stays in the server's memory as long as PostgreSQL allows: a kill loses it for certain.
    cluster = Cluster(folder, port=port, wal_writer_delay="10s", log_statement="ddl")
    cluster.port = port
    cluster.start()
    yield cluster
    cluster.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(running):
    """The server, with a database that nobody has used."""
    import psycopg

    with psycopg.connect(_address(running.port, "postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS tasks WITH (FORCE)")
        connection.execute("CREATE DATABASE tasks")
    yield running
    running.thaw()


@pytest.fixture
def network(cluster):
    with Network(cluster.port) as network:
        yield network
        network.heal()


@pytest.fixture
def make_store():
    made = []

    def make(port, **more):
        made.append(SqlStore(_url(port), app_id="app", **more))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def make_app(tmp_path):
    made = []

    def make(port, **settings):
        app, bgtasks = Flask("faults", instance_path=str(tmp_path)), BackgroundTasks()
        values = {"store": _url(port), "progress_interval": 0.02, "show_errors": True, **settings}
        bgtasks.init_app(app, **values)
        made.append(app)
        return app, bgtasks

    yield make
    for app in made:
        app.extensions["bgtasks"].close(grace=5)


def _address(port, database="tasks"):
    return f"postgresql://postgres@127.0.0.1:{port}/{database}"


def _url(port):
    return _address(port).replace("://", "+psycopg://")


def _running(store):
    task = new_task(at=store.now())
    store.create(task, input={})
    return store.claim(task.request_id, worker="worker", lease=LEASE)


def _until(reached):
    wait, deadline = threading.Event(), time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline
        wait.wait(0.01)


def _hangs(thread):
    """Whether a background thread waits for the server: for an answer, or for a connection of its own.

    Asked of that very thread: others of its name may be left of other apps.
    """
    frame = sys._current_frames().get(thread._thread.ident)
    while frame is not None and not _waits(Path(frame.f_code.co_filename)):
        frame = frame.f_back
    return frame is not None


def _waits(path):
    return path.name == "psycopg_connection.py" or path.parent.name == "psycopg"


def _output(store, number):
    return Entry(EventType.OUTPUT, store.now(), {"offset": number, "chunks": [number]})


# -- reports, and what becomes of them ---------------------------------------------------------------------------------


def test_reports_do_not_wait_for_a_server_that_is_frozen(cluster, make_app):
    app, bgtasks = make_app(cluster.port)
    begun, frozen, reported, go = (threading.Event() for _ in range(4))

    @bgtasks.task
    def generate():
        begun.set()
        assert frozen.wait(PATIENCE)
        with step("Write"):
            for number in range(50):
                current_task.update(details=f"{number}", fraction=number / 50)
                current_task.emit(number)
        reported.set()
        assert go.wait(PATIENCE)

    with app.app_context():
        handle = generate.submit()
    assert begun.wait(PATIENCE)
    cluster.freeze()
    frozen.set()

    assert reported.wait(PATIENCE)  # nothing thaws it before

    cluster.thaw()
    go.set()
    assert handle.wait_until_done(timeout=PATIENCE).status is Status.COMPLETED


def test_what_ends_while_the_server_is_away_is_stored_when_it_is_back(cluster, make_app, caplog):
    app, bgtasks = make_app(cluster.port)
    begun, away = threading.Event(), threading.Event()

    @bgtasks.task
    def generate():
        current_task.emit("before")
        begun.set()
        assert away.wait(PATIENCE)
        current_task.emit("while it is away")
        checkpoint("Draw", lambda: current_task.emit("in a checkpoint"))
        current_task.emit("after")
        return "done"

    with app.app_context():
        handle = generate.submit()
    assert begun.wait(PATIENCE)
    cluster.kill()
    away.set()
    _until(lambda: "cannot be stored yet" in caplog.text)
    cluster.start()

    done = handle.wait_until_done(timeout=PATIENCE)

    store = app.extensions["bgtasks"].store
    events = store.events(handle.request_id)
    chunks = [chunk for event in events if event.type is EventType.OUTPUT for chunk in event.data["chunks"]]
    assert (done.status, done.attempt) == (Status.COMPLETED, 1)
    assert chunks == ["before", "while it is away", "in a checkpoint", "after"]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


def test_what_was_shown_is_there_after_a_kill_of_the_server(cluster, make_store):
    writer, reader = make_store(cluster.port), make_store(cluster.port)
    reader.check()  # it introduces its app, and that commit brings all before it to disk
    attempt = _running(writer)
    request_id = attempt.task.request_id
    for number in range(20):
        progress = Progress(writer.now(), 1, percentage=number)
        writer.save_progress(request_id, attempt=1, progress=progress, entries=[_output(writer, number)])
    shown = reader.events(request_id)

    cluster.kill()
    cluster.start()

    assert shown[-1].seq > 40
    assert reader.events(request_id) == shown


# -- a server that says nothing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["swallow", "stall", "strand"])
def test_a_connection_that_says_nothing_any_more_is_given_up(network, make_store, monkeypatch, how):
    monkeypatch.setattr(postgresql, "CONNECT_SECONDS", 2)
    store = make_store(network.port)
    attempt = _running(store)  # makes the tables, which a busy machine takes its time for
    monkeypatch.setattr(psycopg_connection.LimitedConnection, "silence", 2.0)
    getattr(network, how)()

    if how != "strand":  # new connections say nothing either
        with pytest.raises(StoreUnavailable):
            store.renew(attempt.task.request_id, attempt=1, lease=LEASE)

    network.heal()
    assert store.renew(attempt.task.request_id, attempt=1, lease=LEASE).attempt == 1


def test_an_operation_that_is_given_up_leaves_nothing_to_the_garbage_collector(cluster, monkeypatch):
    import psycopg
    from psycopg.waiting import Wait

    def operation():
        try:
            yield Wait.R
        finally:
            yield Wait.R  # as the end of a pipeline does, to fetch what it still expects

    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: ignored.append(found.exc_value))
    monkeypatch.setattr(psycopg_connection.LimitedConnection, "silence", 0.1)
    connection = psycopg_connection.LimitedConnection.connect(_address(cluster.port))

    with pytest.raises(psycopg.OperationalError, match="the server was silent"):
        connection.wait(operation())
    gc.collect()

    assert ignored == []


def test_tcp_and_the_server_are_told_the_limits(cluster, make_store):
    store = make_store(cluster.port)
    with store._database._engine.connect() as connection:
        shown = {
            name: connection.exec_driver_sql(f"SHOW {name}").scalar()
            for name in ("statement_timeout", "idle_in_transaction_session_timeout")
        }
        given = connection.connection.driver_connection.info.get_parameters()

    assert shown == {"statement_timeout": "10s", "idle_in_transaction_session_timeout": "20s"}
    assert (given["keepalives_idle"], given["tcp_user_timeout"], given["connect_timeout"]) == ("10", "10000", "5")


def test_a_row_that_another_process_holds_makes_the_store_unavailable_not_the_task_failed(
    cluster, make_store, monkeypatch
):
    import psycopg

    monkeypatch.setattr(postgresql, "STATEMENT_SECONDS", 0.5)
    store = make_store(cluster.port)
    attempt = _running(store)
    with psycopg.connect(_address(cluster.port)) as other:
        other.execute("LOCK TABLE bgtasks_tasks IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreUnavailable, match="statement timeout"):
            store.renew(attempt.task.request_id, attempt=1, lease=LEASE)

    store.renew(attempt.task.request_id, attempt=1, lease=LEASE)


def test_a_process_is_drained_though_the_server_says_nothing(network, make_app, monkeypatch):
    app, bgtasks = make_app(network.port)
    begun, go = threading.Event(), threading.Event()

    @bgtasks.task
    def generate():
        begun.set()
        go.wait(PATIENCE)

    with app.app_context():
        generate.submit()
    assert begun.wait(PATIENCE)
    lifecycle = app.extensions["bgtasks"].lifecycle
    monkeypatch.setattr(lifecycle, "_grace", 0)
    monkeypatch.setattr(psycopg_connection.LimitedConnection, "silence", 2 * PATIENCE)
    lifecycle.start()
    network.stall()
    _until(lambda: _hangs(lifecycle.recovery.thread))

    lifecycle.stop()  # as SIGTERM does

    try:
        _until(lambda: lifecycle._drained)
    finally:
        network.heal()
        go.set()


# -- a crowd -----------------------------------------------------------------------------------------------------------


def test_a_pool_that_is_exhausted_is_an_outage(cluster, make_store, monkeypatch):
    monkeypatch.setattr(postgresql, "STATEMENT_SECONDS", 0.5)
    store = make_store(cluster.port, connections=1)
    attempt = _running(store)
    with (
        store._database._engine.connect(),
        pytest.raises(StoreUnavailable, match="all connections of this process are in use"),
    ):
        store.get(attempt.task.request_id)

    assert store.get(attempt.task.request_id) == attempt.task


def test_more_threads_than_connections_wait_for_one(cluster, make_store):
    store = make_store(cluster.port, connections=2)
    attempt = _running(store)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(store.get(attempt.task.request_id).request_id)) for _ in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert len(found) == 40


def test_only_the_first_process_makes_the_tables(cluster, make_store):
    before = cluster.log.count("CREATE ")
    make_store(cluster.port).check()
    made = cluster.log.count("CREATE ") - before

    for _ in range(3):
        make_store(cluster.port).check()

    assert made > 10
    assert cluster.log.count("CREATE ") - before == made


def test_processes_that_start_while_others_write_cause_no_deadlock(cluster, make_store):
    writer = make_store(cluster.port)
    attempts = [_running(writer) for _ in range(4)]
    stop, failures = threading.Event(), []

    def write(attempt):
        number = 0
        while not stop.is_set():
            number += 1
            try:
                entries = [_output(writer, number)]
                writer.save_progress(attempt.task.request_id, attempt=1, progress=None, entries=entries)
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=write, args=(attempt,)) for attempt in attempts]
    for thread in threads:
        thread.start()
    for _ in range(20):
        make_store(cluster.port).check()
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)

    assert failures == []
    assert "deadlock detected" not in cluster.log
