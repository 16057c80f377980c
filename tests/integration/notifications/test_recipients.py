"""To whom a notification goes: each device once, whatever becomes of the others."""

from datetime import timedelta

import pytest

from flask_bgtasks import (
    DeviceGone,
    Notification,
    RetryLater,
    Undeliverable,
)
from flask_bgtasks.core.devices import FCM_TOKEN, FID
from tests.support.sinks.notified_tasks import finish_one, nothing_pending
from tests.support.sinks.phone import Phone, deliver_due, register
from tests.support.waiting import until

INSTALLATION = "cXyZ0123456789abcdefGH"


def test_each_device_of_the_owner_is_told_once_in_its_own_language(store, make):
    phone = Phone()
    deliveries = make(phone, notify={"en": "Ready: {topic}", "de": "Fertig: {topic}"})
    register(store, "one", lang="en-GB")
    register(store, "two", lang="de-AT")
    register(store, "three", lang="fr")
    register(store, "a stranger's", owner="bert")

    finish_one(store, deliveries)
    deliveries.wake()
    until(lambda: nothing_pending(store))

    english, german = "Ready: whales", "Fertig: whales"
    assert sorted(phone.sent) == [("one", english), ("three", english), ("two", german)]


@pytest.mark.parametrize(
    ("kind", "registered", "given"),
    [
        (FCM_TOKEN, "token-1", "token-1"),
        (FID, INSTALLATION, f"{INSTALLATION}:APA91b"),
        (FCM_TOKEN, f"{INSTALLATION}:APA91b", INSTALLATION),
    ],
)
def test_an_address_that_came_with_the_request_and_is_registered_too_is_told_once(store, make, kind, registered, given):
    phone = Phone()
    deliveries = make(phone)
    register(store, registered, kind=kind)

    finish_one(store, deliveries, user_token=given)
    deliveries.wake()
    until(lambda: nothing_pending(store))

    assert phone.sent == [(registered, "Ready")]


def test_a_request_of_nobody_is_told_at_the_address_that_came_with_it(store, make):
    phone = Phone()
    deliveries = make(phone)

    finish_one(store, deliveries, owner=None, user_token="token-1")
    deliveries.wake()
    until(lambda: nothing_pending(store))

    assert phone.sent == [("token-1", "Ready")]


def test_a_device_that_fails_holds_up_no_other(store, make):
    phone = Phone()
    deliveries = make(phone)
    for value in ("one", "two", "three"):
        register(store, value)
    phone.errors["two"] = [RetryLater("busy", after=3600)]

    finish_one(store, deliveries)
    deliveries.wake()
    phone.wait_for(lambda: len(phone.sent) == 2 and "two" in phone.tried)

    assert sorted(to for to, _ in phone.sent) == ["one", "three"]
    until(lambda: store.stats().deliveries_pending == 1)


def test_each_device_is_tried_until_it_is_told(store, make):
    phone = Phone(concurrency=4)
    deliveries = make(phone)
    for number in range(10):
        register(store, f"device-{number}")
        phone.errors[f"device-{number}"] = [ConnectionError("reset")] * 3

    finish_one(store, deliveries)
    deliveries.wake()
    until(lambda: nothing_pending(store))

    assert sorted(to for to, _ in phone.sent) == sorted(f"device-{number}" for number in range(10))


def test_a_device_that_is_gone_is_forgotten_and_leaves_no_letter(store, make):
    phone = Phone()
    deliveries = make(phone)
    gone, kept = register(store, "gone"), register(store, "kept")
    phone.errors["gone"] = [DeviceGone("unregistered", device_id=gone.id)]

    finish_one(store, deliveries)
    deliveries.wake()
    until(lambda: nothing_pending(store))

    assert [device.id for device in store.devices(owner="anna")] == [kept.id]
    assert store.dead_deliveries() == []


def test_what_never_succeeds_ends_as_a_letter_for_its_device_alone(store, make):
    phone = Phone()
    deliveries = make(phone)
    register(store, "one")
    register(store, "two")
    phone.errors["one"] = [Undeliverable("the key is wrong")]

    finish_one(store, deliveries)
    deliveries.wake()
    until(lambda: nothing_pending(store))

    assert phone.sent == [("two", "Ready")]
    (letter,) = store.dead_deliveries()
    store.replay_deliveries([letter.id])
    deliveries.wake()
    phone.wait_for(lambda: ("one", "Ready") in phone.sent)


def test_what_one_process_has_split_up_another_one_sends(store, make):
    dying = make(Phone())
    dying.stop(0)
    for value in ("one", "two"):
        register(store, value)
    finish_one(store, dying)
    assert deliver_due(dying) == 1  # and no more: its process is killed

    phone = Phone()
    make(phone).wake()
    phone.wait_for(lambda: len(phone.sent) == 2)

    assert sorted(to for to, _ in phone.sent) == ["one", "two"]


@pytest.mark.parametrize("leave", ["forgotten", "taken over"])
def test_a_device_that_is_no_longer_its_owners_is_not_tried_again(store, make, clock, leave):
    phone = Phone()
    deliveries = make(phone)
    deliveries.stop(0)
    device = register(store, "one")
    register(store, "two")
    phone.errors["one"] = [RetryLater("busy", after=60)]
    finish_one(store, deliveries)
    while deliver_due(deliveries):
        pass
    assert phone.tried == ["one", "two"] or phone.tried == ["two", "one"]

    if leave == "forgotten":
        store.forget_device(device.id)
    else:
        register(store, "one", owner="bert")
    clock.now += timedelta(seconds=61)
    assert deliver_due(deliveries) == 1

    assert phone.tried.count("one") == 1
    assert nothing_pending(store)


@pytest.mark.parametrize("owner", [None, "anna"])
def test_an_address_that_nobody_has_registered_is_tried_again(store, make, clock, owner):
    phone = Phone()
    deliveries = make(phone)
    deliveries.stop(0)
    phone.errors["token-1"] = [RetryLater("busy", after=60)]
    finish_one(store, deliveries, owner=owner, user_token="token-1")
    while deliver_due(deliveries):
        pass

    clock.now += timedelta(seconds=61)
    assert deliver_due(deliveries) == 1

    assert phone.sent == [("token-1", "Ready")]


def test_what_is_sent_by_hand_goes_to_its_address_whoever_has_it(store, make):
    phone = Phone()
    deliveries = make(phone)
    register(store, "token-1", owner="bert")

    deliveries.send(Notification("Hello", user_token="token-1"))
    phone.wait_for(lambda: phone.sent == [("token-1", "Hello")])
