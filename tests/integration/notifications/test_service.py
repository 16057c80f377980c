"""The service behind a sink: pauses, how much at once, trouble and signals."""

import threading

from flask_bgtasks import (
    Overloaded,
    Undeliverable,
    hookimpl,
    signals,
)
from tests.support.sinks.notified_tasks import finish_one, nothing_pending
from tests.support.sinks.phone import Phone, register
from tests.support.waiting import until


def test_a_service_that_wants_a_pause_gets_it_from_everything(store, make, clock):
    phone = Phone()
    deliveries = make(phone)
    for number in range(20):
        register(store, f"device-{number}")
        phone.errors[f"device-{number}"] = [Overloaded("quota", after=3600)]

    finish_one(store, deliveries)
    deliveries.wake()
    phone.wait_for(lambda: len(phone.tried) == 1)
    deliveries.wake()
    deliveries.stop(5)

    assert len(phone.tried) == 1, "the others were asked too"
    assert store.stats().deliveries_pending == 20


def test_as_many_are_sent_at_once_as_the_sink_says_and_no_more(store, make):
    phone = Phone(concurrency=4)
    phone.gate = threading.Barrier(4)
    deliveries = make(phone)
    for number in range(20):
        register(store, f"device-{number}")

    finish_one(store, deliveries)
    deliveries.wake()
    until(lambda: nothing_pending(store))

    assert len(phone.sent) == 20
    assert phone.most_at_once == 4


class Watchman:
    name = "watchman"

    def __init__(self):
        self.troubles = []

    @hookimpl
    def bgtasks_trouble(self, subject, text):
        self.troubles.append((subject, text))


def test_trouble_is_told_letters_and_outages(store, make):
    phone, watchman = Phone(), Watchman()
    deliveries = make(phone, watchman)
    register(store, "one")
    phone.errors["one"] = [*[ConnectionError("refused")] * 3, Undeliverable("the key is wrong")]

    finish_one(store, deliveries)
    deliveries.wake()
    until(lambda: nothing_pending(store))

    assert watchman.troubles == [
        ("sink 'phone' is unreachable", "ConnectionError: refused"),
        ("dead letters of sink 'phone'", "Undeliverable: the key is wrong"),
    ]


def test_signals_tell_what_became_of_each_message(store, make):
    phone = Phone()
    deliveries = make(phone)
    register(store, "one")
    register(store, "two")
    phone.errors["one"] = [Undeliverable("no")]
    told = []

    def sent(app, notification, sink, message):
        told.append(("sent", notification.title, message.payload["to"]))

    def failed(app, notification, sink, message, error, final):
        told.append(("failed", notification.title, message.payload["to"], final))

    with (
        signals.notification_sent.connected_to(sent, deliveries.app),
        signals.notification_failed.connected_to(failed, deliveries.app),
    ):
        finish_one(store, deliveries)
        deliveries.wake()
        until(lambda: nothing_pending(store))

    assert sorted(told) == [("failed", "Ready", "one", True), ("sent", "Ready", "two")]
