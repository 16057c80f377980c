"""Every implementation of the store protocol, behind one fixture."""

from datetime import datetime, timedelta, timezone

import pytest

from flask_bgtasks.core.model import Entry, EventType
from flask_bgtasks.core.transitions.attempt import Claim
from flask_bgtasks.stores.conversions import micros
from flask_bgtasks.stores.memory.store import MemoryStore
from flask_bgtasks.stores.sql import SqlStore
from tests.support.tasks import new_task

T0 = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


class FakeClock:
    """A clock that moves when it is told to, also backwards."""

    def __init__(self):
        self.now = T0

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += timedelta(seconds=seconds)


class Bench:
    """A store under test, and the few things that a test does with every store."""

    def __init__(self, store, clock, set_back, other=None):
        self.store = store
        self.clock = clock
        self._set_back = set_back
        self._open_other = other

    def other_app(self, app_id):
        """The same, as another app sees it that keeps its tasks in the same database."""
        return Bench(self._open_other(app_id), self.clock, self._set_back, self._open_other)

    def new(self, **fields):
        return new_task(at=T0, **{"expires_after": timedelta(days=7), **fields})

    def create(self, *, input=None, deliveries=(), limits=None, **fields):
        task = self.new(**fields)
        return self.store.create(task, input=input or {}, deliveries=deliveries, limits=limits).task

    def claim(self, request_id, *, seconds=60, worker="worker", deliveries=()):
        lease = timedelta(seconds=seconds)
        return self.store.claim(request_id, worker=worker, lease=lease, deliveries=deliveries)

    def running(self, **fields):
        task = self.create(**fields)
        return self.claim(task.request_id).task

    def output(self, text):
        """A piece of output, as an attempt reports it."""
        return Entry(EventType.OUTPUT, self.store.now(), {"chunks": [text]})

    def expire_lease(self, request_id):
        """The worker's process died, and its lease ran out."""
        self._set_back(self, request_id)

    def pass_time(self, request_ids, span):
        """So much time passes; what is no database of a clock of its own moves the tasks' times instead."""
        if self.clock is not None:
            self.clock.now += span
            return

        def operation(connection):
            for request_id in request_ids:
                number, task = self.store._select_to_change(connection, request_id)
                sql = self.store._sql.update_task(("expire_at",))
                connection.write(sql, {"task": number, "expire_at": micros(task.expire_at - span)})

        self.store._database.write(operation, durable=True)

    def history(self, request_id):
        return [(event.seq, event.type.value) for event in self.store.events(request_id)]


def _by_clock(bench, request_id):
    until = bench.store.get(request_id).lease_until
    bench.clock.now = until + timedelta(seconds=1)


def _by_sql(bench, request_id):
    def operation(connection):
        sql = bench.store._sql.update_task(("lease_until",))
        number, _ = bench.store._select_to_change(connection, request_id)
        connection.write(sql, {"task": number, "lease_until": 0})

    bench.store._database.write(operation, durable=True)


def firestore_store(project, clock, app_id="shop"):
    """A store in a project of the emulator."""
    from google.cloud import firestore

    from flask_bgtasks.firebase.firestore.client import Firestore, Target
    from flask_bgtasks.stores.firestore import FirestoreStore

    target = Target(project, None, lambda: firestore.Client(project=project), "tests")
    return FirestoreStore(Firestore(target), app_id=app_id, clock=clock, max_events=300)


@pytest.fixture(params=["memory", "sqlite", "postgresql", "firestore"])
def bench(request, tmp_path):
    clock, opened = FakeClock(), []
    if request.param == "memory":
        yield Bench(MemoryStore(app_id="shop", clock=clock, max_events=300), clock, _by_clock)
        return
    if request.param == "firestore":
        pytest.importorskip("google.cloud.firestore")
        project = request.getfixturevalue("firestore_project")

        def make(app_id):
            return firestore_store(project, clock, app_id)
    else:
        url, times = f"sqlite:///{tmp_path}/tasks.sqlite3", {"clock": clock}
        if request.param == "postgresql":
            url, times = request.getfixturevalue("new_postgresql_database")(), {}

        def make(app_id):
            return SqlStore(url, app_id=app_id, max_events=300, **times)

    def open_store(app_id):
        opened.append(make(app_id))
        return opened[-1]

    if request.param == "postgresql":
        yield Bench(open_store("shop"), None, _by_sql, open_store)
    else:
        yield Bench(open_store("shop"), clock, _by_clock, open_store)
    for store in opened:
        store.close()


@pytest.fixture
def store(bench):
    return bench.store


@pytest.fixture
def claim_change():
    return Claim("worker", timedelta(seconds=60))
