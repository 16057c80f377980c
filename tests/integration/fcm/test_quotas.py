"""FCM's quotas: pauses for the whole project, and pauses for one device that hold up no other."""

import itertools
import threading
from datetime import timedelta

import pytest

from tests.backends.fcm import error, over_quota
from tests.support.sinks.fcm_studio import ONE_DEVICE, OTHER, TOKEN

pytest.importorskip("firebase_admin")


@pytest.mark.parametrize(
    "answer",
    [
        over_quota(**{"Retry-After": "3600"}),
        over_quota(),
        error(429, "RESOURCE_EXHAUSTED"),
        error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", message="Message rate of the project exceeded"),
        error(503, "UNAVAILABLE", "UNAVAILABLE", headers={"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}),
    ],
    ids=["quota", "quota without a time", "no word of which", "the project's", "a pause until a date"],
)
def test_a_pause_that_fcm_wants_is_kept_for_all_devices(make, fcm, answer):
    studio = make(push_concurrency=1)
    for number in range(10):
        studio.register(f"{number}{TOKEN}")
    fcm.answer(answer)

    studio.run()
    fcm.wait_for(lambda fcm: fcm.messages)
    studio.state.deliveries.wake()
    studio.state.close(grace=5)

    assert sum(fcm.counts().values()) == 1
    assert studio.store.stats().deliveries_pending == 10


def put_off(studio, count):
    """Wait until so many deliveries are owed and none of them is due within the next minutes."""
    pause = threading.Event()
    for _ in range(2000):
        owed = [delivery for delivery, _ in studio.store._deliveries.values()]
        soon = studio.store.now() + timedelta(minutes=5)
        if len(owed) == count and all(delivery.due_at > soon for delivery in owed):
            return owed
        pause.wait(0.01)
    raise AssertionError(owed)


def test_a_pause_is_kept_though_what_was_under_way_gets_through(make, fcm):
    studio = make(push_concurrency=8)
    for number in range(20):
        studio.register(f"{number}{TOKEN}")
    turns, together = itertools.count(), threading.Barrier(4)
    outage, pause = studio.state.deliveries._workers["fcm"]._outage, threading.Event()

    def before(message):
        turn = next(turns)
        if turn < 4:
            together.wait(4)
        if turn == 0:
            fcm.answer(over_quota(**{"Retry-After": "3600"}), to=message["token"])
        for _ in range(300):
            if 0 < turn < 8 and outage.left == 0:  # they succeed after the refusal has come in
                pause.wait(0.01)

    fcm.before = before
    studio.run()
    fcm.wait_for(lambda fcm: len(fcm.messages) >= 4)
    studio.state.deliveries.wake()
    studio.state.close(grace=5)

    owed = [delivery for delivery, _ in studio.store._deliveries.values()]
    assert len(fcm.messages) <= 8
    assert len(owed) == 20 - (len(fcm.messages) - 1)
    assert sum(delivery.tries for delivery in owed) == 1  # the others were never tried


@pytest.mark.parametrize("details", [[ONE_DEVICE], []], ids=["FCM says so", "FCM does not say"])
def test_one_device_that_is_sent_too_much_holds_up_no_other(make, fcm, details):
    studio = make(push_concurrency=1)
    studio.register(TOKEN)
    fcm.answer(error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", headers={"Retry-After": "3600"}, details=details))
    studio.run()
    put_off(studio, 1)
    fcm.answer(error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", details=details), to=TOKEN)
    fcm.answer(None)
    studio.register(OTHER)

    studio.run()
    owed = put_off(studio, 2)

    assert fcm.counts() == {TOKEN: 1, OTHER: 1}
    assert sorted(delivery.tries for delivery in owed) == [0, 1]


def test_two_devices_that_are_refused_without_a_word_of_whose_quota_it_is_have_used_up_the_projects(make, fcm):
    studio = make(push_concurrency=1)
    for number in range(10):
        studio.register(f"{number}{TOKEN}")
    fcm.answer(error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", headers={"Retry-After": "3600"}))

    studio.run()
    fcm.wait_for(lambda fcm: len(fcm.messages) == 2)
    studio.state.deliveries.wake()
    studio.state.close(grace=5)

    assert sum(fcm.counts().values()) == 2
    assert studio.store.stats().deliveries_pending == 10


def test_two_devices_that_are_sent_too_much_hold_up_no_third(make, fcm):
    studio = make(push_concurrency=1)
    addresses = [f"{number}{TOKEN}" for number in range(5)]
    for address in addresses:
        studio.register(address)
    refusal = error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", headers={"Retry-After": "3600"}, details=[ONE_DEVICE])
    fcm.answer(refusal, to=addresses[0])
    fcm.answer(refusal, to=addresses[1])

    studio.run()
    put_off(studio, 2)

    assert set(fcm.counts()) == set(addresses)


@pytest.mark.parametrize("after", ["0", "Thu, 01 Jan 2015 00:00:00 GMT"])
def test_a_pause_of_nothing_does_not_become_a_storm(studio, fcm, after):
    studio.register(TOKEN)
    fcm.answer(error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", headers={"Retry-After": after}), None)

    studio.run()
    studio.settled()

    first, second = (one["at"] for one in fcm.messages)
    assert second - first >= 0.99


def test_a_short_pause_is_over_by_itself(make, fcm):
    studio = make(push_concurrency=1)
    for number in range(5):
        studio.register(f"{number}{TOKEN}")
    fcm.answer(over_quota(**{"Retry-After": "1"}), None)

    studio.run()
    studio.settled()

    times = [one["at"] for one in fcm.messages]
    assert times[1] - times[0] >= 0.99
    assert len(times) == 6
