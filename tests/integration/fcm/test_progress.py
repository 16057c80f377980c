"""Progress as silent pushes by FCM: seldom, and only to those who want it."""

import threading
import time

import pytest

from flask_bgtasks.sinks.fcm import client as client_module
from tests.backends.fcm import error
from tests.support.sinks.fcm_studio import ONE_DEVICE, OTHER, TOKEN, Stepping
from tests.support.waiting import PATIENCE

pytest.importorskip("firebase_admin")


def test_progress_is_not_pushed_unless_it_is_asked_for(studio):
    assert studio.state.plugins.implementing("bgtasks_task_progress") == []


def test_a_silent_push_at_most_once_in_the_time_for_each_device(make, fcm):
    studio = make(progress_push_seconds=60)
    studio.register(TOKEN, platform="android")
    studio.register(OTHER, platform="ios")
    running = Stepping(studio, studio.store)

    for name in ("Read", "Read", "Write", "Draw"):
        running.step(name)

    assert fcm.counts() == {TOKEN: 1, OTHER: 1}
    (message,) = fcm.sent_to(OTHER)
    assert "notification" not in message
    assert message["data"]["step"] == "Read"
    assert message["data"]["progress_percentage"] == "10"
    assert message["apns"]["headers"] == {
        "apns-push-type": "background",
        "apns-priority": "5",
        "apns-collapse-id": running.task.request_id,
    }
    assert message["apns"]["payload"] == {"aps": {"content-available": 1}}
    assert message["android"]["priority"] == "normal"


def test_the_name_of_a_step_may_be_of_any_length(make, fcm):
    studio = make(progress_push_seconds=60)
    studio.register(TOKEN)

    Stepping(studio, studio.store).step("Step \ud83d" + "ü" * 6000)

    (message,) = fcm.sent_to(TOKEN)
    step = message["data"]["step"]
    assert step.startswith("Step �ü")
    assert len(step.encode()) <= 200


@pytest.mark.parametrize("preferences", [{"kinds": ["completed"]}, {"muted": ["work"]}])
def test_progress_is_not_pushed_to_who_does_not_want_it(make, fcm, preferences):
    studio = make(progress_push_seconds=60)
    studio.register(TOKEN)
    studio.store.save_preferences("anna", preferences)

    Stepping(studio, studio.store).step("Read")

    assert fcm.messages == []


def test_a_device_that_is_gone_is_forgotten_by_its_progress_too(make, fcm):
    studio = make(progress_push_seconds=60)
    studio.register(TOKEN)
    fcm.answer(error(404, "NOT_FOUND", "UNREGISTERED"))

    Stepping(studio, studio.store).step("Read")

    assert studio.store.devices(owner="anna") == []


@pytest.mark.parametrize("answer", [error(401, "UNAUTHENTICATED", "APNS_AUTH_ERROR"), error(400, "INVALID_ARGUMENT")])
def test_progress_that_one_device_cannot_get_reaches_the_others(make, fcm, answer):
    studio = make(progress_push_seconds=60)
    studio.register(TOKEN)
    studio.register(OTHER)
    fcm.answer(answer)

    Stepping(studio, studio.store).step("Read")

    assert set(fcm.counts()) == {TOKEN, OTHER}


def test_one_device_that_is_sent_too_much_keeps_no_progress_from_the_others(make, fcm):
    studio = make(progress_push_seconds=60)
    for address in (TOKEN, OTHER):
        studio.register(address, platform="android")
    fcm.answer(error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", details=[ONE_DEVICE]), None)

    Stepping(studio, studio.store).step("Read")

    assert fcm.counts() == {TOKEN: 1, OTHER: 1}


def test_progress_waits_for_nobody_while_fcm_is_out_of_reach(make, fcm, monkeypatch):
    monkeypatch.setattr(client_module, "DEADLINE_SECONDS", 1.0)
    studio = make(progress_push_seconds=60)
    for number in range(5):
        studio.register(f"{number}{TOKEN}")
    hangs, asked = threading.Event(), []

    def hang(message):
        asked.append(time.monotonic())
        hangs.wait(PATIENCE)

    fcm.before = hang
    running = Stepping(studio, studio.store)

    for name in ("Read", "Write", "Draw"):
        running.step(name)
    took = time.monotonic() - asked[0]
    hung = list(asked)
    hangs.set()

    assert took < 20  # of the sixty that it hangs for
    assert len(hung) == 1  # once, not for each of three steps or five devices
    fcm.wait_for(lambda fcm: len(fcm.messages) == 1)


def test_a_browser_is_not_sent_what_it_would_have_to_show(make, fcm):
    studio = make(progress_push_seconds=60)
    studio.register(TOKEN, platform="web")
    studio.register(OTHER, platform="android")

    Stepping(studio, studio.store).step("Read")

    assert fcm.counts() == {OTHER: 1}
