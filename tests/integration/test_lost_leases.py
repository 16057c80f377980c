"""Processes that sleep, hang, or have another clock: what they hold, lose, and may still tell."""

import threading
import time
from datetime import timedelta

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, Status, StoreUnavailable, checkpoint, current_task, hookimpl
from flask_bgtasks.core.model import Progress
from flask_bgtasks.core.transitions.attempt import Complete
from flask_bgtasks.delivery.dispatcher import Dispatcher
from flask_bgtasks.plugins import Plugins
from flask_bgtasks.runtime import processes
from flask_bgtasks.sinks.memory import MemorySink
from flask_bgtasks.stores.sql import SqlStore
from flask_bgtasks.stores.types import Settlement, system_clock
from tests.support.sinks.contexts import context_of
from tests.support.tasks import T0, new_task
from tests.support.waiting import PATIENCE, until

LEASE = timedelta(seconds=60)


@pytest.fixture
def later(monkeypatch):
    """Moves the monotonic clock on, as it moves for a process that was stopped."""
    real, passed = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + passed[0])

    def move(seconds):
        passed[0] += seconds

    return move


class Slow:
    """A sink that returns when it is let go, once."""

    name = "sink"

    def __init__(self, told):
        self.told = told
        self.entered, self.let_go = threading.Event(), threading.Event()

    @hookimpl
    def bgtasks_task_event(self, task, event):
        self.told.append(event.seq)
        self.entered.set()
        assert self.let_go.wait(PATIENCE)


@pytest.fixture
def process(tmp_path):
    """Makes the deliveries of a process, which begins none by itself, on one database and one sink."""
    made, told = [], []

    def build(*, ahead=timedelta(0), slow=False):
        sink = Slow(told)
        if not slow:
            sink.let_go.set()
        plugins = Plugins()
        plugins.register(sink)
        store = SqlStore(f"sqlite:///{tmp_path}/tasks.sqlite3", clock=lambda: system_clock() + ahead)
        app = Flask("delivery")
        deliveries = Dispatcher(app, store, plugins, context=context_of(store), notify_of=lambda name: None)
        deliveries.app, deliveries.store, deliveries.sink, deliveries.told = app, store, sink, told
        made.append(deliveries)
        return deliveries

    yield build
    for deliveries in made:
        deliveries.sink.let_go.set()
        deliveries.stop(PATIENCE)
        deliveries.store.close()


def with_deliveries(process):
    """A task with two events to deliver."""
    task = new_task()
    process.store.create(task, input={}, deliveries=process.for_change)
    process.store.claim(task.request_id, worker="w", lease=LEASE, deliveries=process.for_change)


def deliver(process):
    """Have a process make one delivery; in a thread, as it may hang."""
    [delivery] = process.due("sink", 10)
    thread = threading.Thread(target=process.deliver, args=(delivery,))
    thread.start()
    assert process.sink.entered.wait(PATIENCE)
    return thread


def looked(process, later, seconds):
    """Let a process look for deliveries, so long; what it takes."""
    taken = process.due("sink", 10)
    for _ in range(seconds // 5):
        later(5)
        taken += process.due("sink", 10)
    return taken


# -- deliveries ----------------------------------------------------------------------------------------------------


def test_a_clock_an_hour_ahead_takes_nothing_that_another_process_is_delivering(process):
    right, ahead = process(slow=True), process(ahead=timedelta(hours=1))
    with_deliveries(right)
    delivering = deliver(right)

    assert ahead.due("sink", 10) == []

    right.sink.let_go.set()
    delivering.join(PATIENCE)
    deliver(ahead).join(PATIENCE)
    assert right.told == [1, 2]


def test_a_call_that_outlives_its_lease_is_made_by_nobody_else(process, later):
    slow, other = process(slow=True), process()
    with_deliveries(slow)
    delivering = deliver(slow)

    for _ in range(20):
        later(15)
        slow._keeper.renew()
        assert looked(other, later, 5) == []

    slow.sink.let_go.set()
    delivering.join(PATIENCE)
    deliver(other).join(PATIENCE)
    assert slow.told == [1, 2]
    assert slow.store.stats().deliveries_pending == 0


def test_what_a_process_that_was_stopped_holds_is_delivered_and_its_late_settlement_does_not_count(process, later):
    stopped, other = process(slow=True), process()
    stopped._keeper.renew = lambda: None  # it does nothing at all
    with_deliveries(stopped)
    delivering = deliver(stopped)

    [again] = looked(other, later, 60)
    other.deliver(again)
    [second] = other.due("sink", 10)
    with_deliveries(other)
    stopped.sink.let_go.set()
    delivering.join(PATIENCE)

    assert second.seq == 2
    assert stopped.store.stats().deliveries_pending == 3
    other.store.settle_delivery(second, Settlement())
    assert stopped.store.stats().deliveries_pending == 2


def test_a_process_that_was_stopped_before_it_called_the_sink_does_not_call_it_late(process, later):
    stopped, other = process(), process()
    stopped._keeper.renew = lambda: None  # it does nothing at all
    read, reads, go_on = stopped._handler._task_and_event, threading.Event(), threading.Event()

    def stopped_after_reading(delivery):
        found = read(delivery)
        reads.set()
        assert go_on.wait(PATIENCE)
        return found

    stopped._handler._task_and_event = stopped_after_reading
    with_deliveries(stopped)
    [first] = stopped.due("sink", 10)
    delivering = threading.Thread(target=stopped.deliver, args=(first,))
    delivering.start()
    assert reads.wait(PATIENCE)

    [again] = looked(other, later, 60)
    other.deliver(again)
    deliver(other).join(PATIENCE)
    go_on.set()
    delivering.join(PATIENCE)

    assert stopped.told == [1, 2]  # by both together
    assert stopped.store.stats().deliveries_pending == 0


def test_a_process_that_was_slow_to_call_the_sink_calls_it_where_nobody_else_was_given_the_delivery(process, later):
    slow = process()
    with_deliveries(slow)
    [first] = slow.due("sink", 10)
    taken = time.monotonic()
    later(61)

    assert slow.deliver(first, taken=taken) is not None

    assert slow.told == [1]
    assert slow.store.stats().deliveries_pending == 1


# -- progress ------------------------------------------------------------------------------------------------------


@pytest.fixture
def sink():
    return MemorySink()


@pytest.fixture
def alone(process, sink):
    """The deliveries of a process to a sink that takes progress."""
    made = process()
    made._plugins.register(sink)
    made.refresh()
    return made


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "goes on"])
def test_an_attempt_that_lost_its_task_tells_no_progress(alone, sink, ended):
    store = alone.store
    task = new_task()
    store.create(task, input={})
    store.claim(task.request_id, worker="slept", lease=LEASE)
    reported = store.save_progress(task.request_id, attempt=1, progress=Progress(T0, 1, 30.0))
    store.expire_leases("slept")
    store.claim(task.request_id, worker="other", lease=LEASE)
    newer = store.save_progress(task.request_id, attempt=2, progress=Progress(T0, 2, 60.0))
    if ended:
        store.transition(task.request_id, Complete(2))

    alone.tell_progress("memory", reported, reported.progress)
    assert sink.progress == []

    alone.tell_progress("memory", newer, newer.progress)
    assert [told.percentage for _, told in sink.progress] == ([] if ended else [60.0])


def test_progress_that_a_thread_stored_before_another_and_offers_after_it_is_not_told(alone, sink):
    store, worker = alone.store, alone._workers["memory"]
    worker.wake = lambda: None  # it takes both at once
    task = new_task()
    store.create(task, input={})
    store.claim(task.request_id, worker="w", lease=LEASE)
    older, newer = (
        store.save_progress(task.request_id, attempt=1, progress=Progress(T0, 1, float(n))) for n in (30, 60)
    )

    for one in (newer, older):
        alone.offer_progress(one, one.progress)
    worker._tell_progress()

    assert [told.percentage for _, told in sink.progress] == [60.0]


# -- attempts ------------------------------------------------------------------------------------------------------


@pytest.fixture
def make(tmp_path):
    """Makes an app, as of another process, on one shared store. Its task can be made to wait where it begins."""
    made = []

    def build(**settings):
        app, bgtasks = Flask("app", instance_path=str(tmp_path)), BackgroundTasks()
        app.made, app.begins = [], lambda: None

        @bgtasks.task
        def work():
            app.begins()
            return checkpoint("Make", lambda: app.made.append(current_task.attempt))

        app.work = work
        bgtasks.init_app(app, **{"runner": "external", "sinks": [], "progress_interval": 0.02, **settings})
        app.state = app.extensions["bgtasks"]
        made.append(app)
        return app

    yield build
    for app in made:
        app.state.close(grace=PATIENCE)


def submit(app):
    with app.app_context():
        return app.work.submit()


def taken_over(app, request_id, *, ends=True):
    """Another process goes on with the task, and may end it."""
    store = app.state.store
    for worker in store.workers():
        store.expire_leases(worker)
    attempt = store.claim(request_id, worker="other", lease=LEASE)
    if ends:
        store.transition(request_id, Complete(attempt.task.attempt))


@pytest.mark.parametrize("ends", [True, False], ids=["ended", "goes on"])
def test_a_process_that_slept_after_its_claim_does_not_begin(make, later, ends):
    slept, other = make(), make()
    handle = submit(slept)
    claim = slept.state.store.claim

    def sleeps(*args, **kwargs):
        attempt = claim(*args, **kwargs)
        taken_over(other, handle.request_id, ends=ends)
        later(3600)
        return attempt

    slept.state.store.claim = sleeps
    slept.begins = lambda: slept.made.append("begun")

    slept.state.engine.run(handle.request_id)

    assert slept.made == []
    assert slept.state.engine.running == 0
    assert handle.task.attempt == 2


def test_a_process_that_slept_does_not_begin_a_checkpoint_that_another_has_finished(make, later):
    slept, other = make(progress_interval=60), make()
    handle = submit(slept)

    def sleeps():
        slept.state.store.expire_leases(processes.me())
        other.state.engine.run(handle.request_id)
        later(3600)

    slept.begins = sleeps

    slept.state.engine.run(handle.request_id)

    assert (slept.made, other.made) == ([], [2])
    assert handle.status is Status.COMPLETED


def test_a_process_that_slept_and_still_holds_its_task_goes_on(make, later):
    app = make(progress_interval=60)
    handle = submit(app)
    app.begins = lambda: later(3600)

    app.state.engine.run(handle.request_id)

    assert app.made == [1]
    assert handle.status is Status.COMPLETED


def test_a_claim_whose_checkpoints_cannot_be_read_is_none(make, monkeypatch):
    app = make()
    store = app.state.store
    handle = submit(app)
    store.claim(handle.request_id, worker="gone", lease=LEASE)
    store.expire_leases("gone")

    def out_of_reach(connection, request_id):
        raise StoreUnavailable("gone")

    with monkeypatch.context() as broken:
        broken.setattr(store, "_checkpoints", out_of_reach)
        with pytest.raises(StoreUnavailable):
            app.state.engine.run(handle.request_id)
    assert handle.task.attempt == 1

    app.state.engine.run(handle.request_id)

    assert (handle.status, app.made) == (Status.COMPLETED, [2])


def test_an_attempt_that_lost_its_lease_is_not_waited_for(make):
    """Its code goes on, and reports nothing: nobody can end it, and nothing that it does counts."""
    app = make()
    handle = submit(app)
    begun, let_go = threading.Event(), threading.Event()

    def hangs():
        begun.set()
        current_task.update(details="here")
        assert let_go.wait(PATIENCE)

    app.begins = hangs
    running = threading.Thread(target=app.state.engine.run, args=(handle.request_id,))
    running.start()
    assert begun.wait(PATIENCE)
    until(lambda: handle.task.progress)

    taken_over(app, handle.request_id)
    until(lambda: app.state.engine.running == 0)

    let_go.set()
    running.join(PATIENCE)
    assert app.made == []
    assert app.state.engine.running == 0


def test_an_attempt_that_ends_after_it_lost_its_lease_leaves_nothing_behind(make):
    app = make(progress_interval=60)  # nothing is noticed before it ends
    handle = submit(app)
    app.begins = lambda: taken_over(app, handle.request_id)

    app.state.engine.run(handle.request_id)

    assert app.state.engine.running == 0
