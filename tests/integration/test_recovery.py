"""The look-out of a process: what it finds in the store, what it hands over, and when it begins and ends."""

import subprocess
import sys
import threading
from datetime import timedelta

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, Status, StoreUnavailable, checkpoint, current_task
from flask_bgtasks.core.model import EventType
from flask_bgtasks.execution.finding import recovery as recovery_module
from flask_bgtasks.runtime import processes
from flask_bgtasks.stores.types import Settlement
from tests.support.waiting import PATIENCE, until


@pytest.fixture
def dead():
    """The name of a process of this host that is dead."""
    command = [sys.executable, "-c", "from flask_bgtasks.runtime import processes; print(processes.me())"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def make(tmp_path):
    """Makes an app on one shared store, with the same tasks in each."""
    made = []

    def build(**settings):
        app, bgtasks = Flask("app", instance_path=str(tmp_path)), BackgroundTasks()
        ran = app.ran = []

        @bgtasks.task
        def work(n):
            ran.append((n, current_task.attempt))
            return checkpoint("Double", lambda: 2 * n)

        app.work = work
        bgtasks.init_app(app, **{"sinks": ["memory"], "progress_interval": 0.02, **settings})
        app.state = app.extensions["bgtasks"]
        made.append(app)
        return app

    yield build
    for app in made:
        app.state.close(grace=PATIENCE)


def submit(app, *args):
    with app.app_context():
        return app.work.submit(*args)


def test_what_nobody_has_begun_is_found_and_run(make):
    web, other = make(runner="external"), make()
    handle = submit(web, 3)

    assert other.state.lifecycle.recovery.look() == 1

    assert handle.wait(timeout=PATIENCE) == 6
    assert (web.ran, other.ran) == ([], [(3, 1)])


def test_what_a_dead_process_held_is_found_at_once_though_its_lease_holds(make, dead, caplog):
    web, other = make(runner="external"), make()
    handle = submit(web, 3)
    web.state.store.claim(handle.request_id, worker=dead, lease=timedelta(hours=1))

    other.state.lifecycle.recovery.look()

    assert handle.wait(timeout=PATIENCE) == 6
    assert other.ran == [(3, 2)]
    with web.app_context():
        (begun,) = [e for e in web.state.store.events(handle.request_id) if e.type is EventType.STARTED and e.data]
    assert begun.data == {"recovered": True}
    assert "died with 1 task; recovering" in caplog.text


def test_what_a_living_process_holds_is_left_alone(make):
    web, other = make(runner="external"), make()
    handle = submit(web, 3)
    web.state.store.claim(handle.request_id, worker=processes.me(), lease=timedelta(hours=1))

    assert other.state.lifecycle.recovery.look() == 0

    assert handle.task.attempt == 1


def test_no_more_is_taken_than_there_are_free_threads(make):
    web, other = make(runner="external"), make(workers=2)
    for n in range(5):
        submit(web, n)
    gate = threading.Event()
    other.state.runner._run = lambda request_id: gate.wait(PATIENCE)

    assert other.state.lifecycle.recovery.look() == 2
    assert other.state.lifecycle.recovery.look() == 0
    gate.set()


def test_a_process_that_stops_takes_nothing_more(make):
    web, other = make(runner="external"), make()
    handle = submit(web, 3)
    other.state.lifecycle.drain(0)

    assert other.state.lifecycle.recovery.look() == 0
    assert handle.status is Status.STARTED


def test_a_process_that_runs_each_task_where_it_is_submitted_does_not_look_out(make):
    app = make(runner="inline")

    app.state.lifecycle.start()

    assert not app.state.lifecycle.recovery.thread.is_alive()


def test_it_begins_with_the_first_request_where_the_server_is_not_known(make):
    web, other = make(runner="external"), make()
    handle = submit(web, 3)
    assert not other.state.lifecycle.recovery.thread.is_alive()

    other.test_client().get("/tasks/health")

    assert handle.wait(timeout=PATIENCE) == 6


def test_it_begins_where_the_app_says_so(make):
    web, other = make(runner="external"), make()
    handle = submit(web, 3)

    other.state.extension.start(other)

    assert handle.wait(timeout=PATIENCE) == 6


def test_it_erases_what_is_over(make, monkeypatch):
    monkeypatch.setattr(recovery_module, "PURGE_SECONDS", 0.01)
    app = make()
    store = app.state.store
    handle = submit(app, 1)
    handle.wait(timeout=PATIENCE)
    now = store.now() + timedelta(days=15)
    monkeypatch.setattr(store._database, "_clock", lambda: now)
    store.close()  # connections keep their clock

    app.state.lifecycle.start()

    until(lambda: store.stats().by_status == {})


def test_a_store_that_is_out_of_reach_does_not_end_it(make, monkeypatch, caplog):
    monkeypatch.setattr(recovery_module, "LOOK_SECONDS", 0.01)
    web, other = make(runner="external"), make()
    handle = submit(web, 3)
    answers = [StoreUnavailable("locked"), RuntimeError("a defect")]
    workers = other.state.store.workers

    def unreliable():
        if answers:
            raise answers.pop(0)
        return workers()

    monkeypatch.setattr(other.state.store, "workers", unreliable)
    other.state.lifecycle.start()

    assert handle.wait(timeout=PATIENCE) == 6
    assert "cannot look for lost work: locked" in caplog.text
    assert "looking for lost work failed" in caplog.text


def test_leases_that_are_given_back_at_the_end_of_the_grace_period_are_taken_up_elsewhere(make):
    first, second = make(), make()
    entered, gate = threading.Event(), threading.Event()

    @first.state.extension.task(name="long")
    def long():
        entered.set()
        assert gate.wait(PATIENCE)
        return current_task.attempt

    second.state.extension.task(name="long")(lambda: current_task.attempt)
    with first.app_context():
        handle = long.submit()
    assert entered.wait(PATIENCE)

    first.state.lifecycle.drain(0)
    assert (handle.task.worker, handle.task.crashes) == (None, 0)
    second.state.lifecycle.recovery.look()

    assert handle.wait(timeout=PATIENCE) == 2
    gate.set()


def test_leases_are_given_back_where_no_thread_can_be_begun_any_more(make, monkeypatch):
    """As at the end of an interpreter, from Python 3.12 on."""
    app, entered, gate = make(), threading.Event(), threading.Event()

    @app.state.extension.task(name="long")
    def long():
        entered.set()
        assert gate.wait(PATIENCE)

    def refuse(thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with app.app_context():
        handle = long.submit()
    assert entered.wait(PATIENCE)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        app.state.lifecycle.drain(0)

    assert (handle.task.worker, handle.task.crashes) == (None, 0)
    gate.set()


def test_dead_letters_are_listed_and_replayed_by_commands(make):
    app = make(runner="external")
    store = app.state.store
    submit(app, 1)
    until(lambda: store.stats().deliveries_pending == 0)
    store.add_delivery(app.state.deliveries._for_event[0], request_id=None)
    letters = until(lambda: store.dead_deliveries())  # it names no task: it can never succeed
    runner = app.test_cli_runner()

    listed = runner.invoke(args=["bgtasks", "dead"])
    refused = runner.invoke(args=["bgtasks", "replay"])
    replayed = runner.invoke(args=["bgtasks", "replay", str(letters[0].id)])
    store.settle_delivery(letters[0], Settlement(dead=True, error="again"))
    everything = runner.invoke(args=["bgtasks", "replay", "--sink", "memory"])

    assert "memory" in listed.output
    assert "the delivery names no task" in listed.output
    assert refused.exit_code == 2
    assert replayed.output.startswith("replayed 1 delivery;")
    assert everything.exit_code == 0


def test_what_a_request_runs_itself_is_not_taken_from_it(make, monkeypatch):
    app, other = make(), make()
    threads = []
    store, create = app.state.store, app.state.store.create

    def create_and_look(*args, **kwargs):
        made = create(*args, **kwargs)
        assert other.state.lifecycle.recovery.look() == 0  # in the moment before the request claims it
        return made

    monkeypatch.setattr(store, "create", create_and_look)
    for each in (app, other):
        bgtasks = each.state.extension

        @each.post("/plain")
        @bgtasks.background(name="plain", respond="prefer")
        def plain():
            threads.append(threading.current_thread())
            return "answered", 200, {"X-Own": "kept"}

    response = app.test_client().post("/plain")

    assert (response.status_code, response.headers["X-Own"]) == (200, "kept")
    assert threads == [threading.current_thread()]


def test_one_look_is_enough_for_more_tasks_than_there_are_threads(make):
    web, other = make(runner="external"), make(workers=2)
    handles = [submit(web, n) for n in range(20)]

    other.state.lifecycle.recovery.look()

    assert [handle.wait(timeout=PATIENCE) for handle in handles] == [2 * n for n in range(20)]


def test_what_was_given_back_is_resumed_on_as_many_threads_as_there_are(make):
    first, second = make(workers=8), make(workers=8)
    entered, side_by_side = threading.Barrier(9), threading.Barrier(8)
    gate = threading.Event()

    @first.state.extension.task(name="long")
    def begun():
        entered.wait(PATIENCE)
        assert gate.wait(PATIENCE)

    second.state.extension.task(name="long")(lambda: side_by_side.wait(PATIENCE) >= 0)
    submit(second, 0).wait(timeout=PATIENCE)  # one thread is idle
    with first.app_context():
        handles = [begun.submit() for _ in range(8)]
    entered.wait(PATIENCE)
    first.state.lifecycle.drain(0)

    second.state.lifecycle.recovery.look()

    assert [handle.wait(timeout=PATIENCE) for handle in handles] == [True] * 8
    gate.set()
