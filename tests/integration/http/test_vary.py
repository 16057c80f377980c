"""The mark by which a client knows the app's own answer: on whatever the app says to a request with ``Prefer``."""

import pytest
from flask import Flask, abort, jsonify, redirect

from flask_bgtasks import BackgroundTasks

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def client():
    app = Flask("app_under_test")
    bgtasks = BackgroundTasks()

    def guard(name, refused):
        @bgtasks.background(name=name)
        def work():
            return {}

        app.add_url_rule(f"/{name}", name, lambda: refused() or work(), methods=["POST"])

    guard("abort", lambda: abort(403))
    guard("json", lambda: (jsonify(error="no"), 403))
    guard("login", lambda: redirect("/"))

    @app.post("/checked/")
    @bgtasks.background(validate=lambda: abort(422, "too short"))
    def checked():
        return {}

    @app.post("/open")
    @bgtasks.background
    def opened():
        return {}

    bgtasks.init_app(app, store="memory://", runner="inline")
    return app.test_client()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/abort", 403),  # a guard above the task
        ("/json", 403),
        ("/login", 302),
        ("/checked/", 422),
        ("/checked", 308),  # Flask's own redirect to the address with the slash
        ("/nowhere", 404),
        ("/static/x", 405),
        ("/open", 202),
    ],
)
def test_whatever_the_app_answers_to_a_submission_is_marked(client, path, status):
    answer = client.post(path, json={}, headers=ASYNC)

    assert (answer.status_code, "Prefer" in answer.vary) == (status, True)


def test_who_asks_for_nothing_finds_no_mark_on_what_is_not_the_librarys(client):
    assert "Prefer" not in client.post("/abort", json={}).vary
    assert "Prefer" not in client.get("/nowhere").vary
