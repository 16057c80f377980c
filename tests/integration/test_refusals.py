"""A view's own 4xx is its answer and no failure of the app; a run that asks for a login is neither."""

import logging
import pickle

import pytest
from flask import abort, request
from werkzeug.exceptions import Forbidden, Unauthorized

from flask_bgtasks import TaskFailed, TaskHandle, signals
from flask_bgtasks.core.model import Status
from flask_bgtasks.core.transitions.outside import Reopen
from flask_bgtasks.errors import LoginLost
from tests.support.waiting import PATIENCE, until

REFUSING = [400, 402, 404, 405, 406, 409, 410, 411, 412, 413, 415, 422, 423, 428, 451]
FAILING = [408, 425, 429, 500, 501, 503]


@pytest.fixture
def heard():
    """The names of the signals of ends, as they are sent."""
    names = []
    receivers = []
    for name in ("task_completed", "task_failed", "task_rejected", "task_retrying"):

        def receive(sender, name=name, **_):
            names.append(name)

        getattr(signals, name).connect(receive)
        receivers.append(receive)
    yield names
    receivers.clear()  # signals hold them weakly


def submitted(app, bg, view, *, headers=None, **options):
    """The client, and the task of a view that has run, elsewhere."""
    app.add_url_rule("/process", view_func=bg.background(name="process", **options)(view), methods=["POST"])
    client = app.test_client()
    response = client.post("/process", headers=headers)
    assert response.status_code == 202
    return client, TaskHandle(app.extensions["bgtasks"], response.headers["Task-Id"]).wait_until_done(timeout=PATIENCE)


@pytest.mark.parametrize("code", REFUSING)
@pytest.mark.parametrize("how", ["returned", "raised"])
def test_a_views_refusal_is_its_answer_and_told_apart_from_a_failure(make_app, bg, heard, caplog, code, how):
    app, calls = make_app(runner="inline"), []

    def process():
        calls.append(1)
        if how == "raised" and code not in (402, 425):
            abort(code, "no such lesson")
        return {"refused": True}, code

    with caplog.at_level(logging.INFO):
        client, task = submitted(app, bg, process, retries=3)

    document = client.get(f"/tasks/{task.request_id}").json
    assert (document["status"], document["rejected"], document["result_status"]) == ("failed", True, code)
    assert task.rejected
    assert not task.login_lost
    assert client.get(f"/tasks/{task.request_id}/result").status_code == code
    until(lambda: heard)  # a signal comes a moment after the end shows
    assert heard == ["task_rejected"]
    assert len(calls) == 1
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert client.get("/tasks/stats").json["rejected"] == 1
    last = client.get(f"/tasks/{task.request_id}/events", headers={"Accept": "application/json"}).json["events"][-1]
    assert (last["type"], last["rejected"], last["result_status"]) == ("failed", True, code)


@pytest.mark.parametrize("code", FAILING)
def test_what_may_pass_and_what_is_the_apps_fault_is_a_failure(make_app, bg, heard, code):
    client, task = submitted(make_app(runner="inline"), bg, lambda: ({}, code))

    document = client.get(f"/tasks/{task.request_id}").json
    assert (document["status"], document["rejected"], document["result_status"]) == ("failed", False, code)
    until(lambda: heard)  # a signal comes a moment after the end shows
    assert heard == ["task_failed"]
    assert client.get("/tasks/stats").json["rejected"] == 0


def test_a_completed_task_says_what_its_view_answered(make_app, bg):
    client, task = submitted(make_app(runner="inline"), bg, lambda: ({}, 201))

    document = client.get(f"/tasks/{task.request_id}").json
    assert (document["rejected"], document["result_status"]) == (False, 201)


def test_a_refusal_in_the_request_is_told_apart_as_well(make_app, bg, heard, state):
    app = make_app(endpoints=["process"])
    app.add_url_rule("/process", "process", lambda: ({}, 403), methods=["POST"])

    response = app.test_client().post("/process")

    assert response.status_code == 403
    assert state(app).store.get(response.headers["Task-Id"]).rejected
    until(lambda: heard)  # a signal comes a moment after the end shows
    assert heard == ["task_rejected"]


# -- a login that was lost


def by_session():
    abort(401)


def by_return():
    return {"error": "log in"}, 401


def by_exception():
    raise Forbidden("not you")


def by_own_error():
    raise Unauthorized(www_authenticate=None)


def by_header():
    if request.headers.get("X-Token") != "s3cret":
        abort(403)
    return {}


@pytest.mark.parametrize("view", [by_session, by_return, by_exception, by_own_error, by_header])
def test_a_run_that_asks_for_a_login_fails_loudly_and_its_answer_is_replayed_to_nobody(
    make_app, bg, heard, caplog, view
):
    with caplog.at_level(logging.ERROR, "flask_bgtasks"):
        client, task = submitted(make_app(), bg, view, retries=3, headers={"X-Token": "s3cret", "Idempotency-Key": "k"})

    assert (task.status, task.error_type, task.login_lost) == (Status.FAILED, "LoginLost", True)
    assert (task.rejected, task.result_status, task.failures) == (False, None, 0)
    for mend in ("BGTASKS_KEEP_HEADERS", "before_run", "X-Token"):
        assert mend in task.error_message
        assert mend in caplog.text
    assert "s3cret" not in caplog.text + task.error_message
    assert client.get(f"/tasks/{task.request_id}/result").status_code == 500
    until(lambda: heard)  # a signal comes a moment after the end shows
    assert heard == ["task_failed"]


def test_a_task_that_lost_its_login_runs_again_with_the_login_of_who_opens_it(make_app, bg, state):
    app = make_app(keep_headers=["X-Token"])
    _, task = submitted(app, bg, by_header)
    assert task.login_lost

    with app.test_request_context(headers={"X-Token": "s3cret"}) as context:
        private = state(app).credentials.of(context.request)
    state(app).retry(task.request_id, private=private)

    assert TaskHandle(state(app), task.request_id).wait_until_done(timeout=PATIENCE).status is Status.COMPLETED


def test_the_reopening_change_takes_a_login_with_it(make_app, bg, state):
    app = make_app(keep_headers=["X-Token"])
    _, task = submitted(app, bg, by_header)

    outcome = state(app).engine.change(task, Reopen({"headers": "of another request"}))

    assert outcome.task.status is Status.STARTED
    assert not outcome.task.login_lost


def test_who_waits_for_a_task_whose_login_was_lost_is_told_by_what_the_error_is(make_app, bg, state):
    app = make_app()
    _, task = submitted(app, bg, by_session)

    with pytest.raises(TaskFailed) as caught:
        TaskHandle(state(app), task.request_id).wait(timeout=PATIENCE)

    assert caught.value.error_type == "LoginLost"


def test_the_error_says_what_is_missing_and_survives_a_broker():
    error = pickle.loads(pickle.dumps(LoginLost("id", 401, ["Authorization", "X-Token"])))

    assert "Authorization, X-Token" in str(error)
    assert (error.request_id, error.status_code, error.dropped) == ("id", 401, ("Authorization", "X-Token"))
