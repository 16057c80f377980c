"""What is lost of announcements is found by polling, and they come back."""

import ctypes
import signal

import pytest

from flask_bgtasks.announcements import exchange as exchange_module
from flask_bgtasks.core.transitions.attempt import Complete
from tests.support.announcing import held, stream, submit
from tests.support.waiting import until


def test_without_announcements_polls_go_on_and_they_come_back(carrier, two, make_polls_rare, monkeypatch, caplog):
    monkeypatch.setattr(exchange_module, "MAX_PAUSE_SECONDS", 0.2)
    web, other = two()

    carrier.go_away()
    until(lambda: not web.state.exchange.holds() and not other.state.exchange.holds())
    assert "event: completed" in stream(web, submit(web, 1))
    carrier.come_back()
    until(lambda: web.state.exchange.holds() and other.state.exchange.holds())

    assert "announcements between processes are lost, they poll" in caplog.text
    make_polls_rare()
    assert "event: completed" in stream(web, submit(web, 2))


def test_a_stream_that_is_open_goes_on_by_polls_where_announcements_are_lost(carrier, two):
    web, other = two()
    task = held(other, 1)
    with web.state.watcher.follow([task.request_id]) as following:
        carrier.go_away()
        until(lambda: not web.state.exchange.holds())

        other.state.store.transition(task.request_id, Complete(1))

        until(lambda: following.wait(1) and following.task(task.request_id).done)


def test_a_server_that_falls_silent_is_not_relied_on(redis, make, tmp_path, monkeypatch):
    pytest.importorskip("redis")
    monkeypatch.setattr(exchange_module, "PROOF_SECONDS", 0.1)
    monkeypatch.setattr(exchange_module, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr("flask_bgtasks.announcements.redis.ANSWER_SECONDS", 0.5)
    app = make(f"sqlite:///{tmp_path}/tasks.sqlite3", redis.url)
    until(app.state.exchange.holds)

    redis._process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: not app.state.exchange.holds())
    finally:
        redis._process.send_signal(signal.SIGCONT)

    until(app.state.exchange.holds)


def test_a_thread_that_died_is_begun_again_and_hears_what_there_is(two, monkeypatch):
    monkeypatch.setattr(exchange_module, "PROOF_SECONDS", 0.1)
    web, _ = two()
    thread = web.state.exchange.thread._thread
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))

    until(lambda: web.state.exchange._held_until == float("-inf") or not thread.is_alive())

    until(web.state.exchange.holds)
