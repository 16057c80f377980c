"""A thread of the library is missed only where it should be there and is not."""

import threading

import pytest

from flask_bgtasks.runtime.background_thread import BackgroundThread
from tests.support.waiting import PATIENCE


@pytest.fixture
def ended():
    event = threading.Event()
    yield event
    event.set()


def test_a_thread_that_is_being_begun_is_not_missing(monkeypatch, ended):
    begun, go_on, really_start = threading.Event(), threading.Event(), threading.Thread.start

    def start_slowly(thread):  # as a tracer's, which does something of its own first
        if thread.name == "bgtasks-slow":
            begun.set()
            go_on.wait(PATIENCE)
        really_start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_slowly)
    thread, answers = BackgroundThread("bgtasks-slow", lambda closed: ended.wait(PATIENCE)), []
    starter = threading.Thread(target=thread.start)
    starter.start()
    begun.wait(PATIENCE)
    asker = threading.Thread(target=lambda: answers.append(thread.missing))
    asker.start()
    go_on.set()
    starter.join(PATIENCE)
    asker.join(PATIENCE)

    assert answers == [False]
    assert thread.is_alive()


def test_a_thread_that_was_never_begun_or_was_closed_is_not_missing(ended):
    thread = BackgroundThread("bgtasks-test", lambda closed: ended.wait(PATIENCE))
    assert not thread.missing
    thread.start()
    assert not thread.missing
    thread.close(wake=ended.set, timeout=PATIENCE)
    assert not thread.missing


def test_a_thread_that_cannot_be_begun_is_missing_until_it_is(monkeypatch, ended):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    thread = BackgroundThread("bgtasks-test", lambda closed: ended.wait(PATIENCE))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        thread.start()
        assert thread.missing
    thread.start()
    assert not thread.missing
