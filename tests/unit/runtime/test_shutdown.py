"""Who hears of SIGTERM, and when. The signals are real, and caught by handlers of the test."""

import signal
import threading

import pytest

from flask_bgtasks.runtime.shutdown import Sigterm


@pytest.fixture
def heard():
    """What the handler that was there first has heard."""
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    yield heard
    signal.signal(signal.SIGTERM, before)


def test_whoever_had_the_signal_is_told_at_once(heard):
    begun = []
    Sigterm(lambda: begun.append(1)).install()

    signal.raise_signal(signal.SIGTERM)

    assert (begun, heard) == ([1], [signal.SIGTERM])


def test_who_would_end_the_process_is_told_when_it_is_drained(heard):
    begun = []
    sigterm = Sigterm(lambda: begun.append(1))
    sigterm.install(told_last=True)

    signal.raise_signal(signal.SIGTERM)
    assert (begun, heard) == ([1], [])
    sigterm.go()

    assert (begun, heard) == ([1], [signal.SIGTERM])


def test_a_second_signal_waits_for_nothing(heard):
    sigterm = Sigterm(lambda: None)
    sigterm.install(told_last=True)

    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)

    assert heard == [signal.SIGTERM]


def test_a_process_that_ends_by_itself_is_sent_no_signal(heard):
    sigterm = Sigterm(lambda: None)
    sigterm.install(told_last=True)

    sigterm.go()

    assert heard == []


def test_another_thread_than_the_main_one_cannot_take_it(heard):
    taken = []
    thread = threading.Thread(target=lambda: taken.append(Sigterm(lambda: None).install()))
    thread.start()
    thread.join()

    assert taken == [False]
