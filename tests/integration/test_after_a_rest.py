"""What a process that has done this before does for one more: no thread begun, nothing imported, nothing opened."""

import sqlite3
import sys
import threading

import pytest

from tests.support.waiting import PATIENCE


@pytest.fixture
def app(make_app, bg, tmp_path):
    app = make_app(store=f"sqlite:///{tmp_path}/tasks.sqlite3", runner="threads", workers=2, sinks=["memory"])

    @bg.task
    def double(n):
        return 2 * n

    @app.post("/view")
    @bg.background
    def view():
        return {"text": "a lesson"}

    app.double = double
    return app


@pytest.fixture
def begun(monkeypatch):
    """What was begun or opened so far: names of threads, and of files."""
    seen = []
    start, connect = threading.Thread.start, sqlite3.connect

    def recorded_start(thread):
        seen.append(thread.name)
        start(thread)

    def recorded_connect(path, **options):
        seen.append(path)
        return connect(path, **options)

    monkeypatch.setattr(threading.Thread, "start", recorded_start)
    monkeypatch.setattr(sqlite3, "connect", recorded_connect)
    return seen


def run_function(app):
    with app.app_context():
        assert app.double.submit(21).wait(timeout=PATIENCE) == 42


def answer_view(app):
    assert app.test_client().post("/view", headers={"Prefer": "wait=60"}).json == {"text": "a lesson"}


def follow_task(app):
    answer = app.test_client().post("/view", headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    assert b"completed" in app.test_client().get(f"/tasks/{answer.json['request_id']}/events").data


@pytest.mark.parametrize("work", [run_function, answer_view, follow_task])
def test_the_next_one_starts_no_thread_and_opens_and_imports_nothing(app, begun, work):
    work(app)
    assert begun
    for _ in range(10):  # until both threads of the runner are there, and as many readers as ever read at once
        begun.clear()
        imported = set(sys.modules)
        work(app)
        if not begun:
            break

    assert begun == []
    assert set(sys.modules) - imported == set()
