"""What becomes of a notification: to whom it goes, when it does not, and what one failing device means for others."""

import threading
import uuid
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from flask import Flask

from flask_bgtasks import (
    Backoff,
    DeviceGone,
    EventType,
    Message,
    Notification,
    Overloaded,
    RetryLater,
    Undeliverable,
    hookimpl,
    signals,
)
from flask_bgtasks.core.devices import FCM_TOKEN, FID, make_device
from flask_bgtasks.core.model import Result, Task, TaskKind
from flask_bgtasks.core.preferences import Preferences
from flask_bgtasks.core.transitions.attempt import Cancel, Claim, Complete, Fail
from flask_bgtasks.core.transitions.outside import MarkSeen, MarkTold, Mute, Reopen, RequestCancel
from flask_bgtasks.delivery import circuit_breaker as breaker_module
from flask_bgtasks.delivery import dispatcher as delivery_module
from flask_bgtasks.delivery import sink_worker as lanes_module
from flask_bgtasks.delivery.dispatcher import Dispatcher
from flask_bgtasks.delivery.notifier import NotifyPolicy
from flask_bgtasks.plugins import Plugins
from flask_bgtasks.sinks.memory import MemorySink
from flask_bgtasks.stores.memory.store import MemoryStore
from tests.support.sinks.contexts import context_of
from tests.support.waiting import until

NIGHT = datetime(2026, 1, 1, 23, 30, tzinfo=timezone.utc)
INSTALLATION = "cXyZ0123456789abcdefGH"
QUIET = {"from": "22:00", "to": "07:00", "time_zone": "Europe/Berlin"}


class Clock:
    def __init__(self):
        self.now = NIGHT

    def __call__(self):
        return self.now


class Phone:
    """A sink with an address book: records what each device was sent, or fails as it is told to."""

    name = "phone"

    def __init__(self, *, concurrency=1):
        self.concurrency = concurrency
        self.sent = []
        self.errors = {}  # by device: what to raise, one after the other
        self.tried = []
        self.at_once = self.most_at_once = 0
        self.gate = None  # every delivery waits here until as many are there
        self.told = threading.Condition()  # protects all of this

    @hookimpl
    def bgtasks_send_notification(self, notification, load_devices):
        return [
            Message(f"device:{device.id}", {"to": device.value, "title": notification.in_language(device.lang).title})
            for device in load_devices()
        ]

    @hookimpl
    def bgtasks_deliver_message(self, message):
        to = message.payload["to"]
        with self.told:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.gate is not None:
                self.gate.wait(10)
            with self.told:
                self.tried.append(to)
                self.told.notify_all()
                errors = self.errors.get(to)
                if errors:
                    raise errors.pop(0)
                self.sent.append((to, message.payload["title"]))
                self.told.notify_all()
        finally:
            with self.told:
                self.at_once -= 1

    def wait_for(self, found):
        with self.told:
            assert self.told.wait_for(found, 10), (self.sent, self.tried)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Retries come at once, so that no test waits for them."""
    monkeypatch.setattr(delivery_module, "backoff", lambda tries: 0.0)
    monkeypatch.setattr(lanes_module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(breaker_module, "PAUSES", Backoff(0))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock):
    return MemoryStore(clock=clock)


@pytest.fixture
def make(store):
    made = []

    def build(*sinks, notify="Ready", rules=None):
        plugins = Plugins()
        for sink in sinks:
            plugins.register(sink)
        app = Flask("notifications")
        deliveries = Dispatcher(
            app, store, plugins, context=context_of(store), notify_of=lambda name: notify, rules=rules or NotifyPolicy()
        )
        deliveries.app = app  # kept alive for the test
        made.append(deliveries)
        return deliveries

    yield build
    for deliveries in made:
        deliveries.stop(5)


def register(store, value, *, owner="anna", kind=FCM_TOKEN, lang=None):
    return store.save_device(make_device(kind, value, owner=owner, lang=lang), max_devices=20)


def start_one(store, deliveries, *, owner="anna", user_token=None, name="process"):
    task = Task(
        str(uuid.uuid4()), name, TaskKind.VIEW, NIGHT, NIGHT, timedelta(days=1), owner=owner, user_token=user_token
    )
    store.create(task, input={}, deliveries=deliveries.for_change)
    store.transition(task.request_id, Claim("w", timedelta(seconds=60)), deliveries=deliveries.for_change)
    return task.request_id


def finish_one(store, deliveries, change=None, **fields):
    request_id = start_one(store, deliveries, **fields)
    change = change or Complete(1, Result(b'{"topic": "whales"}'))
    store.transition(request_id, change, deliveries=deliveries.for_change)
    return request_id


def deliver_due(deliveries):
    """What a lane does in one go, by hand; how many there were."""
    due = deliveries.due("phone", 100)
    for delivery in due:
        deliveries.deliver(delivery)
    return len(due)


def nothing_pending(store):
    return store.stats().deliveries_pending == 0


# -- to whom -----------------------------------------------------------------------------------------------------------


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


# -- when not ----------------------------------------------------------------------------------------------------------


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
    phone = Phone()
    deliveries = make(phone)
    deliveries.stop(0)
    register(store, "one")
    store.save_preferences("anna", {"quiet_hours": QUIET})
    finish_one(store, deliveries)

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
    register(store, "one")
    phone.errors["one"] = [RetryLater("busy", after=60)]
    request_id = finish_one(store, deliveries)
    deliveries.wake()
    phone.wait_for(lambda: phone.tried == ["one"])

    store.transition(request_id, MarkSeen("firestore"))
    clock.now += timedelta(seconds=61)
    deliveries.wake()
    until(lambda: nothing_pending(store))

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
    phone = Phone()
    deliveries = make(phone)
    deliveries.stop(0)
    register(store, "one")
    store.save_preferences("anna", {"quiet_hours": QUIET})
    finish_one(store, deliveries)
    assert deliver_due(deliveries) == 1

    store.save_preferences("anna", {})
    clock.now += timedelta(minutes=10)
    while deliver_due(deliveries):
        pass

    assert phone.sent == [("one", "Ready")]


# -- what a plugin makes of it -----------------------------------------------------------------------------------------


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


# -- which ends --------------------------------------------------------------------------------------------------------


def cancelled(store, deliveries):
    request_id = start_one(store, deliveries)
    task = store.get(request_id)
    assert task.held
    store.transition(request_id, RequestCancel(), deliveries=deliveries.for_change)
    store.transition(request_id, Cancel(1), deliveries=deliveries.for_change)


@pytest.mark.parametrize(
    ("notify", "told"),
    [
        ("Ready", []),
        ({"failed": "Failed: {error_message}"}, ["Failed: no paper"]),
        ({"cancelled": "Cancelled"}, ["Cancelled"]),
        ({"failed": lambda task, result: Notification(task.error_message)}, ["no paper"]),
        ({"completed": "Ready", "failed": {"en": "Failed", "de": "Gescheitert"}}, ["Failed"]),
    ],
)
def test_failure_and_cancellation_are_told_where_they_are_asked_for(store, make, notify, told):
    phone = Phone()
    deliveries = make(phone, notify=notify)
    register(store, "one")

    finish_one(store, deliveries, Fail(1, "no paper"))
    cancelled(store, deliveries)
    deliveries.wake()
    until(lambda: nothing_pending(store))

    assert [title for _, title in phone.sent] == told


# -- not if seen -------------------------------------------------------------------------------------------------------


def seq_of_end(store, request_id):
    (end,) = [event for event in store.events(request_id) if event.type is EventType.COMPLETED]
    return end.seq


@pytest.mark.parametrize(
    "sighting", [lambda seq: MarkSeen("stream"), MarkTold], ids=["shown by a client", "written to a live stream"]
)
def test_within_the_grace_a_sighting_makes_the_push_needless(store, make, clock, sighting):
    phone = Phone()
    deliveries = make(phone, rules=NotifyPolicy("unseen", timedelta(seconds=10)))
    register(store, "one")
    request_id = finish_one(store, deliveries)
    assert deliver_due(deliveries) == 0

    store.transition(request_id, sighting(seq_of_end(store, request_id)))
    clock.now += timedelta(seconds=11)
    deliveries.wake()
    until(lambda: nothing_pending(store))

    assert phone.tried == []


def test_what_nobody_has_seen_within_the_grace_is_told(store, make, clock):
    phone = Phone()
    deliveries = make(phone, rules=NotifyPolicy("unseen", timedelta(seconds=10)))
    register(store, "one")
    finish_one(store, deliveries)
    clock.now += timedelta(seconds=11)

    deliveries.wake()

    phone.wait_for(lambda: phone.sent == [("one", "Ready")])


def test_always_tells_at_once_what_a_stream_has_shown(store, make):
    phone = Phone()
    deliveries = make(phone)
    register(store, "one")
    request_id = finish_one(store, deliveries)
    store.transition(request_id, MarkTold(seq_of_end(store, request_id)))

    deliveries.wake()

    phone.wait_for(lambda: phone.sent == [("one", "Ready")])


def test_never_owes_nothing(store, make):
    phone = Phone()
    deliveries = make(phone, rules=NotifyPolicy("never"))
    register(store, "one")

    finish_one(store, deliveries)

    assert nothing_pending(store)


# -- the service -------------------------------------------------------------------------------------------------------


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
        ("sink 'phone' is out of reach", "ConnectionError: refused"),
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
