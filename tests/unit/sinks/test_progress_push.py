"""Pushes of progress: who wants them, and what becomes of those that fail."""

from datetime import datetime, timezone

import pytest

from flask_bgtasks.core.devices import FCM_TOKEN, make_device
from flask_bgtasks.core.model import TaskKind
from flask_bgtasks.errors import DeviceGone, Overloaded, RetryLater, Undeliverable
from flask_bgtasks.sinks.progress_push import COOLDOWN_SECONDS, PushCooldown, wants_progress
from flask_bgtasks.stores.memory.store import MemoryStore
from tests.support.sinks.contexts import context_of
from tests.support.tasks import new_task

NIGHT = datetime(2026, 1, 1, 23, tzinfo=timezone.utc)


@pytest.fixture
def store():
    return MemoryStore(clock=lambda: NIGHT)


@pytest.fixture
def device(store):
    return store.save_device(make_device(FCM_TOKEN, "t" * 40, owner="anna"), max_devices=5)


def task(owner="anna"):
    return new_task(name="lesson", kind=TaskKind.VIEW, at=NIGHT, owner=owner)


def push(cooldown, store, device, outcome=None):
    """Push once; whether it came to that."""
    tried = []

    def send():
        tried.append(True)
        if outcome is not None:
            raise outcome

    cooldown.push(send, context=context_of(store), device=device, task=task())
    return bool(tried)


@pytest.mark.parametrize(
    ("outcome", "left"),
    [
        (None, 0),
        (RetryLater("unreachable"), COOLDOWN_SECONDS),
        (Overloaded("a pause", after=1), COOLDOWN_SECONDS),
        (Overloaded("a long pause", after=600), 600),
        (RetryLater("this device got too many messages", after=600), 0),
        (Undeliverable("too large"), 0),
        (DeviceGone("unregistered", device_id="?"), 0),
    ],
)
def test_fcm_is_left_alone_after_what_concerns_all_devices(store, device, outcome, left):
    cooldown = PushCooldown()

    assert push(cooldown, store, device, outcome)

    assert cooldown.left == pytest.approx(left, abs=5)
    assert push(cooldown, store, device) is (left == 0)


def test_a_device_that_is_gone_is_forgotten(store, device):
    push(PushCooldown(), store, device, DeviceGone("unregistered", device_id=device.id))

    assert list(store.devices(owner="anna")) == []


@pytest.mark.parametrize(
    ("saved", "wanted"),
    [
        (None, True),
        ({"kinds": ["progress"]}, True),
        ({"kinds": ["completed"]}, False),
        ({"muted": ["lesson"]}, False),
        ({"quiet_hours": {"from": "22:00", "to": "06:00", "time_zone": "UTC"}}, False),
        ({"quiet_hours": {"from": "01:00", "to": "06:00", "time_zone": "UTC"}}, True),
        ({"kinds": "no list"}, True),
    ],
)
def test_who_wants_progress(store, saved, wanted):
    if saved is not None:
        store.save_preferences("anna", saved)

    assert wants_progress(context_of(store), task()) is wanted


def test_an_address_of_nobody_has_no_preferences(store):
    assert wants_progress(context_of(store), task(owner=None))
