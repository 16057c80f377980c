"""Sinks, receivers and hooks that raise what ends a thread: nothing else of the app is hurt by it."""

import asyncio
import threading
import time

import pytest

from flask_bgtasks import CancelRequested, current_task, hookimpl, signals, step
from flask_bgtasks.sinks.memory import MemorySink
from tests.integration.test_delivery import told
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.usefixtures("impatient")

ENDERS = [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, CancelRequested, MemoryError]


@pytest.fixture(params=ENDERS, ids=lambda error: error.__name__)
def ender(request):
    return request.param


class Hostile(MemorySink):
    """Raises at its first calls, of each kind."""

    name = "hostile"

    def __init__(self, error, *, times=2, concurrency=1):
        super().__init__()
        self.error, self.times, self.concurrency = error, times, concurrency
        self.raised = {}

    def _raise(self, where):
        self.raised[where] = self.raised.get(where, 0) + 1
        if self.raised[where] <= self.times:
            raise self.error(where)

    @hookimpl
    def bgtasks_task_event(self, task, event):
        self._raise("event")
        self._record(self.events, (task, event))

    @hookimpl
    def bgtasks_task_progress(self, task, progress):
        self._raise("progress")
        self._record(self.progress, (task, progress))

    @hookimpl
    def bgtasks_send_notification(self, notification):
        self._raise("notification")
        self._record(self.notifications, notification)

    @hookimpl
    def bgtasks_prepare_notification(self, task, notification):
        self._raise("prepare")

    @hookimpl
    def bgtasks_trouble(self, subject, text):
        self._raise("trouble")


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_sink_that_raises_what_ends_a_thread_gets_its_deliveries_all_the_same(
    make_app, bg, finished, ender, concurrency
):
    sink = Hostile(ender, times=4, concurrency=concurrency)
    app = make_app(sinks=[sink])

    @app.post("/work")
    @bg.background(notify="Ready")
    def work():
        return {}

    task = finished(app, app.test_client().post("/work", json={}))

    sink.wait_for(lambda s: s.notifications and len(s.events) == 3)
    assert told(sink, task.request_id) == ["accepted", "started", "completed"]
    assert sink.raised["prepare"] > 0
    until(lambda: app.extensions["bgtasks"].store.stats().deliveries_pending == 0)


def test_a_sink_that_raises_what_ends_a_thread_gets_the_next_progress(make_app, bg, ender):
    sink = Hostile(ender)
    app = make_app(sinks=[sink])

    @bg.task
    def work():
        with step("Draw"):
            number = 0
            while not sink.progress:
                number += 1
                current_task.update(details=str(number))
                time.sleep(0.001)

    with app.app_context():
        work.submit().wait(timeout=PATIENCE)

    assert sink.raised["progress"] > 2


def test_receivers_that_raise_what_ends_a_thread_hurt_no_task_and_no_other_receiver(make_app, bg, ender, caplog):
    app, heard, receivers = make_app(), [], []
    for name, signal in vars(signals).items():
        if isinstance(signal, signals.Signal):

            def hostile(sender, **values):
                raise ender("no")

            def listen(sender, _name=name, **values):
                heard.append(_name)

            for receiver in (hostile, listen):
                signal.connect(receiver, app)
                receivers.append(receiver)

    @bg.task(notify="Ready")
    def work():
        with step("Draw"):
            while "task_progress" not in heard:
                current_task.update(details="…")
                time.sleep(0.001)

    def submit():
        with app.app_context():
            handles.append(work.submit())

    handles = []
    thread = threading.Thread(target=submit)  # in the main thread Ctrl-C ends the process, as it should
    thread.start()
    thread.join(10)
    handles[0].wait(timeout=PATIENCE)
    expected = {"task_accepted", "task_started", "step_started", "step_finished", "task_completed", "notification_sent"}
    until(lambda: expected <= set(heard), says=lambda: str(expected - set(heard)))

    assert handles[0].task.attempt == 1
    assert "a receiver of" in caplog.text


def test_a_ctrl_c_in_a_receiver_on_the_main_thread_goes_on(make_app):
    app = make_app()

    def receiver(sender, **values):
        raise KeyboardInterrupt

    with signals.task_accepted.connected_to(receiver, app), pytest.raises(KeyboardInterrupt):
        signals.send(signals.task_accepted, app)


def test_a_teardown_function_that_raises_does_not_have_a_delivery_made_twice(make_app, bg, finished, ender):
    sink = MemorySink()
    app = make_app(sinks=[sink])
    broken = []

    @app.post("/work")
    @bg.background()
    def work():
        return {}

    @app.teardown_appcontext
    def tear_down(error):
        if threading.current_thread().name.startswith("bgtasks-sink"):
            broken.append(1)
            raise ender("teardown")

    task = finished(app, app.test_client().post("/work", json={}))
    until(lambda: app.extensions["bgtasks"].store.stats().deliveries_pending == 0)

    assert broken
    assert told(sink, task.request_id) == ["accepted", "started", "completed"]


def test_a_before_run_function_that_raises_what_ends_a_thread_costs_no_thread(make_app, bg, finished, ender):
    app, calls = make_app(workers=1), []

    @bg.before_run
    def hostile(task):
        calls.append(1)
        if len(calls) == 1:
            raise ender("no")

    @app.post("/work")
    @bg.background()
    def work():
        return {}

    client = app.test_client()
    first = finished(app, client.post("/work", json={}))
    second = finished(app, client.post("/work", json={}))

    assert first.done
    assert second.status.value == "completed"


def test_a_receiver_that_hangs_lets_no_lease_run_out(make_app, bg):
    """The leases of all that runs here are renewed, whatever the flusher waits for."""
    app = make_app(lease_seconds=1, sinks=[])
    let_go, entered = threading.Event(), threading.Event()

    def hanging(sender, **values):
        entered.set()
        let_go.wait(10)

    @bg.task
    def work():
        with step("Draw"):
            current_task.update(details="…")
            assert entered.wait(PATIENCE)
            before = app.extensions["bgtasks"].store.get(current_task.request_id).lease_until
            until(lambda: app.extensions["bgtasks"].store.get(current_task.request_id).lease_until > before)

    with signals.task_progress.connected_to(hanging, app), app.app_context():
        try:
            handle = work.submit()
            handle.wait(timeout=PATIENCE)
        finally:
            let_go.set()
    assert handle.task.attempt == 1
