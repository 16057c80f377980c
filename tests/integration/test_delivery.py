"""The outbox on its way to the sinks: order, retries, containment."""

import threading
import time
import uuid
from datetime import timedelta

import pytest

from flask_bgtasks import Backoff, Notification, RetryLater, Undeliverable, hookimpl, signals
from flask_bgtasks.core.model import Progress, Result, TaskKind
from flask_bgtasks.core.transitions.attempt import Claim, Complete
from flask_bgtasks.delivery import circuit_breaker as breaker_module
from flask_bgtasks.delivery import retry as delivery_retry
from flask_bgtasks.sinks.memory import MemorySink
from flask_bgtasks.stores.memory.store import MemoryStore
from flask_bgtasks.stores.types import NewDelivery
from tests.support.tasks import T0, new_task
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def make(make_dispatcher):
    return make_dispatcher


def finish_one(store, deliveries, result=None):
    task = new_task(kind=TaskKind.VIEW, user_token="device")
    store.create(task, input={}, deliveries=deliveries.for_change)
    store.transition(task.request_id, Claim("w", timedelta(seconds=60)), deliveries=deliveries.for_change)
    store.transition(task.request_id, Complete(1, result), deliveries=deliveries.for_change)
    deliveries.wake()
    return task.request_id


def begin_one(store, deliveries):
    """A task in its first attempt."""
    task = new_task(kind=TaskKind.VIEW)
    store.create(task, input={}, deliveries=deliveries.for_change)
    return store.claim(task.request_id, worker="w", lease=timedelta(seconds=60), deliveries=deliveries.for_change).task


def told(sink, request_id):
    return [event.type.value for task, event in sink.events if task.request_id == request_id]


def test_every_sink_is_told_every_event_in_order(store, make):
    one, two = MemorySink(), MemorySink()
    two.name = "second"
    deliveries = make(one, two)
    ids = [finish_one(store, deliveries) for _ in range(20)]

    for sink in (one, two):
        sink.wait_for(lambda s: len(s.events) == 60)
        assert all(told(sink, i) == ["accepted", "started", "completed"] for i in ids)
    until(lambda: store.stats().deliveries_pending == 0)


def test_order_holds_through_failures(store, make):
    class Flaky(MemorySink):
        name = "flaky"
        calls = 0

        @hookimpl
        def bgtasks_task_event(self, task, event):
            self.calls += 1
            if self.calls % 3:
                raise ConnectionError("down")
            self._record(self.events, (task, event))

    sink = Flaky()
    deliveries = make(sink)
    ids = [finish_one(store, deliveries) for _ in range(5)]
    sink.wait_for(lambda s: len(s.events) == 15)

    assert all(told(sink, i) == ["accepted", "started", "completed"] for i in ids)


def test_a_sink_that_hangs_delays_only_its_own_deliveries(store, make):
    entered, let_go = threading.Event(), threading.Event()

    class Hanging:
        name = "hanging"

        @hookimpl
        def bgtasks_task_event(self, task, event):
            entered.set()
            let_go.wait(10)

    good = MemorySink()
    deliveries = make(Hanging(), good)
    finish_one(store, deliveries)
    assert entered.wait(PATIENCE)
    good.wait_for(lambda s: len(s.events) == 3)

    let_go.set()


def test_what_can_never_succeed_is_a_dead_letter_and_the_next_goes_on(store, make):
    class Picky(MemorySink):
        name = "picky"

        @hookimpl
        def bgtasks_task_event(self, task, event):
            if event.type.value == "started":
                raise Undeliverable("bad field")
            self._record(self.events, (task, event))

    sink = Picky()
    request_id = finish_one(store, make(sink))
    sink.wait_for(lambda s: len(s.events) == 2)

    assert told(sink, request_id) == ["accepted", "completed"]
    until(lambda: store.dead_deliveries())
    (dead,) = store.dead_deliveries()
    assert (dead.sink, dead.seq, dead.error) == ("picky", 2, "Undeliverable: bad field")


def test_retry_later_is_asked_again_when_it_said(store, make):
    class Busy(MemorySink):
        name = "busy"
        asked = 0

        @hookimpl
        def bgtasks_task_event(self, task, event):
            self.asked += 1
            if self.asked == 1:
                raise RetryLater(after=0.02)
            self._record(self.events, (task, event))

    sink = Busy()
    finish_one(store, make(sink))

    sink.wait_for(lambda s: len(s.events) == 3)


def test_what_is_older_than_its_task_may_be_is_given_up(store, make, monkeypatch):
    monkeypatch.setattr(delivery_retry, "backoff", lambda tries: 2 * 86400.0)

    class Down(MemorySink):
        name = "down"

        @hookimpl
        def bgtasks_task_event(self, task, event):
            self._record(self.events, (task, event))
            raise ConnectionError("down for two days")

    sink = Down()
    finish_one(store, make(sink))
    until(lambda: len(store.dead_deliveries()) == 3)

    assert "given up after 1 try: ConnectionError" in store.dead_deliveries()[0].error


def test_a_completed_task_notifies_with_its_results_fields(store, make):
    sink = MemorySink()
    deliveries = make(sink, notify="{title} is ready, {missing}")
    request_id = finish_one(store, deliveries, Result(b'{"title": "Owls"}'))
    (sent,) = sink.wait_for(lambda s: s.notifications)

    assert sent.title == "Owls is ready, {missing}"
    assert sent.user_token == "device"
    assert sent.data["request_id"] == request_id
    assert (sent.data["status"], sent.data["seq"], sent.data["attempt"]) == ("completed", "3", "1")
    assert "device" not in repr(sent)


def test_a_function_says_what_to_send_or_nothing(store, make):
    sink = MemorySink()
    deliveries = make(sink, notify=lambda task, data: data["send"] and Notification("own", "body", data={"k": 1}))
    finish_one(store, deliveries, Result(b'{"send": false}'))
    finish_one(store, deliveries, Result(b'{"send": true}'))
    (sent,) = sink.wait_for(lambda s: s.notifications and len(s.events) == 6 and s.notifications)

    assert (sent.title, sent.body, sent.data["k"]) == ("own", "body", "1")


@pytest.mark.parametrize(("opinion", "titles"), [(False, []), (None, ["done"]), (Notification("other"), ["other"])])
def test_a_plugin_shapes_or_vetoes_a_notification(store, make, opinion, titles):
    class Shaper:
        @hookimpl
        def bgtasks_prepare_notification(self, task, notification):
            return opinion

    sink = MemorySink()
    deliveries = make(sink, Shaper(), notify="done")
    finish_one(store, deliveries)
    until(lambda: store.stats().deliveries_pending == 0)

    assert [n.title for n in sink.notifications] == titles


def test_signals_tell_of_notifications_sent_and_failed(store, make):
    heard = []

    class Sender(MemorySink):
        name = "sender"
        tries = 0

        @hookimpl
        def bgtasks_send_notification(self, notification):
            self.tries += 1
            if self.tries == 1:
                raise ConnectionError("reset")
            self._record(self.notifications, notification)

    def sent(app, notification, sink, message):
        heard.append(("sent", sink))

    def failed(app, notification, sink, message, error, final):
        heard.append(("failed", type(error).__name__, final))

    with signals.notification_sent.connected_to(sent), signals.notification_failed.connected_to(failed):
        sink = Sender()
        finish_one(store, make(sink, notify="done"))
        until(lambda: store.stats().deliveries_pending == 0)

    assert heard == [("failed", "ConnectionError", False), ("sent", "sender")]


def test_progress_is_latest_wins_for_a_slow_sink(store, make):
    entered, let_go = threading.Event(), threading.Event()

    class Slow(MemorySink):
        name = "slow"

        @hookimpl
        def bgtasks_task_progress(self, task, progress):
            entered.set()
            assert let_go.wait(PATIENCE)
            self._record(self.progress, progress)

    sink = Slow()
    deliveries = make(sink)
    task = begin_one(store, deliveries)
    for percentage in range(100):
        deliveries.offer_progress(task, Progress(T0, 1, float(percentage)))
        if percentage == 0:
            assert entered.wait(PATIENCE)
    let_go.set()
    sink.wait_for(lambda s: len(s.progress) == 2)

    assert [p.percentage for p in sink.progress] == [0.0, 99.0]


def test_progress_that_was_not_told_before_the_end_is_dropped(store, make):
    sink = MemorySink()
    deliveries = make(sink)
    worker = deliveries._workers["memory"]
    task = store.create(new_task(kind=TaskKind.VIEW), input={}).task
    with worker._lock:
        worker._progress[task.request_id] = (task, Progress(T0, 1, 50.0))
    deliveries.drop_progress(task.request_id)
    finish_one(store, deliveries)
    sink.wait_for(lambda s: len(s.events) == 3)

    assert sink.progress == []


def test_a_push_by_hand_goes_to_every_sink_that_sends(store, make):
    sink = MemorySink()
    deliveries = make(sink)

    assert deliveries.send(Notification("T", "B", user_token="device", data={"k": "v"})) == 1
    (sent,) = sink.wait_for(lambda s: s.notifications)
    assert (sent.title, sent.body, sent.user_token, sent.data) == ("T", "B", "device", {"k": "v"})


def test_backoff_grows_with_jitter_and_is_capped(monkeypatch):
    monkeypatch.undo()
    waits = [delivery_retry.backoff(tries) for tries in range(40) for _ in range(20)]

    assert min(waits) >= 0.5
    assert max(waits) <= delivery_retry.BACKOFF.longest + 0.5
    assert len(set(waits)) > 700


class Service:
    """A sink whose service is down until it is up."""

    name = "service"

    def __init__(self):
        self.up = threading.Event()
        self.tries = 0
        self.told = []

    @hookimpl
    def bgtasks_task_event(self, task, event):
        self.tries += 1
        if not self.up.is_set():
            raise ConnectionError("nobody listens")
        self.told.append((task.request_id, event.seq))


def test_a_service_that_is_down_is_not_stormed_and_told_all_when_it_is_back(store, make, monkeypatch, caplog):
    monkeypatch.setattr(breaker_module, "PAUSES", Backoff(first=0.05, longest=0.05))
    service = Service()
    deliveries = make(service)
    with caplog.at_level("INFO", "flask_bgtasks"):
        ids = [finish_one(store, deliveries) for _ in range(30)]
        until(lambda: service.tries >= 6)
        tries, began = service.tries, time.monotonic()
        until(lambda: service.tries >= tries + 4)
        storm = (service.tries - tries) / (time.monotonic() - began)
        service.up.set()
        until(lambda: store.stats().deliveries_pending == 0)

    assert storm < 80  # a second: one each pause, not thirty
    assert sorted(service.told) == sorted((request_id, seq) for request_id in ids for seq in (1, 2, 3))
    for request_id in ids:
        assert [seq for told, seq in service.told if told == request_id] == [1, 2, 3]
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) <= breaker_module.IN_A_ROW + 1
    assert "sink 'service' is unreachable" in caplog.text
    assert "sink 'service' is back" in caplog.text


def test_what_is_put_off_was_not_tried(store, make):
    deliveries = make()
    store.add_delivery(NewDelivery("service", "message", {"n": 1}))
    for _ in range(3):
        deliveries.put_off(deliveries.due("service", 10), 0)

    (delivery,) = deliveries.due("service", 10)
    assert (delivery.tries, delivery.error) == (0, None)


class Many:
    """A sink that makes several deliveries at once; those of one task hang until it is let go."""

    name = "many"
    concurrency = 2

    def __init__(self):
        self.hangs, self.entered, self.let_go = None, threading.Event(), threading.Event()
        self.told, self.lock = [], threading.Lock()

    @hookimpl
    def bgtasks_task_event(self, task, event):
        if task.request_id == self.hangs:
            self.entered.set()
            self.let_go.wait(10)
        self._note(task.request_id, event.seq)

    @hookimpl
    def bgtasks_task_progress(self, task, progress):
        self._note(task.request_id, progress.percentage)

    def _note(self, *what):
        with self.lock:
            self.told.append(what)

    def of(self, request_id):
        return [what for told, what in self.told if told == request_id]


def accept_one(store, deliveries):
    request_id = str(uuid.uuid4())
    task = new_task(request_id, kind=TaskKind.VIEW)
    return store.create(task, input={}, deliveries=deliveries.for_change).task


def test_one_delivery_that_hangs_holds_up_no_other_of_its_sink(store, make):
    sink = Many()
    deliveries = make(sink)
    sink.hangs = accept_one(store, deliveries).request_id
    deliveries.wake()
    assert sink.entered.wait(PATIENCE)

    ids = [finish_one(store, deliveries) for _ in range(30)]
    until(lambda: len(sink.told) == 90)

    assert all(sink.of(request_id) == [1, 2, 3] for request_id in ids)
    assert sink.of(sink.hangs) == []
    sink.let_go.set()
    until(lambda: store.stats().deliveries_pending == 0)


def test_progress_is_told_beside_no_delivery(store, make):
    sink = Many()
    deliveries = make(sink)
    accepted = accept_one(store, deliveries)
    task = store.claim(accepted.request_id, worker="w", lease=timedelta(seconds=60)).task
    sink.hangs = task.request_id
    deliveries.wake()
    assert sink.entered.wait(PATIENCE)

    deliveries.offer_progress(task, Progress(T0, 1, 50.0))
    sink.let_go.set()
    until(lambda: len(sink.told) == 2)

    assert sink.of(task.request_id) == [1, 50.0]


def test_what_is_under_way_when_the_process_stops_is_finished_and_what_comes_after_it_too(store, make):
    sink = Many()
    deliveries = make(sink)
    sink.hangs = accept_one(store, deliveries).request_id
    for change in (Claim("w", timedelta(seconds=60)), Complete(1)):
        store.transition(sink.hangs, change, deliveries=deliveries.for_change)
    deliveries.wake()
    assert sink.entered.wait(PATIENCE)

    stopping = threading.Thread(target=deliveries.stop, args=(10,))
    stopping.start()
    sink.let_go.set()
    stopping.join(10)

    assert sink.of(sink.hangs) == [1, 2, 3]
    assert store.stats().deliveries_pending == 0


def test_an_addressee_that_is_left_alone_costs_its_message_no_try_and_nobody_hears_of_a_failure(store, make):
    heard = []

    class Resting(MemorySink):
        name = "resting"
        asked = 0

        @hookimpl
        def bgtasks_send_notification(self, notification):
            self.asked += 1
            if self.asked < 5:
                raise RetryLater("left alone", after=0.0, tried=False)
            self._record(self.notifications, notification)

    def failed(app, notification, sink, message, error, final):
        heard.append(error)

    tries = []
    settle = store.settle_delivery
    store.settle_delivery = lambda delivery, settlement: (tries.append(delivery.tries), settle(delivery, settlement))
    with signals.notification_failed.connected_to(failed):
        sink = Resting()
        finish_one(store, make(sink, notify="done"))
        until(lambda: store.stats().deliveries_pending == 0)

    assert sink.asked == 5
    assert len(sink.notifications) == 1
    assert heard == []
    assert set(tries) == {0}


def test_who_catches_up_waits_until_all_that_is_due_is_delivered(store, make):
    sink, other = Many(), MemorySink()
    deliveries = make(sink, other)
    sink.hangs = finish_one(store, deliveries)
    assert sink.entered.wait(PATIENCE)
    assert deliveries.catch_up(0.05) is False
    sink.let_go.set()

    assert deliveries.catch_up(PATIENCE) is True

    assert store.stats().deliveries_pending == 0
    assert sink.of(sink.hangs) == [1, 2, 3]


def test_who_catches_up_finds_what_came_a_moment_before(store, make):
    sink = Many()
    deliveries = make(sink)
    for _ in range(50):
        request_id = finish_one(store, deliveries)

        assert deliveries.catch_up(PATIENCE)

        assert sink.of(request_id) == [1, 2, 3]


def test_who_catches_up_waits_for_no_sink_that_is_down(store, make, monkeypatch):
    monkeypatch.setattr(breaker_module, "PAUSES", Backoff(PATIENCE, PATIENCE))
    monkeypatch.setattr(delivery_retry, "backoff", lambda tries: 600.0)

    class Down:
        name = "down"

        @hookimpl
        def bgtasks_task_event(self, task, event):
            raise ConnectionError("down")

    deliveries = make(Down())
    for _ in range(10):
        finish_one(store, deliveries)
    begun = time.monotonic()

    assert deliveries.catch_up(PATIENCE)

    assert time.monotonic() - begun < PATIENCE / 2
    assert store.stats().deliveries_pending


def test_who_catches_up_does_not_wait_for_workers_that_were_stopped(store, make):
    sink = Many()
    deliveries = make(sink)
    sink.hangs = accept_one(store, deliveries).request_id
    deliveries.wake()
    assert sink.entered.wait(PATIENCE)
    caught_up = []
    waiting = threading.Thread(target=lambda: caught_up.append(deliveries.catch_up(PATIENCE)))
    waiting.start()

    deliveries.stop(0)
    waiting.join(PATIENCE / 2)

    assert caught_up
    sink.let_go.set()
