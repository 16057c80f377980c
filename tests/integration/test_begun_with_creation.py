"""A task that is begun with its creation, because a thread is free for it: one transaction, and no way to lose it."""

import threading
import time
from datetime import timedelta

import pytest

from flask_bgtasks import ShuttingDown, Status, current_task
from flask_bgtasks.core.transitions.outside import RequestCancel
from flask_bgtasks.execution import claims
from tests.support.waiting import PATIENCE, until


@pytest.fixture
def app(make_app, bg, tmp_path):
    """An app with one thread and functions that are told when to go on."""
    app = make_app(store=f"sqlite:///{tmp_path}/tasks.sqlite3", runner="threads", workers=1, sinks=[])
    app.go, app.runs = threading.Event(), []

    @bg.task
    def quick(n):
        app.runs.append((n, current_task.attempt))
        return n

    @bg.task
    def slow():
        assert app.go.wait(PATIENCE)

    @bg.task(on_interrupt="fail")
    def once():
        app.runs.append("once")

    @bg.task(timeout=0.05)
    def limited():
        current_task.update(details="in time")
        return "done"

    app.tasks = {"quick": quick, "slow": slow, "once": once, "limited": limited}
    with app.app_context():
        yield app
    app.go.set()


@pytest.fixture
def parts(app, state):
    return state(app)


@pytest.fixture
def held_back(parts, monkeypatch):
    """What the runner is given to begin is not begun until the test does so."""
    given = []

    def begin(request_id):
        parts.runner.give_back()
        given.append(request_id)

    monkeypatch.setattr(parts.runner, "begin", begin)
    return given


def history(parts, request_id):
    return [event.type.value for event in parts.store.events(request_id)]


def test_where_a_thread_is_free_a_task_is_begun_when_it_is_stored(app, parts, monkeypatch):
    asked, claim = [], parts.store.claim
    monkeypatch.setattr(parts.store, "claim", lambda *args, **kwargs: asked.append(args) or claim(*args, **kwargs))
    handle = app.tasks["quick"].submit(1)

    assert handle.wait(timeout=PATIENCE) == 1
    assert asked == []
    assert history(parts, handle.request_id) == ["accepted", "started", "completed"]


def test_where_none_is_free_it_waits_for_whoever_is_first(app, parts):
    first = app.tasks["slow"].submit()
    until(lambda: parts.store.get(first.request_id).status is Status.PROCESSING)
    second = app.tasks["quick"].submit(2)

    assert parts.store.get(second.request_id).status is Status.STARTED
    app.go.set()
    assert second.wait(timeout=PATIENCE) == 2


def test_a_cancellation_reaches_it_before_it_begins(app, parts, held_back):
    handle = app.tasks["quick"].submit(1)
    handle.cancel()
    assert parts.store.get(handle.request_id).status is Status.PROCESSING
    parts.engine.run(*held_back)

    assert parts.store.get(handle.request_id).status is Status.CANCELLED
    assert app.runs == []


def test_a_cancellation_by_another_process_reaches_it_too(app, parts, held_back):
    handle = app.tasks["quick"].submit(1)
    parts.store.transition(handle.request_id, RequestCancel())
    parts.engine.run(*held_back)

    assert parts.store.get(handle.request_id).status is Status.CANCELLED


def test_its_time_runs_from_when_it_begins(app, parts, held_back):
    handle, asked = app.tasks["limited"].submit(), time.monotonic()
    until(lambda: time.monotonic() > asked + 0.1)  # longer than it may take
    parts.engine.run(*held_back)

    assert handle.wait(timeout=PATIENCE) == "done"


def test_what_nobody_begins_is_given_back_by_a_process_that_lives_on(app, parts, held_back, monkeypatch):
    monkeypatch.setattr(claims, "HELD_SECONDS", 0.05)
    handle = app.tasks["quick"].submit(1)
    until(lambda: not parts.store.get(handle.request_id).held)

    assert [one.request_id for one in parts.store.runnable(limit=9)] == [handle.request_id]
    parts.engine.run(*held_back)  # it comes after all
    assert app.runs == [(1, 2)]
    assert handle.task.status is Status.COMPLETED


@pytest.mark.parametrize("name", ["once", "quick"])
def test_a_process_that_stops_gives_back_what_has_not_begun_even_if_it_must_not_run_twice(app, parts, held_back, name):
    arguments = (1,) if name == "quick" else ()
    handle = app.tasks[name].submit(*arguments)
    parts.lifecycle.drain(0)
    task = parts.store.get(handle.request_id)

    assert not task.leased(parts.store.now())
    assert [one.request_id for one in parts.store.runnable(limit=9)] == [handle.request_id]
    assert parts.store.claim(handle.request_id, worker="next", lease=timedelta(seconds=9)).task.crashes == 0
    assert app.runs == []


@pytest.mark.parametrize("grace", [0, 2 * PATIENCE])
def test_a_process_that_stops_does_not_wait_for_what_its_runner_no_longer_begins(app, parts, monkeypatch, grace):
    monkeypatch.setattr(claims, "HELD_SECONDS", 3600)
    monkeypatch.setattr(parts.runner, "_wake", lambda looking=0: None)  # no thread has come for it yet
    handle = app.tasks["quick"].submit(1)
    assert parts.store.get(handle.request_id).held
    draining = threading.Thread(target=parts.lifecycle.drain, args=[grace], daemon=True)
    draining.start()
    draining.join(PATIENCE)

    assert not draining.is_alive()
    assert not parts.store.get(handle.request_id).held
    assert app.runs == []


def test_a_runner_that_stops_while_it_is_stored_leaves_it_to_others(app, parts, monkeypatch):
    def stopped(request_id):
        raise ShuttingDown

    monkeypatch.setattr(parts.runner, "begin", stopped)
    handle = app.tasks["quick"].submit(1)

    assert [one.request_id for one in parts.store.runnable(limit=9)] == [handle.request_id]
    assert parts.engine.running == 0


def test_what_may_have_been_stored_is_not_held_by_a_process_that_does_not_run_it(app, parts, monkeypatch):
    app.tasks["quick"].submit(0).wait(timeout=PATIENCE)
    until(lambda: parts.runner.free == 1)

    def broken(descriptor):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("flask_bgtasks.stores.sql.drivers.wal_sync.os.fsync", broken)
        with pytest.raises(Exception, match="cannot be brought to disk"):
            app.tasks["quick"].submit(1)

    waiting = parts.store.runnable(limit=9)
    assert len(waiting) == 1
    assert parts.runner.free == 1
    parts.runner.look()
    until(lambda: (1, 2) in app.runs)


def test_a_refused_task_costs_no_place(app, parts, monkeypatch):
    def refuse(*args, **kwargs):
        raise ShuttingDown

    with monkeypatch.context() as patch:
        patch.setattr(parts.store, "create", refuse)
        with pytest.raises(ShuttingDown):
            app.tasks["quick"].submit(1)

    assert parts.runner.free == 1
