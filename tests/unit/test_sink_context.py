"""What a sink may use of its app."""

from datetime import timedelta
from pathlib import Path

import pytest

from flask_bgtasks import Message, SinkContext, WebhookTarget
from flask_bgtasks.core.devices import FCM_TOKEN, make_device
from flask_bgtasks.core.model import Result, TaskKind
from flask_bgtasks.core.preferences import Preferences
from flask_bgtasks.core.transitions.attempt import Claim, Complete, Fail
from flask_bgtasks.settings import Settings
from flask_bgtasks.stores.memory.store import MemoryStore
from tests.support.tasks import new_task

SINKS = Path(__file__).parents[2] / "flask_bgtasks" / "sinks"


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def enqueued():
    return []


@pytest.fixture
def context(store, enqueued):
    return SinkContext(
        app_name="studio",
        settings=Settings(push_concurrency=3),
        store=store,
        enqueue=lambda sink, message: enqueued.append((sink, message)),
        webhook_targets=lambda task: (WebhookTarget(f"https://{task.owner}.example", "whsec_" + "c" * 32),),
        is_draining=lambda: bool(enqueued),
    )


def ended(store, change):
    task = new_task(name="lesson", kind=TaskKind.VIEW, owner="anna")
    store.create(task, input={})
    store.transition(task.request_id, Claim("w", timedelta(seconds=60)))
    return store.transition(task.request_id, change).task


def test_it_looks_tasks_and_their_results_up(context, store):
    task = ended(store, Complete(1, Result(b"{}")))

    assert context.find_task(task.request_id) == task
    assert context.load_result(task.request_id).body == b"{}"
    assert context.find_task("gone") is None
    assert context.load_result("gone") is None


def test_it_counts_failures(context, store):
    before = context.now()
    ended(store, Fail(1, "no paper"))

    assert context.count_failed("lesson", since=before) == 1
    assert context.count_failed("lesson", since=context.now() + timedelta(hours=1)) == 0
    assert context.count_dead_letters() == 0


def test_it_looks_devices_up_and_forgets_them(context, store):
    device = store.save_device(make_device(FCM_TOKEN, "t" * 40, owner="anna"), max_devices=5)

    assert list(context.devices(owner="anna")) == [device]
    assert list(context.devices(request_id="r")) == []
    context.forget_device(device.id)
    assert list(context.devices(owner="anna")) == []


@pytest.mark.parametrize("saved", [None, {"quiet_hours": {"from": "22:00", "to": "07:00", "time_zone": "Mars/Base"}}])
def test_an_owner_without_preferences_or_with_unreadable_ones_has_the_defaults(context, store, saved):
    if saved is not None:
        store.save_preferences("anna", saved)

    assert context.load_preferences("anna") == Preferences()


def test_an_owners_preferences(context, store):
    store.save_preferences("anna", {"muted": ["lesson"]})

    assert not context.load_preferences("anna").wants("completed", "lesson")


def test_a_mark_is_one_processs_until_it_is_over_or_given_back(context, store):
    assert context.take_mark("sink:a", timedelta(hours=1))
    assert not context.take_mark("sink:a", timedelta(hours=1))
    context.set_mark("sink:a", timedelta(0))
    assert context.take_mark("sink:a", timedelta(hours=1))


def test_what_the_app_gives_it(context, store, enqueued):
    task, message = ended(store, Complete(1)), Message("channel", {"n": 1})

    assert not context.draining
    context.enqueue("sink", message)
    assert enqueued == [("sink", message)]
    assert context.draining
    assert [target.url for target in context.webhook_targets(task)] == ["https://anna.example"]
    assert (context.app_name, context.settings.push_concurrency) == ("studio", 3)
    assert context.logger.name == "flask_bgtasks"
    assert repr(context) == "<SinkContext of app 'studio'>"


def test_no_sink_of_ours_reaches_for_the_app_behind_its_back():
    texts = {path.name: path.read_text("utf-8") for path in SINKS.rglob("*.py")}

    assert len(texts) > 10
    assert [name for name, text in texts.items() if "current_app" in text or ".extensions" in text] == []
