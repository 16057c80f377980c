"""Trouble that lasts is said once a minute, however often it is met."""

import logging
import threading
import time

import pytest

from flask_bgtasks import current_task, step
from flask_bgtasks.runtime import log_lines
from flask_bgtasks.runtime.log_lines import Recurring
from tests.support.waiting import PATIENCE

log = logging.getLogger("flask_bgtasks")


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(log_lines, "time", clock)
    return clock


def test_it_is_said_at_once_then_once_a_minute_with_how_often_it_came_and_when_it_is_over(clock, caplog):
    caplog.set_level(logging.INFO, "flask_bgtasks")
    trouble = Recurring(log)
    for _ in range(200):
        trouble.note("%s is down", "it")
        clock.now += 0.5
    trouble.over("it is back")
    trouble.over("it is back")

    assert [record.getMessage() for record in caplog.records] == [
        "it is down",
        "it is down (and 119 more times since the last such line)",
        "it is back",
    ]


def test_what_comes_back_after_it_was_over_is_said_at_once(clock, caplog):
    trouble = Recurring(log)
    trouble.note("down")
    trouble.over("back")
    trouble.note("down")

    assert [record.getMessage() for record in caplog.records] == ["down", "down"]


def test_a_store_that_is_away_is_said_once_by_each_who_meets_it(make_app, bg, tmp_path, caplog):
    path = tmp_path / "tasks.sqlite3"
    app = make_app(store=f"sqlite:///{path}", sinks=["memory"])
    begun, met, go_on = threading.Event(), [], threading.Event()
    original = log_lines.Recurring.note

    @bg.task
    def work():
        begun.set()
        with step("Draw"):
            while not go_on.is_set():
                current_task.update(details=str(time.monotonic()))
                time.sleep(0.001)

    def counted(self, message, *args, **kwargs):
        met.append(message)
        original(self, message, *args, **kwargs)

    app.extensions["bgtasks"].lifecycle.start()
    with app.app_context(), pytest.MonkeyPatch.context() as patched:
        patched.setattr(log_lines.Recurring, "note", counted)
        handle = work.submit()
        assert begun.wait(PATIENCE)
        path.rename(tmp_path / "away")
        deadline = time.monotonic() + 20
        while sum(message.startswith("progress of task") for message in met) < 10:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (tmp_path / "away").rename(path)
        go_on.set()
        handle.wait(timeout=PATIENCE)

    assert sum("is not stored yet" in record.message for record in caplog.records) == 1
