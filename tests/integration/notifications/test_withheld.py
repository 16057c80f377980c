"""When a notification does not go out: preferences, quiet hours, what was seen, muted or opened again."""

from datetime import datetime, timedelta, timezone

import pytest

from flask_bgtasks import (
    RetryLater,
)
from flask_bgtasks.core.preferences import Preferences
from flask_bgtasks.core.transitions.attempt import Claim, Complete, Fail
from flask_bgtasks.core.transitions.outside import MarkSeen, Mute, Reopen
from flask_bgtasks.sinks.memory import MemorySink
from tests.support.sinks.notified_tasks import finish_one, nothing_pending
from tests.support.sinks.phone import Phone, deliver_due, register
from tests.support.waiting import until

QUIET = {"from": "22:00", "to": "07:00", "time_zone": "Europe/Berlin"}


def held_at_night(store, make):
    """A phone, and a dispatcher that works by hand, with a notification that comes due in quiet hours."""
    phone = Phone()
    deliveries = make(phone)
    deliveries.stop(0)
    register(store, "one")
    store.save_preferences("anna", {"quiet_hours": QUIET})
    finish_one(store, deliveries)
    return phone, deliveries


@pytest.mark.parametrize(
    "preferences",
    [{"kinds": ["failed"]}, {"muted": ["process"]}, {"quiet_hours": {**QUIET, "then": "drop"}}],
    ids=["kinds", "muted", "dropped at night"],
)
def test_what_the_owner_does_not_want_is_not_told(store, make, preferences):
    phone, memory = Phone(), MemorySink()
    deliveries = make(phone, memory)
    register(store, "one")
    store.save_preferences("anna", Preferences.from_document(preferences).document())

    finish_one(store, deliveries)
    deliveries.wake()
    until(lambda: nothing_pending(store))

    assert phone.tried == []
    assert memory.notifications == []


def test_another_owners_preferences_count_for_nothing(store, make):
    phone = Phone()
    deliveries = make(phone)
    register(store, "one")
    store.save_preferences("bert", {"kinds": []})

    finish_one(store, deliveries)
    deliveries.wake()

    phone.wait_for(lambda: phone.sent == [("one", "Ready")])


def test_preferences_that_cannot_be_read_here_lose_no_notification(store, make):
    phone = Phone()
    deliveries = make(phone)
    register(store, "one")
    store.save_preferences("anna", {"quiet_hours": {**QUIET, "time_zone": "Mars/Olympus"}})

    finish_one(store, deliveries)
    deliveries.wake()

    phone.wait_for(lambda: phone.sent == [("one", "Ready")])


def test_in_quiet_hours_it_is_held_until_they_end(store, make, clock):
    phone, deliveries = held_at_night(store, make)

    assert deliver_due(deliveries) == 1
    clock.now = datetime(2026, 1, 2, 5, 59, 59, tzinfo=timezone.utc)
    assert deliver_due(deliveries) == 1  # looked at again, and held
    assert deliver_due(deliveries) == 0
    assert phone.tried == []
    clock.now = datetime(2026, 1, 2, 6, 0, tzinfo=timezone.utc)  # seven in Berlin
    while deliver_due(deliveries):
        pass

    assert phone.sent == [("one", "Ready")]


def test_a_message_that_comes_due_in_quiet_hours_is_held_too(store, make, clock):
    phone = Phone()
    deliveries = make(phone)
    deliveries.stop(0)
    register(store, "one")
    phone.errors["one"] = [RetryLater("busy", after=60)]
    finish_one(store, deliveries)
    while deliver_due(deliveries):
        pass

    store.save_preferences("anna", {"quiet_hours": QUIET})
    clock.now += timedelta(seconds=61)
    assert deliver_due(deliveries) == 1
    assert deliver_due(deliveries) == 0
    clock.now += timedelta(hours=8)
    assert deliver_due(deliveries) == 1

    assert phone.sent == [("one", "Ready")]
    assert phone.tried == ["one", "one"]


@pytest.mark.parametrize("change", [MarkSeen("poll"), Mute(True)], ids=["seen", "muted"])
def test_what_was_seen_or_muted_before_it_was_sent_is_not_told(store, make, change):
    phone = Phone()
    deliveries = make(phone)
    register(store, "one")
    request_id = finish_one(store, deliveries)
    store.transition(request_id, change)

    deliveries.wake()
    until(lambda: nothing_pending(store))

    assert phone.tried == []


def test_what_was_seen_while_a_device_was_out_of_reach_is_not_told_there_any_more(store, make, clock):
    phone = Phone()
    deliveries = make(phone)
    deliveries.stop(0)
    register(store, "one")
    phone.errors["one"] = [RetryLater("busy", after=60)]
    request_id = finish_one(store, deliveries)
    while deliver_due(deliveries):
        pass

    store.transition(request_id, MarkSeen("firestore"))
    clock.now += timedelta(seconds=61)
    assert deliver_due(deliveries) == 1

    assert nothing_pending(store)
    assert phone.tried == ["one"]
    assert phone.sent == []


def test_a_task_that_was_opened_again_tells_its_new_end_only(store, make):
    phone = Phone()
    deliveries = make(phone, notify={"completed": "Ready", "failed": "Failed"})
    register(store, "one")
    request_id = finish_one(store, deliveries, Fail(1, "no paper"))
    store.transition(request_id, Reopen(), deliveries=deliveries.for_change)
    store.transition(request_id, Claim("w", timedelta(seconds=60)), deliveries=deliveries.for_change)
    store.transition(request_id, Complete(2), deliveries=deliveries.for_change)

    deliveries.wake()
    until(lambda: nothing_pending(store))

    assert phone.sent == [("one", "Ready")]


def test_who_takes_the_quiet_hours_back_is_told_within_minutes(store, make, clock):
    phone, deliveries = held_at_night(store, make)
    assert deliver_due(deliveries) == 1

    store.save_preferences("anna", {})
    clock.now += timedelta(minutes=10)
    while deliver_due(deliveries):
        pass

    assert phone.sent == [("one", "Ready")]
