"""Functions decorated with ``@task``: submitted, waited for, cancelled, retried."""

import threading

import pytest
from flask import Response, current_app

from flask_bgtasks import (
    NotSerializable,
    Status,
    TaskCancelled,
    TaskFailed,
    TaskHandle,
    TransitionRefused,
    UnknownTask,
    WaitTimeout,
    current_task,
    step,
)
from tests.support.waiting import PATIENCE

STORES = ["memory://", "sqlite:///tasks.sqlite3"]


@pytest.mark.parametrize("store", STORES)
def test_a_function_is_submitted_and_still_callable(make_app, bg, store):
    app = make_app(store=store)

    @bg.task
    def generate(text, *, times=1):
        return {"text": text * times, "app": current_app.name}

    with app.app_context():
        handle = generate.submit("ab", times=2, owner="ada", user_token="device")

        assert handle.wait(timeout=PATIENCE) == {"text": "abab", "app": "app_under_test"}
        assert (handle.task.owner, handle.task.name) == ("ada", "generate")
        assert handle.status is Status.COMPLETED
        assert generate("x") == {"text": "x", "app": "app_under_test"}


@pytest.mark.parametrize("body", [b'{"n": 1}\n', b'{"n": 1}\n{"n": 2}\n'], ids=["one line", "two lines"])
def test_json_lines_are_waited_for_as_bytes(make_app, bg, state, body):
    app = make_app()

    @app.post("/rows")
    @bg.background
    def rows():
        return Response(body, content_type="application/jsonl")

    accepted = app.test_client().post("/rows")

    assert TaskHandle(state(app), accepted.headers["Task-Id"]).wait(timeout=PATIENCE) == body
    shown = app.test_client().get(accepted.location).get_json()
    assert (shown["status"], shown["result_data"]) == ("completed", None)


def test_async_functions_run(make_app, bg):
    app = make_app()

    @bg.task
    async def generate(n):
        return n + 1

    with app.app_context():
        assert generate.submit(1).wait(timeout=PATIENCE) == 2


def test_an_argument_that_is_not_json_is_named(make_app, bg):
    app = make_app()

    @bg.task
    def generate(text, when=None): ...

    with app.app_context(), pytest.raises(NotSerializable, match=r"argument 'when' is not JSON"):
        generate.submit("x", when=object())


def test_a_value_that_is_not_json_fails_the_task_with_the_mend(make_app, bg):
    app = make_app()

    @bg.task
    def generate():
        return {1, 2}

    with app.app_context(), pytest.raises(TaskFailed, match=r"result of type set is not JSON and not a response"):
        generate.submit().wait(timeout=PATIENCE)


def test_a_task_that_fails_says_why(make_app, bg):
    app = make_app()

    @bg.task
    def generate():
        raise LookupError("no such model")

    with app.app_context(), pytest.raises(TaskFailed, match="no such model") as failed:
        generate.submit().wait(timeout=PATIENCE)
    assert failed.value.error_type == "LookupError"


def test_a_running_task_is_cancelled_at_its_next_report_and_can_be_retried(make_app, bg):
    app, entered, go_on = make_app(), threading.Semaphore(0), threading.Event()

    @bg.task
    def generate():
        with step("Long"):
            entered.release()
            assert go_on.wait(PATIENCE)
            current_task.update(details="…")
            return current_task.attempt

    with app.app_context():
        handle = generate.submit()
        assert entered.acquire(timeout=PATIENCE)
        with pytest.raises(WaitTimeout):
            handle.wait(timeout=0.01)
        assert handle.cancel().cancel_requested_at is not None
        go_on.set()
        with pytest.raises(TaskCancelled):
            handle.wait(timeout=PATIENCE)

        assert bg.retry(handle.request_id).status is Status.STARTED
        assert handle.wait(timeout=PATIENCE) == 2
        with pytest.raises(TransitionRefused):
            handle.retry()


def test_a_task_that_waits_is_cancelled_at_once_and_never_runs(make_app, bg):
    app, entered, go_on, ran = make_app(workers=1), threading.Semaphore(0), threading.Event(), []

    @bg.task
    def block():
        entered.release()
        assert go_on.wait(PATIENCE)

    @bg.task
    def other():
        ran.append(1)

    with app.app_context():
        blocker = block.submit()
        assert entered.acquire(timeout=PATIENCE)
        waiting = other.submit()
        assert bg.cancel(waiting.request_id).status is Status.CANCELLED
        go_on.set()
        blocker.wait(timeout=PATIENCE)
        third = other.submit()
        third.wait(timeout=PATIENCE)

    assert ran == [1]


def test_submit_by_a_name_that_is_not_known_suggests_one_that_is(make_app, bg):
    app = make_app()

    @bg.task
    def generate(): ...

    with app.app_context(), pytest.raises(UnknownTask, match="Did you mean 'generate'"):
        bg.submit("genrate")


def test_a_stored_task_whose_function_is_gone_fails_with_the_mend(make_app, bg, state):
    app = make_app()

    @bg.task(name="renamed")
    def generate(): ...

    old = generate.definition.__class__(
        name="old", kind=generate.definition.kind, function=None, options=generate.definition.options
    )
    with app.app_context():
        request_id = state(app).submit(old, {"args": [], "kwargs": {}}, run=False).task.request_id
        state(app).engine.run(request_id)

        with pytest.raises(TaskFailed, match=r"no task is called 'old' here.*keep its old name with name='old'"):
            TaskHandle(state(app), request_id).wait(timeout=PATIENCE)
