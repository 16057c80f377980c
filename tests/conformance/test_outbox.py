"""The outbox of every store: deliveries in order, one worker each, settled or dead."""

from datetime import datetime, timedelta, timezone

import pytest

from flask_bgtasks.core.transitions.attempt import Renew, Report
from flask_bgtasks.stores.types import NewDelivery, Settlement
from tests.support.threads import together

EVENT = NewDelivery("sink")


def due(store, sink="sink", worker="w", seconds=60):
    return store.due_deliveries(sink, worker=worker, lease=timedelta(seconds=seconds))


def test_a_change_and_its_deliveries_are_one(bench, store):
    task = bench.create(deliveries=[EVENT, NewDelivery("other", "notification", {"title": "ü"})])
    bench.claim(task.request_id, deliveries=[EVENT])

    (mine,) = due(store)
    assert (mine.request_id, mine.seq, mine.kind, mine.payload, mine.tries) == (task.request_id, 1, "event", None, 0)
    (other,) = due(store, "other")
    assert (other.kind, other.payload) == ("notification", {"title": "ü"})
    assert store.stats().deliveries_pending == 3


def test_changes_without_an_event_for_sinks_owe_nothing(bench, store):
    task = bench.running()
    store.transition(task.request_id, Report(1, (bench.output("x"),)), deliveries=[EVENT])
    store.transition(task.request_id, Renew(1, timedelta(seconds=9)), deliveries=[EVENT])

    assert store.stats().deliveries_pending == 0


def test_deliveries_of_a_task_come_one_after_the_other(bench, store):
    one = bench.create(deliveries=[EVENT])
    bench.claim(one.request_id, deliveries=[EVENT])
    two = bench.create(deliveries=[EVENT])
    first, second = due(store)

    assert [(d.request_id, d.seq) for d in (first, second)] == [(one.request_id, 1), (two.request_id, 1)]
    assert due(store) == []
    store.settle_delivery(first, Settlement())
    (next_,) = due(store)
    assert (next_.request_id, next_.seq) == (one.request_id, 2)


def test_two_workers_never_get_the_same_delivery(bench, store):
    for _ in range(40):
        bench.create(deliveries=[EVENT])
    results = together(4, lambda n: due(store, worker=str(n)))
    taken = [delivery.id for result in results for delivery in result]
    while rest := due(store):
        taken += [delivery.id for delivery in rest]

    assert len(taken) == len(set(taken)) == 40


def lose_leases(store, sink="sink"):
    """Whoever watches finds the leases lost."""
    return store.end_delivery_leases(sink, store.delivery_leases(sink))


def test_a_lease_on_a_delivery_does_not_end_by_the_clock(bench, store):
    if bench.clock is None:
        pytest.skip("needs a clock that the test moves")
    bench.create(deliveries=[EVENT])
    due(store, worker="right")
    bench.clock.advance(3600)  # of another process, whose clock is an hour ahead

    assert due(store, worker="ahead") == []


def test_what_a_dead_worker_took_comes_again(bench, store):
    bench.create(deliveries=[EVENT])
    (first,) = due(store, worker="dead")

    assert lose_leases(store) == 1

    (again,) = due(store, worker="alive")
    assert again.id == first.id
    assert store.delivery_leases("another") == {}


LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "settlement",
    [
        Settlement(),
        Settlement(replaced_by=[NewDelivery("sink", "message", {"n": 1}, channel="a")]),
        Settlement(due_at=LONG_AGO, error="too late"),
        Settlement(dead=True, error="no"),
    ],
    ids=["done", "split up", "retry", "dead"],
)
def test_who_has_lost_its_lease_does_not_take_a_delivery_from_who_has_it(bench, store, settlement):
    bench.create(deliveries=[EVENT])
    (frozen,) = due(store, worker="same")
    lose_leases(store)
    store.settle_delivery(frozen, settlement)  # nobody has it
    (sending,) = due(store, worker="same")

    store.settle_delivery(frozen, settlement)

    assert due(store, worker="third") == []
    assert store.dead_deliveries() == []
    assert store.stats().deliveries_pending == 1
    store.settle_delivery(sending, Settlement(due_at=LONG_AGO, error="down"))
    (again,) = due(store, worker="third")
    assert (again.id, again.tries, again.error) == (frozen.id, 1, "down")


def test_a_late_settlement_does_not_take_the_delivery_of_another_task(bench, store):
    bench.create(deliveries=[EVENT])
    (frozen,) = due(store, worker="frozen")
    lose_leases(store)
    (sending,) = due(store, worker="sending")
    store.settle_delivery(sending, Settlement())
    newer = bench.create(deliveries=[EVENT])
    (delivery,) = due(store, worker="frozen")

    store.settle_delivery(frozen, Settlement())

    assert delivery.request_id == newer.request_id
    assert delivery.id != frozen.id
    assert store.stats().deliveries_pending == 1


def test_a_renewed_lease_is_another_one_to_who_watches_and_the_same_to_its_holder(bench, store):
    bench.create(deliveries=[EVENT])
    (taken,) = due(store)
    seen = store.delivery_leases("sink")
    if bench.clock is not None:
        bench.clock.advance(20)

    renewed = store.renew_deliveries([taken], lease=timedelta(seconds=60))

    assert list(seen) == list(renewed) == [taken.id]
    assert store.delivery_leases("sink") != seen
    assert store.end_delivery_leases("sink", seen) == 0
    assert due(store) == []
    store.settle_delivery(renewed[taken.id], Settlement())
    assert store.stats().deliveries_pending == 0
    assert store.renew_deliveries([taken], lease=timedelta(seconds=60)) == {}


def test_a_lost_lease_is_not_renewed(bench, store):
    bench.create(deliveries=[EVENT])
    (taken,) = due(store)
    lose_leases(store)
    (again,) = due(store)

    assert store.renew_deliveries([taken], lease=timedelta(seconds=60)) == {}
    assert list(store.renew_deliveries([again], lease=timedelta(seconds=60))) == [again.id]


def test_a_retry_waits_until_it_is_due_and_holds_the_later_ones_back(bench, store):
    if bench.clock is None:
        pytest.skip("needs a clock that the test moves")
    task = bench.create(deliveries=[EVENT])
    bench.claim(task.request_id, deliveries=[EVENT])
    (first,) = due(store)
    store.settle_delivery(first, Settlement(due_at=store.now() + timedelta(seconds=5), error="down"))
    assert due(store) == []
    bench.clock.advance(6)

    (again,) = due(store)
    assert (again.id, again.tries, again.error) == (first.id, 1, "down")


def test_a_dead_letter_is_kept_and_holds_nothing_back(bench, store):
    task = bench.create(deliveries=[EVENT])
    bench.claim(task.request_id, deliveries=[EVENT])
    (first,) = due(store)
    store.settle_delivery(first, Settlement(dead=True, error="bad"))

    (next_,) = due(store)
    assert next_.seq == 2
    (dead,) = store.dead_deliveries()
    assert (dead.id, dead.dead, dead.error, dead.tries) == (first.id, True, "bad", 1)
    assert store.stats().deliveries_dead == 1


def test_a_delivery_of_no_task_stands_alone(bench, store):
    store.add_delivery(NewDelivery("sink", "notification", {"title": "a"}))
    store.add_delivery(NewDelivery("sink", "notification", {"title": "b"}))
    both = due(store)

    assert [(d.request_id, d.payload["title"]) for d in both] == [(None, "a"), (None, "b")]
    store.settle_delivery(both[0], Settlement())
    store.settle_delivery(both[0], Settlement())  # settled twice: nothing more happens
    assert store.stats().deliveries_pending == 1
