"""A store under test with its clock, whichever it is, and what a test does with every store."""

from datetime import timedelta

from flask_bgtasks.core.model import Entry, EventType
from flask_bgtasks.stores.conversions import micros
from tests.support.tasks import T0, new_task


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
        """A task that is not stored yet."""
        return new_task(**{"expires_after": timedelta(days=7), **fields})

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


def lapse_by_clock(bench, request_id):
    """Let a lease run out: the clock goes on until it has."""
    until = bench.store.get(request_id).lease_until
    bench.clock.now = until + timedelta(seconds=1)


def lapse_by_sql(bench, request_id):
    """Let a lease run out where the database has a clock of its own: the lease is moved into the past."""

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
