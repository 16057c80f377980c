"""Runners with a queue beside the store: what a message does, and what becomes of a task whose message is lost."""

import threading
from collections import deque
from datetime import timedelta

import pytest

from flask_bgtasks import EventType, PublishingRunner, RetryLater, Status, checkpoint, current_task, hookimpl, signals
from flask_bgtasks.core.transitions.attempt import Release
from flask_bgtasks.runtime import processes
from tests.support.tasks import new_task
from tests.support.waiting import PATIENCE, until


class Post(PublishingRunner):
    """A queue whose messages the test delivers, loses and doubles."""

    def __init__(self, wake, process):
        super().__init__(wake)
        self.process = process
        self.messages = deque()
        self.away, self.tries = False, 0

    def publish(self, request_id, queue):
        self.tries += 1
        if self.away:
            raise ConnectionError("the broker is away")
        self.messages.append((request_id, queue))

    def deliver(self, count=1):
        for _ in range(count):
            self.arrived(*self.messages.popleft())

    def deliver_all(self):
        while self.messages:
            self.deliver()


class Calendar(Post):
    """One that keeps messages for later, and delivers those again that are not done with."""

    repeats = True

    def __init__(self, wake, process):
        super().__init__(wake, process)
        self.later = []

    def publish_later(self, request_id, queue, delay):
        if self.away:
            raise ConnectionError("the broker is away")
        self.later.append((request_id, queue, delay))


class Posts:
    @hookimpl
    def bgtasks_make_runner(self, name, wake, process):
        kind = {"post": Post, "calendar": Calendar}.get(name)
        return kind and kind(wake, process)


@pytest.fixture
def app(make_app, bg):
    bg.register(Posts())
    app = make_app(runner="post", sinks=[])
    app.ran = []

    @bg.task
    def draw(what):
        app.ran.append(what)
        return what

    @bg.task(priority=5)
    def urgent(what):
        app.ran.append(what)

    @bg.task(queue="images")
    def render(what):
        app.ran.append(what)

    @bg.task(max_concurrency=1)
    def alone(then=None):
        app.ran.append("alone")
        if then is not None:
            app.then()

    @bg.task(retries=1, backoff=0.001)
    def fails_once():
        app.ran.append("tried")
        if len(app.ran) == 1:
            raise ValueError("not yet")

    @app.post("/view")
    @bg.background
    def view():
        app.ran.append("view")
        return {"ok": True}

    app.draw, app.urgent, app.render, app.alone, app.fails_once = draw, urgent, render, alone, fails_once
    with app.app_context():
        yield app


@pytest.fixture
def runner(app, state):
    return state(app).runner


@pytest.fixture
def look(app, state):
    """What the look-out of a process does, once."""
    return state(app).lifecycle.recovery.look


def test_a_message_has_a_task_run(app, runner):
    handle = app.draw.submit("a tree")
    assert handle.status is Status.STARTED

    runner.deliver()

    assert handle.wait(timeout=0) == "a tree"


def test_a_message_runs_what_stands_first_not_what_it_names(app, runner):
    app.draw.submit("a tree")
    app.urgent.submit("a fire")

    runner.deliver_all()

    assert app.ran == ["a fire", "a tree"]


def test_a_message_is_about_one_queue(app, runner):
    app.draw.submit("a tree")
    app.render.submit("an image")
    (tree, image) = runner.messages

    runner.arrived(*image)
    assert app.ran == ["an image"]

    runner.arrived(*tree)
    assert app.ran == ["an image", "a tree"]


def test_the_message_of_a_cancelled_task_does_no_harm(app, runner):
    cancelled, other = app.draw.submit("a tree"), app.draw.submit("a house")
    cancelled.cancel()

    runner.deliver_all()

    assert app.ran == ["a house"]
    assert (cancelled.status, other.status) == (Status.CANCELLED, Status.COMPLETED)


def test_a_message_that_comes_twice_runs_its_task_once(app, runner):
    handle = app.draw.submit("a tree")
    runner.messages *= 3

    runner.deliver_all()

    assert (app.ran, handle.task.attempt) == (["a tree"], 1)


def test_a_message_that_comes_again_while_its_task_runs_changes_nothing(app, runner):
    app.then = lambda: runner.arrived(app.handle.request_id, "default")
    app.handle = app.alone.submit("then")

    runner.deliver()

    assert (app.ran, app.handle.status) == (["alone"], Status.COMPLETED)


def test_a_place_that_becomes_free_is_taken_though_the_messages_are_gone(app, runner):
    app.then = lambda: runner.deliver(2)  # while the first runs, the messages of the others come, and are refused
    handles = [app.alone.submit("then"), app.alone.submit(), app.alone.submit()]
    runner.deliver()
    assert app.ran == ["alone"]

    runner.deliver_all()

    assert [handle.status for handle in handles] == [Status.COMPLETED] * 3


def test_a_place_that_a_cancelled_task_leaves_is_taken(app, runner):
    def cancelled():
        runner.deliver(2)
        handles[0].cancel()
        current_task.update(details="more")

    app.then = cancelled
    handles = [app.alone.submit("then"), app.alone.submit(), app.alone.submit()]
    runner.deliver()
    runner.deliver_all()

    assert [handle.status for handle in handles] == [Status.CANCELLED, Status.COMPLETED, Status.COMPLETED]


def test_a_place_that_becomes_free_while_the_broker_is_away_is_taken_later(app, runner, look):
    def lose():
        runner.deliver(1)
        runner.away = True

    app.then = lose
    handles = [app.alone.submit("then"), app.alone.submit()]
    runner.deliver()
    runner.away = False
    assert not runner.messages

    assert look() == 1

    runner.deliver()
    assert [handle.status for handle in handles] == [Status.COMPLETED] * 2


def test_a_task_that_cannot_be_claimed_does_not_stand_in_the_way(app, runner, state, monkeypatch):
    app.draw.submit("a tree")
    broken, claims = app.urgent.submit("a fire"), state(app).engine._claims
    begin = claims.begin

    def fails(request_id):
        if request_id == broken.request_id:
            raise ValueError("what is stored of it cannot be read")
        return begin(request_id)

    monkeypatch.setattr(claims, "begin", fails)
    runner.deliver()

    assert app.ran == ["a tree"]


def test_a_worker_that_is_ended_in_the_middle_leaves_its_task_to_others(app, bg, runner, look, monkeypatch):
    ends = [SystemExit(0)]

    @bg.task
    def interrupted():
        if ends:
            raise ends.pop()
        return "done"

    handle = interrupted.submit()
    with pytest.raises(SystemExit):  # as a signal does in the main thread
        runner.deliver()
    assert handle.status is Status.PROCESSING
    monkeypatch.setattr(processes, "alive", lambda worker: False)

    assert look() == 1

    runner.deliver()
    assert handle.wait(timeout=0) == "done"


def test_a_worker_that_is_ended_while_a_checkpoint_is_stored_does_not_say_that_it_was(
    app, bg, runner, look, monkeypatch
):
    ends, made = [KeyboardInterrupt()], []

    @signals.step_finished.connect_via(app)
    def end(sender, **extra):
        if ends:
            raise ends.pop()

    @bg.task
    def interrupted():
        return checkpoint("Make", lambda: made.append("made"))

    handle = interrupted.submit()
    with pytest.raises(KeyboardInterrupt):  # as a signal does in the main thread, before the value is in the store
        runner.deliver()
    monkeypatch.setattr(processes, "alive", lambda worker: False)
    assert look() == 1
    runner.deliver()

    assert handle.status is Status.COMPLETED
    events = app.extensions["bgtasks"].store.events(handle.request_id)
    ended = [event for event in events if event.type is EventType.STEP_FINISHED]
    assert len(made) == 2
    assert [(event.attempt, event.data.get("checkpoint", False)) for event in ended] == [(1, False), (2, True)]


def test_a_task_that_cannot_be_published_is_accepted_and_published_at_the_next_look(app, runner, look):
    runner.away = True
    answer = app.test_client().post("/view", headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    assert look() == 0
    runner.away = False

    assert look() == 1

    runner.deliver_all()
    assert app.ran == ["view"]


def test_requests_do_not_wait_for_a_broker_that_is_away(app, runner, look, caplog):
    runner.away = True
    for _ in range(10):
        app.draw.submit("a tree")
    assert runner.tries == 1

    look()
    assert runner.tries == 2

    runner.away = False
    assert look() == 10
    app.draw.submit("a house")
    assert len(runner.messages) == 11
    assert [record.exc_info for record in caplog.records if record.levelname != "INFO"] == [False]


def test_a_retry_waits_in_the_store_and_is_published_when_it_is_due(app, runner, look):
    handle = app.fails_once.submit()
    runner.deliver()
    assert not runner.messages

    while not look():
        assert handle.status is Status.PROCESSING

    runner.deliver()
    assert handle.status is Status.COMPLETED


def test_a_task_that_is_opened_again_is_published(app, runner):
    handle = app.draw.submit("a tree")
    handle.cancel()
    runner.deliver()

    handle.retry()
    runner.deliver()

    assert handle.wait(timeout=0) == "a tree"


def _given_back(store, request_id):
    """Another process has begun it, and stops."""
    attempt = store.claim(request_id, worker="another", lease=timedelta(seconds=30)).task.attempt
    store.transition(request_id, Release(attempt))


def test_a_task_whose_queue_no_task_names_any_more_is_published_again(app, state, runner, look):
    """Its queue had another name when it was accepted, in an earlier release."""
    name = app.draw.submit("a tree").task.name
    store, task = state(app).store, new_task(name=name, queue="paintings")
    store.create(task, input={"args": ["a house"], "kwargs": {}})
    _given_back(store, task.request_id)
    runner.messages.clear()

    assert look() == 1
    assert list(runner.messages) == [(task.request_id, "paintings")]


def test_what_was_given_back_goes_on_in_another_process(app, runner, state, look):
    handle = app.draw.submit("a tree")
    runner.messages.clear()
    _given_back(state(app).store, handle.request_id)

    assert look() == 1

    runner.deliver()
    assert handle.task.attempt == 2


def test_a_process_that_stops_passes_a_message_on_once(app, runner):
    handle = app.draw.submit("a tree")
    message = runner.messages[0]
    runner.stop(0)

    runner.deliver()
    assert list(runner.messages) == [message]

    runner.deliver()
    assert not runner.messages
    assert handle.status is Status.STARTED


def test_a_worker_that_is_told_to_stop_gives_back_what_does_not_finish(make_app, bg, state, tmp_path):
    bg.register(Posts())
    app = make_app(runner="post", sinks=[], shutdown_grace=0.1)
    begun, go = threading.Event(), threading.Event()

    @bg.task
    def draw():
        begun.set()
        assert go.wait(PATIENCE)
        current_task.update(details="more")

    runner = state(app).runner
    runner.process.begin()
    with app.app_context():
        handle = draw.submit()
    worker = threading.Thread(target=runner.deliver)
    worker.start()
    assert begun.wait(PATIENCE)

    runner.process.stop()

    store = state(app).store
    until(lambda: store.get(handle.request_id).worker is None)
    go.set()
    worker.join(PATIENCE)
    assert store.get(handle.request_id).status is Status.PROCESSING
    assert store.get(handle.request_id).worker is None


class TestWithAQueueThatCanDoMore:
    @pytest.fixture
    def app(self, make_app, bg):
        bg.register(Posts())
        app = make_app(runner="calendar", sinks=[])
        app.tries = []

        @bg.task(retries=1)
        def fails_once():
            app.tries.append("tried")
            if len(app.tries) == 1:
                raise RetryLater("not yet", after=40)

        @bg.task
        def draw():
            app.tries.append("drawn")

        app.fails_once, app.draw = fails_once, draw
        with app.app_context():
            yield app

    def test_a_retry_is_published_for_when_it_is_due(self, app, runner):
        handle = app.fails_once.submit()
        runner.deliver()

        ((request_id, queue, delay),) = runner.later
        assert (request_id, queue) == (handle.request_id, "default")
        assert 40 <= delay < 50

    def test_a_retry_that_cannot_be_published_for_later_is_no_error(self, app, runner, caplog):
        handle = app.fails_once.submit()
        runner.away = True
        runner.deliver()

        assert handle.status is Status.PROCESSING
        assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING" and "due" in r.getMessage()] == [
            "retries are published when they are due: ConnectionError: the broker is away"
        ]
        assert [r for r in caplog.records if "runner" in r.getMessage()] == []

    def test_a_message_to_a_process_that_stops_is_left_to_the_queue(self, app, runner):
        handle = app.draw.submit()
        runner.stop(0)

        assert runner.arrived(handle.request_id, "default") is False
        assert len(runner.messages) == 1

    def test_a_task_that_cannot_be_claimed_is_not_published_again(self, app, runner, state, monkeypatch):
        handle = app.draw.submit()

        def fails(request_id):
            raise ValueError("what is stored of it cannot be read")

        with monkeypatch.context() as patched:
            patched.setattr(state(app).engine._claims, "begin", fails)
            assert runner.arrived(handle.request_id, "default") is False
        assert len(runner.messages) == 1

        assert runner.arrived(handle.request_id, "default") is True
        assert app.tries == ["drawn"]

    def test_a_message_about_a_task_that_this_process_does_not_know_comes_again(self, app, runner, state):
        known = state(app).calls._fetch
        handle = app.draw.submit()
        names = known._names
        known._names = lambda: ["another"]  # as on the instances of an older version, during a deployment

        assert runner.arrived(handle.request_id, "default") is False

        known._names = names
        assert runner.arrived(handle.request_id, "default") is True


@pytest.mark.parametrize("name", ["external", "post"])
def test_processes_that_run_nothing_themselves_look_after_the_store(make_app, bg, state, name):
    bg.register(Posts())
    app = make_app(runner=name, sinks=[])

    app.test_client().get("/tasks/health")

    assert state(app).lifecycle.recovery.thread.is_alive()
