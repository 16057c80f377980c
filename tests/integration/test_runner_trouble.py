"""A runner that raises when a task is stored already: nobody is told that the task was refused, and it is run."""

import threading

import pytest

from flask_bgtasks import ShuttingDown, Status, TaskFailed
from tests.support.tasks import new_task
from tests.support.waiting import PATIENCE, until

ERRORS = [ShuttingDown(), ConnectionError("the broker is away"), SystemError("a bug")]


@pytest.fixture
def app(make_app, bg, tmp_path):
    app = make_app(store=f"sqlite:///{tmp_path}/tasks.sqlite3", runner="threads", workers=1, sinks=[])

    @app.post("/view")
    @bg.background
    def view():
        return {"text": "a lesson"}

    @bg.task
    def double(n):
        return 2 * n

    @bg.task
    def fails_once(runs=[]):  # noqa: B006 - counted in it
        runs.append(1)
        if len(runs) == 1:
            raise ValueError("not yet")

    app.double, app.fails_once = double, fails_once
    return app


@pytest.fixture
def parts(app, state):
    return state(app)


@pytest.fixture
def breaks(parts, monkeypatch):
    """Has a method of the runner raise the first time that this thread calls it; the look-out calls it too."""

    def break_(name, error):
        method, calls, caller = getattr(parts.runner, name), [], threading.current_thread()

        def broken(*args, **kwargs):
            if calls or threading.current_thread() is not caller:
                return method(*args, **kwargs)
            calls.append(args)
            if name == "begin":
                parts.runner.give_back()
            raise error

        if name == "submit":  # no thread is free for a task when it is stored
            monkeypatch.setattr(parts.runner, "reserve", lambda: False)
        monkeypatch.setattr(parts.runner, name, broken)
        return calls

    return break_


@pytest.fixture
def logged(caplog):
    return lambda: [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", ["submit", "begin"])
def test_a_request_is_accepted_and_its_task_found_in_the_store(app, parts, breaks, logged, name, error):
    calls = breaks(name, error)
    answer = app.test_client().post("/view", headers={"Prefer": "respond-async"})

    assert answer.status_code == 202
    assert calls[0] == (answer.json["request_id"],)
    until(lambda: parts.store.get(answer.json["request_id"]).status is Status.COMPLETED)
    told = [] if isinstance(error, ShuttingDown) else [f"the runner failed with task {answer.json['request_id']}"]
    assert [line.partition(",")[0] for line in logged()] == told


def test_a_function_is_submitted_and_its_task_found_in_the_store(app, breaks):
    breaks("submit", ConnectionError("the broker is away"))
    app.test_client().get("/")  # with its first request a process begins to look out
    with app.app_context():
        assert app.double.submit(21).wait(timeout=PATIENCE) == 42


def test_a_task_that_is_opened_again_is_found_in_the_store(app, parts, breaks):
    with app.app_context():
        handle = app.fails_once.submit()
        with pytest.raises(TaskFailed):
            handle.wait(timeout=PATIENCE)
    breaks("submit", ConnectionError("the broker is away"))
    answer = app.test_client().post(f"/tasks/{handle.request_id}/retry")

    assert answer.status_code == 202, answer.text
    until(lambda: parts.store.get(handle.request_id).status is Status.COMPLETED)


def test_a_cancellation_is_not_refused_by_a_runner_that_cannot_forget(app, parts, breaks, logged):
    waiting = new_task(name="double")
    parts.store.create(waiting, input={"args": [1], "kwargs": {}})
    breaks("cancel", ConnectionError("the broker is away"))
    answer = app.test_client().post(f"/tasks/{waiting.request_id}/cancel")

    assert answer.status_code == 200, answer.text
    assert parts.store.get(waiting.request_id).status is Status.CANCELLED
    assert logged() == [f"the runner cannot forget task {waiting.request_id}, which is cancelled"]
