"""PostgreSQL: whoever changes several rows locks them in one order, so that no two transactions wait in a circle."""

import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest

from flask_bgtasks.core.transitions.attempt import Complete
from flask_bgtasks.stores.sql import SqlStore
from flask_bgtasks.stores.types import NewDelivery, Settlement
from tests.support.tasks import new_task
from tests.support.waiting import PATIENCE, until

psycopg = pytest.importorskip("psycopg")

LEASE = timedelta(seconds=60)


@pytest.fixture
def url(new_postgresql_database):
    return new_postgresql_database()


@pytest.fixture
def store(url):
    store = SqlStore(url)
    yield store
    store.close()


@pytest.fixture
def connect(url):
    """Opens connections beside the store's."""
    made = []

    def connect(**options):
        made.append(psycopg.connect(url.replace("+psycopg", ""), **options))
        return made[-1]

    yield connect
    for connection in made:
        connection.close()


@pytest.fixture
def held_back(connect):
    """Holds a row while something else runs, until that waits for it; then says which others that holds already."""

    @contextmanager
    def held_back(table, key, last, work):
        holder, looker = connect(), connect(autocommit=True)
        holder.execute(f"SELECT 1 FROM {table} WHERE {key} = %s FOR UPDATE", (last,))
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        until(lambda: looker.execute(waiting).fetchone()[0])

        def is_free(value):
            free = f"SELECT 1 FROM {table} WHERE {key} = %s FOR UPDATE SKIP LOCKED"
            return looker.execute(free, (value,)).fetchone() is not None

        yield is_free
        holder.rollback()
        thread.join(PATIENCE)
        assert not thread.is_alive()

    return held_back


@pytest.fixture
def taken(store):
    """Three deliveries, leased."""
    for _ in range(3):
        store.add_delivery(NewDelivery("sink", "message", {}))
    return store.due_deliveries("sink", worker="worker", lease=LEASE)


def by_id(deliveries):
    return sorted(delivery.id for delivery in deliveries)


def dead(store, taken):
    for delivery in taken:
        store.settle_delivery(delivery, Settlement(dead=True, error="no"))
    return lambda: store.replay_deliveries(list(reversed(by_id(taken))))


@pytest.mark.parametrize(
    "work",
    [
        lambda store, taken: lambda: store.renew_deliveries(list(reversed(taken)), lease=LEASE),
        lambda store, taken: (
            lambda leases: lambda: store.end_delivery_leases("sink", dict(sorted(leases.items(), reverse=True)))
        )(store.delivery_leases("sink")),
        lambda store, taken: lambda: store.expire_leases("worker"),
        dead,
    ],
    ids=["renewed", "ended", "of a dead process", "replayed"],
)
def test_deliveries_are_locked_in_the_order_of_their_ids(store, connect, taken, held_back, work):
    # The order in which a scan finds them is another: the first row was written last.
    connect(autocommit=True).execute("UPDATE bgtasks_deliveries SET due_at = due_at WHERE id = %s", (by_id(taken)[0],))
    run = work(store, taken)

    with held_back("bgtasks_deliveries", "id", by_id(taken)[-1], run) as is_free:
        assert [is_free(key) for key in by_id(taken)[:-1]] == [False, False]


def test_tasks_of_a_dead_process_are_locked_in_the_order_of_their_numbers(store, connect, held_back):
    ids = [store.create(new_task(), input={}).task.request_id for _ in range(3)]
    for request_id in reversed(ids):
        store.claim(request_id, worker="worker", lease=LEASE)

    with held_back("bgtasks_tasks", "request_id", ids[-1], lambda: store.expire_leases("worker")) as is_free:
        assert [is_free(request_id) for request_id in ids[:-1]] == [False, False]


def test_a_task_that_is_being_changed_is_purged_later(store, connect):
    tasks = [store.create(new_task(expires_after=timedelta(0)), input={}).task for _ in range(2)]
    for task in tasks:
        store.claim(task.request_id, worker="worker", lease=LEASE)
        store.transition(task.request_id, Complete(1))
    holder = connect()
    holder.execute("SELECT 1 FROM bgtasks_tasks WHERE request_id = %s FOR UPDATE", (tasks[0].request_id,))

    assert store.purge() == 1
    holder.rollback()
    assert store.purge() == 1


def test_runs_that_report_their_steps_in_another_order_learn_one_after_the_other(store):
    store.save_durations("process", {"a": 1.0, "b": 1.0})
    errors, start = [], threading.Barrier(2)

    def learn(steps):
        start.wait(PATIENCE)
        try:
            for _ in range(100):
                store.save_durations("process", dict.fromkeys(steps, 2.0))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=learn, args=(steps,)) for steps in ("ab", "ba")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert errors == []
    assert [history.runs for history in store.load_durations("process").values()] == [201, 201]


def test_a_connection_that_is_in_use_when_the_store_is_closed_is_closed_when_it_is_free(store, connect):
    store.create(new_task("a"), input={})
    holder, looker = connect(), connect(autocommit=True)
    holder.execute("LOCK TABLE bgtasks_tasks IN ACCESS EXCLUSIVE MODE")
    reader = threading.Thread(target=lambda: store.stats(), daemon=True)
    reader.start()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    until(lambda: looker.execute(waiting).fetchone()[0])

    store.close()
    holder.rollback()
    reader.join(PATIENCE)

    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> ALL(%s)"
    mine = [[holder.info.backend_pid, looker.info.backend_pid]]
    until(lambda: looker.execute(others, mine).fetchone()[0] == 0, timeout=10)
