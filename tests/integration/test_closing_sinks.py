"""Sinks are closed with their app: once, in good order, and whatever they do then."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from flask import Flask, current_app

from flask_bgtasks import BackgroundTasks, Message, SinkContext, current_task, hookimpl
from flask_bgtasks.core.devices import LIVE_ACTIVITY, make_device
from flask_bgtasks.core.model import Progress
from flask_bgtasks.delivery import sink_calls
from flask_bgtasks.sinks.firestore import FirestoreSink
from flask_bgtasks.sinks.live_activity import LiveActivitySink
from flask_bgtasks.sinks.memory import MemorySink
from flask_bgtasks.stores.memory.store import MemoryStore
from tests.integration.test_delivery import begin_one
from tests.integration.test_hostile_code import ENDERS
from tests.support.sinks.contexts import context_of
from tests.support.waiting import until


class Closing(MemorySink):
    """Notes how it was closed: of which app, what it had been told by then, and what it could still look up."""

    def __init__(self, name="closing"):
        super().__init__()
        self.name, self.closed = name, []

    @hookimpl
    def bgtasks_close(self, context):
        found = [context.find_task(task.request_id).status.value for task, _ in self.events]
        self.closed.append((current_app.name, context, len(self.events), found))


class Raising(Closing):
    def __init__(self, error):
        super().__init__("raising")
        self.error = error

    @hookimpl
    def bgtasks_close(self, context):
        super().bgtasks_close(context)
        raise self.error("no")


class Hanging(Closing):
    def __init__(self):
        super().__init__("hanging")
        self.let_go = threading.Event()

    @hookimpl
    def bgtasks_close(self, context):
        super().bgtasks_close(context)
        self.let_go.wait(60)


def test_a_sink_is_closed_once_after_its_last_delivery_and_before_the_store(make_app, bg, monkeypatch):
    sink, open_sinks = Closing(), []
    app = make_app(sinks=[sink])
    monkeypatch.setattr(app.extensions["bgtasks"].store, "close", lambda: open_sinks.append(not sink.closed))

    @bg.task
    def work():
        return 1

    with app.app_context():
        work.submit().wait(timeout=10)
    state = app.extensions["bgtasks"]
    state.close(grace=10)
    state.close(grace=10)

    [(name, _, told, found)] = sink.closed
    assert (name, told, found) == (app.name, 3, ["completed"] * 3)
    assert open_sinks == [False, False]


def test_a_sink_that_was_never_called_is_closed_all_the_same(make_app):
    sink = Closing()

    make_app(sinks=[sink]).extensions["bgtasks"].close(grace=0)

    assert len(sink.closed) == 1


@pytest.mark.parametrize("error", ENDERS)
def test_a_sink_that_raises_while_it_is_closed_keeps_no_other_from_it(make_app, error, caplog):
    raising, other = Raising(error), Closing()

    make_app(sinks=[raising, other]).extensions["bgtasks"].close(grace=0)

    assert len(raising.closed) == len(other.closed) == 1
    assert "sink 'raising' failed to close" in caplog.text


def test_sinks_that_hang_while_they_are_closed_are_not_waited_for(make_app, monkeypatch, caplog):
    monkeypatch.setattr(sink_calls, "CLOSE_SECONDS", 0.2)
    hanging, other = Hanging(), Closing()
    app = make_app(sinks=[hanging, other])
    closed, store = [], app.extensions["bgtasks"].store
    monkeypatch.setattr(store, "close", lambda: closed.append(True))

    begun = time.monotonic()
    app.extensions["bgtasks"].close(grace=0)

    assert 0.2 <= time.monotonic() - begun < 20  # it hangs for a minute
    assert closed == [True]
    assert len(hanging.closed) == len(other.closed) == 1
    assert "sink 'hanging' did not close within 0.2 s" in caplog.text
    hanging.let_go.set()


def test_a_sink_that_two_apps_share_is_closed_for_each_and_told_which(tmp_path):
    bg, sink, apps = BackgroundTasks(), Closing(), []
    bg.register(sink)
    for name in ("one", "two"):
        apps.append(Flask(name, instance_path=str(tmp_path)))
        bg.init_app(apps[-1], store="memory://")

    apps[0].extensions["bgtasks"].close(grace=0)
    assert [name for name, *_ in sink.closed] == ["one"]
    apps[1].extensions["bgtasks"].close(grace=0)

    contexts = [context for _, context, *_ in sink.closed]
    assert [context.app_name for context in contexts] == ["one", "two"]


def test_every_hook_of_a_sink_is_given_the_same_context(make_app, bg):
    given = {}

    class Asking:
        name = "asking"

        @hookimpl
        def bgtasks_task_event(self, task, context):
            given["event"] = context
            if task.done:
                context.enqueue("asking", _message(task))

        @hookimpl
        def bgtasks_task_progress(self, context):
            given["progress"] = context

        @hookimpl
        def bgtasks_task_erased(self, context):
            given["erased"] = context

        @hookimpl
        def bgtasks_send_notification(self, context):
            given["notification"] = context
            return [_message(None)]

        @hookimpl
        def bgtasks_deliver_message(self, message, context):
            given["push" if message.notification else "message"] = context

        @hookimpl
        def bgtasks_close(self, context):
            given["close"] = context

    app = make_app(sinks=[Asking()])

    @app.post("/work")
    @bg.background(notify="Ready")
    def work():
        until(lambda: current_task.update(details="…") or "progress" in given)
        return {}

    answer = app.test_client().post("/work", json={}, headers={"Prefer": "wait=30"})
    until(lambda: {"event", "message", "notification", "push"} <= given.keys())
    until(lambda: app.extensions["bgtasks"].store.stats().deliveries_pending == 0)
    app.test_client().delete(f"/tasks/{answer.headers['Task-Id']}")
    until(lambda: "erased" in given)
    app.extensions["bgtasks"].close(grace=10)

    assert given.keys() == {"event", "progress", "erased", "notification", "push", "message", "close"}
    (context,) = set(given.values())
    assert isinstance(context, SinkContext)
    assert context.draining


def _message(task):
    return Message("channel", {}, request_id=task and task.request_id)


def test_trouble_comes_with_the_context_and_an_app_that_serves_is_not_draining(make_app):
    given = []

    class Watcher:
        name = "watcher"

        @hookimpl
        def bgtasks_trouble(self, subject, context):
            given.append((subject, context.app_name, context.draining))

    app = make_app(sinks=[Watcher()])
    app.extensions["bgtasks"].deliveries.out_of_reach("mail", None)

    assert given == [("sink 'mail' is unreachable", "app_under_test", False)]


AT_EXIT = """
from flask import Flask
from flask_bgtasks import BackgroundTasks, hookimpl

class Sink:
    name = "sink"

    @hookimpl
    def bgtasks_task_event(self, task):
        print(task.status.value, flush=True)

    @hookimpl
    def bgtasks_close(self, context):
        print("closed with", context.app_name, flush=True)

app = Flask("studio")
bgtasks = BackgroundTasks(app, store="memory://", sinks=[Sink()])

@bgtasks.task
def work():
    pass

with app.app_context():
    work.submit().wait(timeout=20)
"""


def test_where_no_thread_can_be_begun_sinks_are_closed_all_the_same(make_app, monkeypatch):
    closed = []

    class Closable:
        name = "closable"

        @hookimpl
        def bgtasks_close(self, context):
            closed.append(context.app_name)

    def refuse(thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    app = make_app(sinks=[Closable()])
    monkeypatch.setattr(threading.Thread, "start", refuse)

    app.extensions["bgtasks"].close(grace=0)

    assert closed == [app.name]


def test_at_the_end_of_a_process_its_sinks_are_closed():
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.splitlines()[-1] == "closed with studio"
    assert done.stderr == ""


# -- our own -----------------------------------------------------------------------------------------------------------


class NoFirestore:
    """Refuses every use of its client, and notes that it was closed."""

    closed = 0

    @property
    def client(self):
        raise ConnectionError("no Firestore here")

    def close(self):
        self.closed += 1


class Nobody:
    """Delivers nothing to anybody."""

    for_change = ()


def test_the_firestore_sink_ends_its_thread_and_closes_its_client_and_can_go_on():
    firestore, store = NoFirestore(), MemoryStore()
    sink = FirestoreSink(firestore, tasks="tasks", progress="progress")
    task = begin_one(store, Nobody)
    sink.bgtasks_task_progress(task, Progress(store.now(), 1, step="Draw"))
    assert sink._thread.is_alive()

    sink.bgtasks_close()

    assert [thread.name for thread in threading.enumerate() if thread.name == "bgtasks-firestore"] == []
    assert firestore.closed == 1
    sink.bgtasks_task_progress(task, Progress(store.now(), 1, step="Write"))  # of another app that has it too
    assert sink._thread.is_alive()
    sink.bgtasks_close()


class NoFcm:
    """Takes every message, and notes that it was closed."""

    closed = 0

    def send(self, push, *, dry_run):
        pass

    def close(self):
        self.closed += 1


def test_the_live_activity_sink_follows_nothing_more_of_an_app_that_is_closed():
    fcm, stores = NoFcm(), [MemoryStore(), MemoryStore()]
    sink, contexts = LiveActivitySink(fcm), [context_of(store) for store in stores]
    details = {"device": {"kind": "fid", "value": "cXyZ0123456789abcdefGH"}}
    tasks = []
    for store, context in zip(stores, contexts, strict=True):
        tasks.append(begin_one(store, Nobody))
        made = make_device(LIVE_ACTIVITY, "token", request_id=tasks[-1].request_id, details=details)
        devices = [store.save_device(made, max_devices=5)]
        progress = Progress(store.now(), 1, step="Draw")
        sink.bgtasks_task_progress(tasks[-1], progress, lambda devices=devices: devices, context)

    sink.bgtasks_close(contexts[0])
    assert sink.following == [tasks[1].request_id]
    sink.bgtasks_close(contexts[1])

    assert sink.following == []
    until(lambda: not [t for t in threading.enumerate() if t.name == "bgtasks-live-activity"])
    assert fcm.closed == 2
