"""Which ends are notified, and not if they were seen within the grace."""

from datetime import timedelta

import pytest

from flask_bgtasks import (
    EventType,
    Notification,
)
from flask_bgtasks.core.transitions.attempt import Cancel, Fail
from flask_bgtasks.core.transitions.outside import MarkSeen, MarkTold, RequestCancel
from flask_bgtasks.delivery.notifier import NotifyPolicy
from tests.support.sinks.notified_tasks import finish_one, nothing_pending, start_one
from tests.support.sinks.phone import Phone, deliver_due, register
from tests.support.waiting import until


def cancelled(store, deliveries):
    request_id = start_one(store, deliveries)
    task = store.get(request_id)
    assert task.held
    store.transition(request_id, RequestCancel(), deliveries=deliveries.for_change)
    store.transition(request_id, Cancel(1), deliveries=deliveries.for_change)


@pytest.mark.parametrize(
    ("notify", "told"),
    [
        ("Ready", []),
        ({"failed": "Failed: {error_message}"}, ["Failed: no paper"]),
        ({"cancelled": "Cancelled"}, ["Cancelled"]),
        ({"failed": lambda task, result: Notification(task.error_message)}, ["no paper"]),
        ({"completed": "Ready", "failed": {"en": "Failed", "de": "Gescheitert"}}, ["Failed"]),
    ],
)
def test_failure_and_cancellation_are_told_where_they_are_asked_for(store, make, notify, told):
    phone = Phone()
    deliveries = make(phone, notify=notify)
    register(store, "one")

    finish_one(store, deliveries, Fail(1, "no paper"))
    cancelled(store, deliveries)
    deliveries.wake()
    until(lambda: nothing_pending(store))

    assert [title for _, title in phone.sent] == told


def seq_of_end(store, request_id):
    (end,) = [event for event in store.events(request_id) if event.type is EventType.COMPLETED]
    return end.seq


@pytest.mark.parametrize(
    "sighting", [lambda seq: MarkSeen("stream"), MarkTold], ids=["shown by a client", "written to a live stream"]
)
def test_within_the_grace_a_sighting_makes_the_push_needless(store, make, clock, sighting):
    phone = Phone()
    deliveries = make(phone, rules=NotifyPolicy("unseen", timedelta(seconds=10)))
    register(store, "one")
    request_id = finish_one(store, deliveries)
    assert deliver_due(deliveries) == 0

    store.transition(request_id, sighting(seq_of_end(store, request_id)))
    clock.now += timedelta(seconds=11)
    deliveries.wake()
    until(lambda: nothing_pending(store))

    assert phone.tried == []


def test_what_nobody_has_seen_within_the_grace_is_told(store, make, clock):
    phone = Phone()
    deliveries = make(phone, rules=NotifyPolicy("unseen", timedelta(seconds=10)))
    register(store, "one")
    finish_one(store, deliveries)
    clock.now += timedelta(seconds=11)

    deliveries.wake()

    phone.wait_for(lambda: phone.sent == [("one", "Ready")])


def test_always_tells_at_once_what_a_stream_has_shown(store, make):
    phone = Phone()
    deliveries = make(phone)
    register(store, "one")
    request_id = finish_one(store, deliveries)
    store.transition(request_id, MarkTold(seq_of_end(store, request_id)))

    deliveries.wake()

    phone.wait_for(lambda: phone.sent == [("one", "Ready")])


def test_never_owes_nothing(store, make):
    phone = Phone()
    deliveries = make(phone, rules=NotifyPolicy("never"))
    register(store, "one")

    finish_one(store, deliveries)

    assert nothing_pending(store)
