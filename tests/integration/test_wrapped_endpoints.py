"""Existing views, made tasks by ``endpoints=[…]``: they answer as before."""

import pytest
from flask import request, session

from flask_bgtasks import (
    ConfigurationError,
    Status,
)


def test_an_untouched_view_answers_as_before_and_is_a_stored_task(make_app, state):
    app = make_app(endpoints=["process"])

    @app.post("/process")
    def process():
        return {"heard": request.get_json()["input_text"]}, 201, {"X-Own": "kept"}

    response = app.test_client().post("/process", json={"input_text": "hi"})

    assert (response.status_code, response.get_json()) == (201, {"heard": "hi"})
    assert response.headers["X-Own"] == "kept"
    task = state(app).store.get(response.headers["Task-Id"])
    assert (task.name, task.status) == ("process", Status.COMPLETED)
    again = app.test_client().get(response.headers["Content-Location"])
    assert (again.status_code, again.data, again.content_type) == (201, response.data, response.content_type)


@pytest.mark.parametrize("before", [True, False], ids=["registered before init_app", "after it"])
def test_a_view_is_wrapped_whenever_it_was_registered(make_app, bg, before):
    app = make_app(init=False)

    def process():
        return "done"

    if before:
        app.add_url_rule("/process", view_func=process, methods=["POST"])
    bg.init_app(app, store="memory://", endpoints=["process"])
    if not before:
        app.add_url_rule("/process", view_func=process, methods=["POST"])

    assert "Task-Id" in app.test_client().post("/process").headers


def test_an_endpoint_that_no_view_has_is_an_error_that_lists_what_there_is(make_app):
    app = make_app(endpoints=["proces"])
    app.testing = True

    @app.post("/process")
    def process():
        return "done"

    with pytest.raises(
        ConfigurationError, match=r"no view has the endpoint 'proces'. Did you mean 'process'.*Known here: .*process"
    ):
        app.test_client().post("/process")


def test_the_form_that_a_view_shows_is_not_a_task(make_app):
    app = make_app(endpoints=["process"])

    @app.route("/process", methods=["GET", "POST"])
    def process():
        return request.method

    client = app.test_client()
    assert "Task-Id" not in client.get("/process").headers
    assert "Task-Id" not in client.options("/process").headers
    assert "Task-Id" in client.post("/process").headers


def test_a_view_that_only_reads_is_a_task_when_it_is_named(make_app):
    app = make_app(endpoints=["render"])

    @app.get("/render")
    def render():
        return "picture"

    client = app.test_client()
    assert client.get("/render").headers["Task-Id"]
    assert "Task-Id" not in client.head("/render").headers


def test_the_views_own_exception_reaches_a_test_as_before(make_app):
    app = make_app(endpoints=["process"])
    app.testing = True

    @app.post("/process")
    def process():
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        app.test_client().post("/process")


def test_the_session_of_a_client_that_waits_is_kept(make_app):
    app = make_app(endpoints=["process"])

    @app.post("/process")
    def process():
        session["count"] = session.get("count", 0) + 1
        return str(session["count"])

    client = app.test_client()
    assert [client.post("/process").data for _ in range(3)] == [b"1", b"2", b"3"]
