"""Threads of the library that die of whatever reason: begun again, and told by health."""

import ctypes
import threading

import pytest

from flask_bgtasks import current_task, step
from flask_bgtasks.runtime.background_thread import BackgroundThread
from tests.support.waiting import PATIENCE, until


def kill(thread):
    """End a thread from outside, twice where it survives the first: at whatever line it is."""
    ident = thread.ident
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(SystemExit))


def named(name):
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


@pytest.fixture
def app(make_app, tmp_path, bg):
    app = make_app(store=f"sqlite:///{tmp_path}/tasks.sqlite3", workers=2, lease_seconds=1)

    @app.post("/work")
    @bg.background()
    def work():
        with step("Draw"):
            current_task.emit("a")
        return {}

    return app


@pytest.mark.parametrize(
    "name", ["bgtasks-flusher", "bgtasks-heartbeat", "bgtasks-recovery", "bgtasks-sink-memory", "bgtasks-worker"]
)
def test_a_thread_that_is_ended_from_outside_is_there_again(app, bg, finished, name):
    client = app.test_client()
    finished(app, client.post("/work", json={}))
    until(lambda: named(name))
    until(lambda: app.extensions["bgtasks"].store.stats().deliveries_pending == 0)  # nothing is under way
    for thread in named(name):
        kill(thread)

    task = finished(app, client.post("/work", json={}))

    assert task.status.value == "completed"
    # A thread that dies with a delivery just taken leaves its lease of 60 s behind.
    until(lambda: app.extensions["bgtasks"].store.stats().deliveries_pending == 0, timeout=150)
    until(lambda: named(name))
    until(lambda: client.get("/tasks/health").status_code == 200)


class Dead:
    """A thread that is not there any more."""

    ident = name = "dead"

    def is_alive(self):
        return False


def test_health_tells_which_thread_is_missing_and_has_it_begun_again(app, finished):
    client = app.test_client()
    finished(app, client.post("/work", json={}))
    recovery = app.extensions["bgtasks"].lifecycle.recovery
    recovery.close()  # so that nobody else finds it first
    until(lambda: not recovery.thread.is_alive())
    flusher = app.extensions["bgtasks"].engine.threads[0]
    flusher._thread = Dead()

    answer = client.get("/tasks/health")

    assert answer.status_code == 503
    assert answer.json["checks"]["threads"] == "missing (bgtasks-flusher)"
    assert client.get("/tasks/health").json["checks"]["threads"] == "ok"


def test_recovery_itself_is_begun_again_by_the_next_request(app, finished):
    client = app.test_client()
    finished(app, client.post("/work", json={}))
    recovery = app.extensions["bgtasks"].lifecycle.recovery
    recovery.thread._thread = Dead()

    finished(app, client.post("/work", json={}))

    assert recovery.thread.is_alive()


def test_a_thread_that_breaks_again_and_again_is_said_once_and_goes_on(caplog):
    calls, done = [], threading.Event()

    def serve(closed):
        calls.append(1)
        if len(calls) < 3:
            raise SystemExit
        done.set()
        closed.wait(10)

    thread = BackgroundThread("bgtasks-test", serve)
    thread.start()
    assert done.wait(PATIENCE)
    thread.close(wake=lambda: None, timeout=10)

    assert caplog.text.count("thread bgtasks-test failed") == 1
    assert not thread.missing


def test_a_thread_that_cannot_be_started_is_missing_and_tried_again(monkeypatch, caplog):
    thread, begun = BackgroundThread("bgtasks-test", lambda closed: begun.set()), threading.Event()

    def refuse(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        thread.start()
        assert thread.missing
        assert "cannot be started" in caplog.text

    thread.start()
    assert begun.wait(PATIENCE)
