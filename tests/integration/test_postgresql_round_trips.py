"""PostgreSQL: how often an operation waits for the server's answer, which is what it costs where that is far away."""

import contextlib
import socket
from datetime import timedelta
from itertools import groupby

import pytest
import sqlalchemy as sa

from flask_bgtasks.core.model import Checkpoint, Progress, Result
from flask_bgtasks.core.transitions.attempt import Claim, Complete
from flask_bgtasks.errors import StoreUnavailable, TransitionRefused
from flask_bgtasks.stores.sql import SqlStore
from flask_bgtasks.stores.sql.drivers import layouts
from tests.backends.network import Network
from tests.support.tasks import new_task

psycopg = pytest.importorskip("psycopg")

LEASE = timedelta(seconds=60)
ENOUGH = 8
"""psycopg prepares what it has executed five times, and waits for that where it reads."""


class Wire(Network):
    """A good network to a server's Unix socket, that notes which way each piece went."""

    def __init__(self, path):
        self.ways = []
        super().__init__(path)

    @property
    def round_trips(self):
        return [way for way, _ in groupby(self.ways)].count("down")

    @contextlib.asynccontextmanager
    async def _server(self):
        with socket.socket(socket.AF_UNIX) as server:
            server.setblocking(False)
            await self._loop.sock_connect(server, self._target)
            yield server

    async def _travel(self, size, way):
        if size:
            self.ways.append(way)


@pytest.fixture(autouse=True)
def unwatched(monkeypatch):
    """No operation of a test is the one that looks whether the tables are still of this layout."""
    monkeypatch.setattr(layouts, "LOOK_SECONDS", 3600)


@pytest.fixture
def address(new_postgresql_database):
    return new_postgresql_database()


@pytest.fixture
def wire(address, postgresql_folder):
    (path,) = [str(path) for path in postgresql_folder.glob(".s.PGSQL.*") if path.suffix != ".lock"]
    with Wire(path) as wire:
        yield wire


@pytest.fixture
def make_store(wire, address):
    made = []

    def make():
        through = sa.make_url(address).set(host="127.0.0.1", port=wire.port, query={})
        made.append(SqlStore(through.render_as_string()))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make_store):
    store = make_store()
    for _ in range(ENOUGH):  # until everything is opened, made and prepared
        _through(store)
    return store


def _claimed(store):
    """A task that begins where it is created, as wherever a thread is free."""
    task = new_task(at=store.now())
    return store.create(task, input={"args": []}, claim=Claim("worker", LEASE)).attempt.task


def _through(store):
    task = _claimed(store)
    store.get(task.request_id)
    store.events(task.request_id)
    store.load_result(task.request_id)
    reported = store.save_progress(task.request_id, attempt=1, progress=Progress(store.now(), 1), known=task)
    checkpoint = Checkpoint("Draw", {}, b"1")
    saved = store.save_checkpoint(task.request_id, attempt=1, progress=None, checkpoint=checkpoint, known=reported)
    _end(store, saved)
    waiting = new_task(at=store.now())
    store.create(waiting, input={"args": []})
    store.claim(waiting.request_id, worker="worker", lease=LEASE)
    store.renew(waiting.request_id, attempt=1, lease=LEASE)


def _end(store, task):
    store.transition(task.request_id, Complete(1, Result(b"{}")), known=task)


WAITING = {
    "a status": (1, lambda store, task: store.get(task.request_id)),
    "a page of events": (1, lambda store, task: store.events(task.request_id)),
    "a task that waits": (3, lambda store, task: store.create(new_task(at=task.created_at), input={"args": []})),
    "a task that begins at once": (3, lambda store, task: _claimed(store)),
    "a report": (
        3,
        lambda store, task: store.save_progress(
            task.request_id, attempt=1, progress=Progress(task.created_at, 2), known=task
        ),
    ),
    "a renewed lease": (3, lambda store, task: store.renew(task.request_id, attempt=1, lease=LEASE)),
    "an end": (3, _end),
}


@pytest.mark.parametrize("operation", WAITING)
def test_an_operation_waits_for_few_answers(store, wire, operation):
    most, run = WAITING[operation]
    task = _claimed(store)
    store.now()
    wire.ways.clear()

    run(store, task)

    assert wire.round_trips <= most


def test_a_claim_waits_for_few_answers(store, wire):
    task = new_task(at=store.now())
    store.create(task, input={"args": []})
    wire.ways.clear()

    store.claim(task.request_id, worker="worker", lease=LEASE)

    assert wire.round_trips <= 3


def test_a_connection_that_was_lost_while_it_lay_in_the_pool_is_replaced_without_a_word(store, wire, caplog):
    task = _claimed(store)
    for run in (lambda: store.get(task.request_id), lambda: store.renew(task.request_id, attempt=1, lease=LEASE)):
        wire.cut()

        assert run().attempt == 1

    assert caplog.records == []


def test_a_new_connection_that_is_lost_at_once_is_an_outage(store, wire):
    task = _claimed(store)
    wire.refuse()

    with pytest.raises(StoreUnavailable):
        store.get(task.request_id)


def test_the_first_statement_that_the_server_refuses_is_told_not_those_behind_it(store, address, caplog):
    task = _claimed(store)
    with psycopg.connect(address.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute("ALTER TABLE bgtasks_events RENAME TO elsewhere")
        with pytest.raises(StoreUnavailable, match="bgtasks_events"):
            _end(store, task)
        admin.execute("ALTER TABLE elsewhere RENAME TO bgtasks_events")

    assert store.get(task.request_id) == task  # the refused end left nothing
    _end(store, task)
    assert [record for record in caplog.records if record.name == "psycopg"] == []


def test_a_refusal_keeps_the_statements_that_are_prepared(store):
    task = _claimed(store)
    _end(store, task)
    before = _prepared(store)

    for _ in range(3):
        with pytest.raises(TransitionRefused):
            store.claim(task.request_id, worker="worker", lease=LEASE)

    assert before
    assert before <= _prepared(store)


def test_a_connection_whose_roll_back_is_interrupted_is_not_used_again(store, monkeypatch):
    from flask_bgtasks.stores.sql.drivers.psycopg_connection import PipelinedConnection

    task = _claimed(store)

    def interrupted(connection):
        raise KeyboardInterrupt

    def fails(outcome):
        raise ValueError("no such sink")

    monkeypatch.setattr(PipelinedConnection, "recover", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.transition(task.request_id, Complete(1), deliveries=fails, known=task)
    monkeypatch.undo()

    assert store.renew(task.request_id, attempt=1, lease=LEASE).attempt == 1  # what was half done is not made
    assert not store.get(task.request_id).done


def test_a_driver_without_pipelines_waits_for_each_answer(make_store, wire, monkeypatch):
    monkeypatch.setattr(psycopg.Pipeline, "is_supported", lambda: False)  # as with the libpq of PostgreSQL 13
    store = make_store()
    _through(store)
    task = _claimed(store)
    wire.ways.clear()

    _end(store, task)
    assert wire.round_trips > 3

    with pytest.raises(TransitionRefused):
        store.claim(task.request_id, worker="worker", lease=LEASE)
    wire.cut()
    assert store.get(task.request_id).done


def _prepared(store):
    with store._database._engine.connect() as connection:
        return set(connection.exec_driver_sql("SELECT name FROM pg_prepared_statements").scalars())
