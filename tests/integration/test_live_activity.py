"""Live Activities: a task on the lock screen, by FCM, against a stand-in that answers as FCM does."""

import threading
from datetime import timedelta

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks
from flask_bgtasks import delivery as delivery_module
from flask_bgtasks import lanes as lanes_module
from flask_bgtasks.backoff import Backoff
from flask_bgtasks.changes import Claim, Complete, Fail
from flask_bgtasks.devices import LIVE_ACTIVITY, make_device
from flask_bgtasks.model import Kind, Progress, Task
from flask_bgtasks.sinks import live_activity
from tests.backends.fcm import error

pytest.importorskip("firebase_admin")

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
        now = self.store.now()
        task = Task(ID, "lesson", Kind.FUNCTION, now, now, timedelta(days=1), owner="anna")
        self.store.create(task, input={})
        self.task = self.store.transition(ID, Claim("w", timedelta(hours=1))).task
        self.activity()

    def activity(self, token="activity-1", phone=PHONE):
        details = {"device": {"kind": "fid", "value": phone}}
        made = make_device(LIVE_ACTIVITY, token, request_id=ID, owner="anna", details=details)
        return self.store.save_device(made, most=20)

    def step(self, name, number):
        self.percentage += 10
        at = self.store.now()
        progress = Progress(at, 1, percentage=self.percentage, step=name, step_number=number, total_steps=8)
        self.state.deliveries.tell_progress("live_activity", self.task, progress)

    def end(self, change):
        self.store.transition(ID, change, deliveries=self.state.deliveries.owed)
        self.state.deliveries.wake()
        pause = threading.Event()
        for _ in range(1000):
            if self.store.stats().deliveries_owed == 0:
                return
            pause.wait(0.01)
        raise AssertionError("still owed")


@pytest.fixture
def lesson(tmp_path, fcm, monkeypatch):
    monkeypatch.setattr(delivery_module, "backoff", lambda tries: 0.0)
    monkeypatch.setattr(lanes_module, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(lanes_module, "PAUSES", Backoff(0))
    made = Lesson(tmp_path, fcm)
    yield made
    made.state.close(grace=5)


def shown(message):
    return message["apns"]["payload"]["aps"]


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

    steps = [shown(message)["content-state"]["step"] for message in fcm.sent_to(PHONE)]
    assert steps == ["Write", "Draw"]


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


def test_one_activity_that_cannot_be_reached_does_not_hold_up_another(lesson, fcm):
    lesson.activity("activity-2", phone="dXyZ0123456789abcdefGH")
    fcm.answer(error(401, "UNAUTHENTICATED", "APNS_AUTH_ERROR"))

    lesson.step("Write", 3)

    assert len(fcm.counts()) == 2
