"""``track_request`` and the explicit calls: code that runs where it stands is a task too."""

import uuid

import pytest
from flask import request

from flask_bgtasks import (
    ConfigurationError,
    Status,
    TransitionRefused,
    current_task,
    step,
)
from flask_bgtasks.core.definitions import TrackedOptions, ViewOptions
from tests.support.waiting import PATIENCE

STORES = ["memory://", "sqlite:///tasks.sqlite3"]


def test_code_that_runs_where_it_stands_is_recorded(make_app, bg, state):
    app = make_app()
    with app.app_context():
        with bg.track_request("process", owner="ada", steps=["Read", "Write"], notify="ready") as task:
            with step("Read"):
                assert bg.get(task.request_id).status is Status.PROCESSING
            task.set_result({"n": 1})
        done = bg.get(task.request_id)

        assert done.wait(timeout=PATIENCE) == {"n": 1}
        sink = state(app).plugins.get("memory")
        assert sink.wait_for(lambda s: s.notifications)[0].title == "ready"


def test_a_tracked_block_that_raises_is_a_failed_task_and_the_exception_goes_on(make_app, bg):
    app = make_app()
    with app.app_context():
        with pytest.raises(ZeroDivisionError), bg.track_request("process") as task:
            _ = 1 / 0
        failed = bg.get(task.request_id).task

    assert (failed.status, failed.error_message) == (Status.FAILED, "division by zero")


@pytest.mark.parametrize("store", STORES)
def test_a_task_can_be_told_by_hand(make_app, bg, store):
    app, given = make_app(store=store), str(uuid.uuid4())
    with app.app_context():
        with bg.track_request("process", request_id=given) as task:
            assert task.request_id == given
            progress = bg.update_progress(given, "Write", 2, 4, "section 1").progress
            assert (progress.step, progress.step_number, progress.percentage) == ("Write", 2, 25.0)
            bg.update_status(given, "completed", {"blocks": []})
        done = bg.get(given)

        assert done.wait(timeout=PATIENCE) == {"blocks": []}
        with pytest.raises(TransitionRefused):
            bg.update_status(given, "processing")
        with pytest.raises(ValueError, match="one of started, processing"):
            bg.update_status(given, "finished")


def test_failure_by_hand_keeps_its_message(make_app, bg):
    app = make_app()
    with app.app_context():
        with bg.track_request("process") as task:
            bg.update_status(task.request_id, "failed", error_message="model overloaded")
        failed = bg.get(task.request_id).task

    assert (failed.status, failed.error_message) == (Status.FAILED, "model overloaded")


@pytest.mark.parametrize(("number", "total"), [(0, 4), (5, 4), (1, 0)])
def test_a_step_number_outside_its_total_is_refused(make_app, bg, number, total):
    app = make_app()
    with app.app_context(), bg.track_request("process") as task, pytest.raises(ValueError, match="counts from 1"):
        bg.update_progress(task.request_id, "Write", number, total)


def test_an_id_that_no_task_can_have_is_refused(make_app, bg):
    app = make_app()
    refused = pytest.raises(ConfigurationError, match="expected a UUID in lower case")
    with app.app_context(), refused, bg.track_request("process", request_id="42"):
        pytest.fail("was recorded")


def test_a_push_by_hand_is_sent_by_the_sinks(make_app, bg, state):
    app = make_app()
    with app.app_context():
        assert bg.send_push("device", "Title", "Body", {"n": 1}) == 1
        (sent,) = state(app).plugins.get("memory").wait_for(lambda s: s.notifications)

    assert (sent.user_token, sent.title, sent.body, sent.data) == ("device", "Title", "Body", {"n": "1"})


def test_a_tracked_request_cannot_be_retried(make_app, bg):
    app = make_app()
    with app.app_context():
        with pytest.raises(KeyError), bg.track_request("process") as task:
            raise KeyError("x")
        with pytest.raises(TransitionRefused, match="cannot be run by the library"):
            bg.retry(task.request_id)


def test_a_task_that_a_task_submits_belongs_to_the_same_owner(make_app, bg, finished, state):
    app, children = make_app(), []

    @bg.owner_loader
    def owner():
        return request.headers["Authorization"]  # not there in a run: it is not stored

    @bg.task
    def part():
        return 1

    @app.post("/process")
    @bg.background
    def process():
        children.append(part.submit().request_id)
        return {}

    accepted = app.test_client().post("/process", headers={"Authorization": "ada"})

    assert finished(app, accepted).status is Status.COMPLETED
    assert state(app).store.get(children[0]).owner == "ada"


def test_a_tracked_block_inside_a_task_leaves_the_task_as_it_was(make_app, bg):
    app = make_app()

    @bg.task
    def outer():
        mine = current_task.request_id
        with step("Outer"), bg.track_request("inner") as inner, step("Inner"):
            assert current_task.request_id == inner.request_id != mine
        return current_task.request_id == mine

    with app.app_context():
        assert outer.submit().wait(timeout=PATIENCE) is True


NOT_OF_BLOCKS = sorted(ViewOptions.__annotations__.keys() - {"name", *TrackedOptions.__annotations__})


@pytest.mark.parametrize("option", NOT_OF_BLOCKS)
def test_an_option_that_is_for_functions_or_views_is_refused(make_app, bg, option):
    refused = pytest.raises(TypeError, match=f"track_request takes no {option}=")
    with make_app().app_context(), refused, bg.track_request("process", **{option: None}):
        pytest.fail("it runs")
