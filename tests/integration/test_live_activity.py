"""Live Activities: a task on the lock screen, by FCM, against a stand-in that answers as FCM does."""

from datetime import timedelta

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks
from flask_bgtasks.core.devices import LIVE_ACTIVITY, make_device
from flask_bgtasks.core.model import Progress
from flask_bgtasks.core.transitions.attempt import Claim, Complete, Fail, Release
from flask_bgtasks.firebase.features import FIDS, LIVE_ACTIVITIES
from flask_bgtasks.sinks import live_activity, progress_push
from tests.backends.fcm import error
from tests.backends.firebase import needs
from tests.support.tasks import new_task
from tests.support.waiting import until

pytest.importorskip("firebase_admin")

pytestmark = [needs(FIDS), needs(LIVE_ACTIVITIES)]  # the phone here is known by its Installation ID

PHONE = "cXyZ0123456789abcdefGH"
ID = "11111111-1111-4111-8111-111111111111"


class Lesson:
    """A running task with an activity, whose progress a test reports by hand."""

    def __init__(self, folder, fcm):
        self.app = Flask("studio", instance_path=str(folder))
        BackgroundTasks(self.app, store="memory://", sinks=["live_activity"], fcm_endpoint=fcm.url, runner="external")
        self.state = self.app.extensions["bgtasks"]
        self.store = self.state.store
        self.percentage = 0.0
        self.store.create(new_task(ID, "lesson", at=self.store.now(), owner="anna"), input={})
        self.task = self.store.transition(ID, Claim("w", timedelta(hours=1))).task
        self.activity()

    def activity(self, token="activity-1", phone=PHONE):
        details = {"device": {"kind": "fid", "value": phone}}
        made = make_device(LIVE_ACTIVITY, token, request_id=ID, owner="anna", details=details)
        return self.store.save_device(made, max_devices=20)

    def step(self, name, number):
        self.percentage += 10
        at = self.store.now()
        progress = Progress(at, 1, percentage=self.percentage, step=name, step_number=number, total_steps=8)
        self.state.deliveries.tell_progress("live_activity", self.task, progress)

    def end(self, change):
        self.store.transition(ID, change, deliveries=self.state.deliveries.for_change)
        self.state.deliveries.wake()
        until(lambda: self.store.stats().deliveries_pending == 0)


@pytest.fixture
def lesson(tmp_path, fcm, impatient):
    made = Lesson(tmp_path, fcm)
    yield made
    made.state.close(grace=5)


def shown(message):
    return message["apns"]["payload"]["aps"]


def steps(fcm, phone=PHONE):
    return [shown(message)["content-state"].get("step") for message in fcm.sent_to(phone)]


def test_a_step_is_shown_at_a_low_priority(lesson, fcm):
    lesson.step("Write", 3)

    (message,) = fcm.sent_to(PHONE)

    assert message["fid"] == PHONE
    assert message["apns"]["live_activity_token"] == "activity-1"
    assert message["apns"]["headers"] == {"apns-priority": "5"}
    aps = shown(message)
    assert aps["event"] == "update"
    assert aps["content-state"] == {
        "status": "processing",
        "percentage": 10.0,
        "step": "Write",
        "stepNumber": 3,
        "totalSteps": 8,
    }
    assert aps["stale-date"] == aps["timestamp"] + 90
    assert "notification" not in message


def test_steps_are_shown_at_most_every_so_often_and_the_same_one_once(lesson, fcm, monkeypatch):
    lesson.step("Write", 3)
    lesson.step("Draw", 4)
    assert len(fcm.messages) == 1

    monkeypatch.setattr(live_activity, "UPDATE_SECONDS", 0.0)
    lesson.step("Draw", 4)
    lesson.step("Draw", 4)

    assert steps(fcm) == ["Write", "Draw"]


def test_a_step_that_came_too_soon_is_shown_in_time_by_itself(lesson, fcm, monkeypatch):
    monkeypatch.setattr(live_activity, "UPDATE_SECONDS", 1.0)
    lesson.step("Write", 3)
    lesson.step("Draw", 4)
    lesson.step("Read", 5)
    assert steps(fcm) == ["Write"]

    fcm.wait_for(lambda fcm: len(fcm.messages) == 2)

    assert steps(fcm) == ["Write", "Read"]
    first, second = (one["at"] for one in fcm.messages)
    assert second - first >= 0.95


def test_a_long_step_is_not_said_to_be_old_as_long_as_it_goes_on(lesson, fcm, monkeypatch):
    monkeypatch.setattr(live_activity, "REFRESH_SECONDS", 0.2)
    lesson.step("Write", 3)
    lesson.step("Write", 3)

    def percentages():
        return [shown(message)["content-state"]["percentage"] for message in fcm.sent_to(PHONE)]

    until(lambda: percentages().count(20.0) >= 2)  # how far it is by now

    assert percentages() == sorted(percentages())
    assert set(steps(fcm)) == {"Write"}
    assert live_activity.REFRESH_SECONDS < live_activity.STALE_SECONDS


@pytest.mark.parametrize("how", ["ends", "is given back", "is taken over", "has no activity left"])
def test_what_no_longer_goes_on_here_is_not_shown_again(lesson, fcm, monkeypatch, how):
    monkeypatch.setattr(live_activity, "REFRESH_SECONDS", 0.2)
    lesson.step("Write", 3)
    sink = lesson.state.plugins.get("live_activity")
    assert sink.following == [ID]

    if how == "ends":
        lesson.store.transition(ID, Complete(1))  # in another process: this one is told nothing
    elif how == "has no activity left":
        lesson.store.forget_device(lesson.store.devices(request_id=ID)[0].id)
    else:
        lesson.store.transition(ID, Release(1))
        if how == "is taken over":
            lesson.store.transition(ID, Claim("another", timedelta(hours=1)))

    until(lambda: sink.following == [])


def test_what_is_shown_and_when_it_ended_are_of_the_same_clock(lesson, fcm, monkeypatch):
    now = lesson.store.now
    monkeypatch.setattr(lesson.store, "now", lambda: now() + timedelta(hours=2))

    lesson.step("Write", 3)
    lesson.end(Complete(1))

    update, end = (shown(message) for message in fcm.sent_to(PHONE))
    completed = lesson.store.get(ID).completed_at.timestamp()
    assert completed - 30 < update["timestamp"] <= end["timestamp"] <= completed
    assert update["stale-date"] == update["timestamp"] + 90


def test_a_step_that_could_not_be_sent_is_shown_after_the_pause(lesson, fcm, monkeypatch):
    monkeypatch.setattr(progress_push, "COOLDOWN_SECONDS", 0.3)
    fcm.answer(error(503, "UNAVAILABLE", "UNAVAILABLE"), None)

    lesson.step("Write", 3)
    fcm.wait_for(lambda fcm: len(fcm.messages) == 2)

    assert steps(fcm) == ["Write", "Write"]


@pytest.mark.parametrize("step", ["S" * 6000, "ü" * 6000, "half \ud83d"])
def test_a_step_of_any_length_is_shown_and_its_end_is_too(lesson, fcm, step):
    lesson.step(step, 3)
    at = lesson.store.now()
    lesson.store.save_progress(ID, attempt=1, progress=Progress(at, 1, step=step), entries=())
    lesson.end(Complete(1))

    update, end = (shown(message)["content-state"]["step"] for message in fcm.sent_to(PHONE))

    assert update == end
    assert len(update.encode()) <= 200
    assert update[:5] == step[:5]


@pytest.mark.parametrize("change", [Complete(1), Fail(1, "no paper")])
def test_the_end_is_shown_at_once_on_every_phone(lesson, fcm, change):
    lesson.activity("activity-2", phone="dXyZ0123456789abcdefGH")

    lesson.end(change)

    (message,) = fcm.sent_to(PHONE)
    assert len(fcm.messages) == 2
    assert message["apns"]["headers"] == {"apns-priority": "10"}
    aps = shown(message)
    assert aps["event"] == "end"
    assert aps["dismissal-date"] == aps["timestamp"] + 4 * 3600
    assert aps["content-state"]["status"] == lesson.store.get(ID).status.value
    assert aps["content-state"]["seq"] == lesson.store.get(ID).seq


def test_an_activity_that_is_gone_is_forgotten(lesson, fcm):
    fcm.answer(error(404, "NOT_FOUND", "UNREGISTERED"))

    lesson.step("Write", 3)

    assert lesson.store.devices(request_id=ID) == []


def test_an_end_that_finds_no_activity_leaves_no_letter(lesson, fcm):
    fcm.answer(error(404, "NOT_FOUND", "UNREGISTERED"))

    lesson.end(Complete(1))

    assert lesson.store.devices(request_id=ID) == []
    assert lesson.store.dead_deliveries() == []


def test_an_end_that_cannot_be_sent_yet_is_sent_later(lesson, fcm):
    fcm.answer(error(503, "UNAVAILABLE", "UNAVAILABLE"), error(500, "INTERNAL"), None)

    lesson.end(Complete(1))

    assert [shown(message)["event"] for message in fcm.sent_to(PHONE)] == ["end"] * 3


def test_who_does_not_want_progress_is_shown_the_end_only(lesson, fcm):
    lesson.store.save_preferences("anna", {"kinds": ["completed"]})

    lesson.step("Write", 3)
    lesson.end(Complete(1))

    assert [shown(message)["event"] for message in fcm.sent_to(PHONE)] == ["end"]


def test_progress_without_an_activity_is_not_looked_up_each_time(lesson, fcm, monkeypatch):
    for device in lesson.store.devices(request_id=ID):
        lesson.store.forget_device(device.id)
    looks, look = [], lesson.store.devices
    monkeypatch.setattr(lesson.store, "devices", lambda **which: looks.append(which) or look(**which))

    for _ in range(40):
        lesson.step("Write", 3)

    assert len(looks) == 2  # the task's and the owner's, once
    assert fcm.messages == []


def test_an_activity_that_was_started_later_is_shown_the_next_step(lesson, fcm):
    for device in lesson.store.devices(request_id=ID):
        lesson.store.forget_device(device.id)
    lesson.step("Write", 3)
    lesson.activity()

    lesson.step("Draw", 4)

    assert [shown(message)["content-state"]["step"] for message in fcm.sent_to(PHONE)] == ["Draw"]


def test_a_phone_that_was_sent_too_much_does_not_silence_the_others(lesson, fcm):
    lesson.activity("activity-2", phone="dXyZ0123456789abcdefGH")
    limit = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"subject": "device"}]}
    pause = {"Retry-After": "3600"}
    for phone in (PHONE, "dXyZ0123456789abcdefGH"):
        fcm.answer(error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", details=[limit], headers=pause), to=phone)

    lesson.step("Write", 3)

    assert len(fcm.counts()) == 2


def test_one_activity_that_cannot_be_reached_does_not_hold_up_another(lesson, fcm):
    lesson.activity("activity-2", phone="dXyZ0123456789abcdefGH")
    fcm.answer(error(401, "UNAUTHENTICATED", "APNS_AUTH_ERROR"))

    lesson.step("Write", 3)

    assert len(fcm.counts()) == 2
