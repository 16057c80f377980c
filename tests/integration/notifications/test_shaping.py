"""What a plugin may make of a notification, and what it may not."""

from dataclasses import replace

import pytest

from flask_bgtasks import (
    Notification,
    hookimpl,
)
from flask_bgtasks.sinks.memory import MemorySink
from tests.support.sinks.notified_tasks import finish_one, nothing_pending
from tests.support.sinks.phone import Phone, register
from tests.support.waiting import until


class Shaper:
    """Shapes each notification as a test says."""

    name = "shaper"

    def __init__(self, shape):
        self.shape = shape

    @hookimpl
    def bgtasks_prepare_notification(self, task, notification):
        return self.shape(notification)


@pytest.fixture
def shaped(store, make):
    """What is told of a task of Anna's once a plugin has shaped it."""

    def shape(how):
        memory, phone = MemorySink(), Phone()
        deliveries = make(phone, memory, Shaper(how), notify=Notification("Ready", data={"screen": "lesson"}))
        register(store, "one")
        finish_one(store, deliveries, user_token="two")
        deliveries.wake()
        until(lambda: nothing_pending(store))
        assert store.dead_deliveries() == []
        (told,) = memory.notifications
        return told, sorted(phone.sent)

    return shape


def test_what_a_plugin_adds_to_the_data_becomes_text(shaped):
    told, _ = shaped(lambda notification: replace(notification, data={**notification.data, "pages": 8, 7: None}))

    assert {"screen": "lesson", "pages": "8", "7": "None"}.items() <= told.data.items()


@pytest.mark.parametrize(
    "how",
    [
        lambda notification: Notification("Done", data={"status": "whatever"}),
        lambda notification: replace(notification, title="Done", owner="bert", user_token="three", request_id="x"),
    ],
    ids=["a new one", "for somebody else"],
)
def test_a_plugin_says_what_is_told_and_not_whom_or_of_what(store, shaped, how):
    told, sent = shaped(how)

    task = store.get(told.request_id)
    assert (told.title, told.owner, told.user_token, told.status) == ("Done", "anna", "two", "completed")
    ours = {"request_id": task.request_id, "status": "completed", "name": "process", "seq": str(task.seq)}
    assert ours.items() <= told.data.items()
    assert sent == [("one", "Done"), ("two", "Done")]


@pytest.mark.parametrize(
    "wrong",
    [Notification(8), Notification("Done", data=["a"]), Notification("Done", link=8), "Done", {"title": "Done"}],
    ids=["title", "data", "link", "a text", "a mapping"],
)
def test_what_a_plugin_shapes_wrongly_is_logged_and_sent_as_it_was(shaped, caplog, wrong):
    told, sent = shaped(lambda notification: wrong)

    assert (told.title, told.data["screen"]) == ("Ready", "lesson")
    assert sent == [("one", "Ready"), ("two", "Ready")]
    assert "a plugin failed to prepare the notification of task" in caplog.text
