"""Leases on deliveries: who renews them, and when one is believed to be over."""

import threading
from datetime import timedelta

import pytest

from flask_bgtasks.delivery import leases as delivery_leases
from flask_bgtasks.delivery.leases import LeaseKeeper, LeaseWatch
from flask_bgtasks.stores.memory.store import MemoryStore
from flask_bgtasks.stores.types import NewDelivery, Settlement
from tests.support.tasks import T0, new_task
from tests.support.waiting import PATIENCE, until

LEASE = timedelta(seconds=60)


class Clock:
    """A monotonic clock that moves when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(delivery_leases.time, "monotonic", made)
    return made


@pytest.fixture
def wall():
    return [T0]


@pytest.fixture
def store(wall):
    store = MemoryStore(clock=lambda: wall[0])
    store.create(new_task(), input={}, deliveries=[NewDelivery("sink")])
    return store


def due(store, worker):
    return store.due_deliveries("sink", worker=worker, lease=LEASE)


def watched(watch, clock, seconds, step=5.0):
    """Look now and then, for so long; how many leases were ended."""
    ended = 0
    for _ in range(int(seconds / step)):
        clock.now += step
        ended += watch.look("sink")
    return ended


def test_a_lease_that_nobody_renews_ends_after_its_length_on_our_own_clock(store, clock):
    watch = LeaseWatch(store, lease=LEASE)
    due(store, "gone")
    assert watch.look("sink") == 0

    assert watched(watch, clock, 55) == 0
    assert due(store, "other") == []
    assert watched(watch, clock, 5) == 1

    assert len(due(store, "other")) == 1


def test_a_clock_an_hour_ahead_ends_no_lease(store, clock, wall):
    watch = LeaseWatch(store, lease=LEASE)
    due(store, "right")
    wall[0] += timedelta(hours=1)

    assert watched(watch, clock, 55) == 0
    assert due(store, "ahead") == []


def test_a_lease_that_is_renewed_or_taken_again_is_watched_anew(store, clock, wall):
    watch = LeaseWatch(store, lease=LEASE)
    [taken] = due(store, "slow")
    watch.look("sink")
    for _ in range(5):
        assert watched(watch, clock, 40) == 0
        wall[0] += timedelta(seconds=40)
        store.renew_deliveries([taken], lease=LEASE)
    watched(watch, clock, 40)
    store.settle_delivery(taken, Settlement(due_at=T0))
    due(store, "slow")

    assert watched(watch, clock, 55) == 0
    assert watched(watch, clock, 15) == 1


def test_a_process_that_slept_has_watched_nothing(store, clock):
    watch = LeaseWatch(store, lease=LEASE)
    due(store, "slept as well")
    watch.look("sink")

    clock.now += 3600
    assert watch.look("sink") == 0

    assert watched(watch, clock, 45) == 1


def test_the_leases_are_not_looked_at_at_each_wake(store, clock):
    asked = []
    store.delivery_leases = lambda sink: asked.append(sink) or {}
    watch = LeaseWatch(store, lease=LEASE)

    watched(watch, clock, 10, step=0.5)

    assert len(asked) == 2


def test_a_call_that_lives_keeps_its_lease_and_what_has_ended_is_let_alone(store, clock):
    keeper = LeaseKeeper(store, lease=LEASE)
    [taken] = due(store, "slow")
    with keeper.kept(taken) as call:
        seen = store.delivery_leases("sink")
        keeper.renew()
        assert store.delivery_leases("sink") == seen
        clock.now += 10
        store._clock = lambda: T0 + timedelta(seconds=10)
        keeper.renew()
        renewed = store.delivery_leases("sink")
        assert renewed != seen
        clock.now += 19
        keeper.renew()
        assert store.delivery_leases("sink") == renewed
    clock.now += 60
    keeper.renew()

    assert store.delivery_leases("sink") == renewed
    store.settle_delivery(call.delivery, Settlement())
    assert store.stats().deliveries_pending == 0
    keeper.close()


def test_a_lease_that_was_lost_is_said_once_and_not_renewed(store, clock, caplog):
    keeper = LeaseKeeper(store, lease=LEASE)
    [taken] = due(store, "slow")
    with keeper.kept(taken):
        store.end_delivery_leases("sink", store.delivery_leases("sink"))
        [other] = due(store, "other")
        for _ in range(5):
            clock.now += 20
            keeper.renew()

    assert [record.message for record in caplog.records if "was lost" in record.message] == [
        f"delivery {taken.id} to sink 'sink': its lease was lost during the call"
    ]
    assert store.renew_deliveries([other], lease=LEASE)
    keeper.close()


def test_a_call_that_does_not_return_is_said_once(store, clock, caplog):
    keeper = LeaseKeeper(store, lease=LEASE)
    [taken] = due(store, "slow")
    with keeper.kept(taken):
        for _ in range(10):
            clock.now += 20
            keeper.renew()

    [said] = [record.message for record in caplog.records if "has not returned" in record.message]
    assert said.startswith(f"sink 'sink' has not returned from delivery {taken.id} for 80 s")
    keeper.close()


def test_a_delivery_is_settled_after_the_renewal_that_is_under_way(store, clock):
    """A store whose token changes with a renewal would not know the old one."""
    renewing, go_on, settled = threading.Event(), threading.Event(), []
    keeper = LeaseKeeper(store, lease=LEASE)
    [taken] = due(store, "slow")
    renew = store.renew_deliveries

    def slow(deliveries, *, lease):
        renewing.set()
        assert go_on.wait(PATIENCE)
        return renew(deliveries, lease=lease)

    store.renew_deliveries = slow
    returns = threading.Event()

    def deliver():
        with keeper.kept(taken):
            assert returns.wait(PATIENCE)
        settled.append(go_on.is_set())

    delivering = threading.Thread(target=deliver)
    delivering.start()
    until(lambda: keeper._calls)
    clock.now += 20
    renewer = threading.Thread(target=keeper.renew)
    renewer.start()
    assert renewing.wait(PATIENCE)
    returns.set()
    until(lambda: not keeper._calls)
    go_on.set()
    delivering.join(10)
    renewer.join(10)

    assert settled == [True]
    keeper.close()


def test_the_thread_that_renews_sleeps_while_nothing_is_delivered_and_is_there_for_the_next(store):
    (taken,) = due(store, "here")
    keeper = LeaseKeeper(store, lease=timedelta(seconds=0.012))  # looks each millisecond
    looked = threading.Event()
    keeper.renew = looked.set
    with keeper.kept(taken):
        assert looked.wait(PATIENCE)
    thread = keeper.thread._thread
    until(lambda: not keeper._awake.is_set())  # nothing was being delivered when it looked

    assert thread.is_alive()
    looked.clear()
    with keeper.kept(taken):
        assert looked.wait(PATIENCE)
        assert keeper.thread._thread is thread
    keeper.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
