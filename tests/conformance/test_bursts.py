"""A burst runs on as many threads as there are: N runs that wait for each other end only if they are side by side."""

import threading

import pytest

from flask_bgtasks.runners.threads import ThreadRunner
from tests.support.tasks import new_task
from tests.support.waiting import PATIENCE

THREADS = 8


class SideBySide:
    """A run that ends when so many are under way at once; says which ended so."""

    def __init__(self, parties):
        self._barrier = threading.Barrier(parties)
        self.met = threading.Semaphore(0)

    def __call__(self, request_id):
        if request_id == "first":
            return
        try:
            self._barrier.wait(PATIENCE)
        except threading.BrokenBarrierError:
            return
        self.met.release()


def all_met(run, count):
    return all(run.met.acquire(timeout=PATIENCE) for _ in range(count))


@pytest.fixture
def make():
    made = []

    def make(run, fetch=None):
        runner = ThreadRunner(run, workers=THREADS, fetch=fetch)
        made.append(runner)
        return runner

    yield make
    for runner in made:
        runner.stop(PATIENCE)


def idle(runner, count=1):
    """Wait until so many threads have nothing to do."""
    with runner._lock:
        threads = runner._idle_threads
    pause = threading.Event()
    while threads < count:
        pause.wait(0.002)
        with runner._lock:
            threads = runner._idle_threads


def test_a_burst_that_meets_one_idle_thread_runs_on_as_many_as_there_are(make):
    run = SideBySide(THREADS)
    runner = make(run)
    runner.submit("first")
    idle(runner)

    for n in range(THREADS):
        runner.submit(str(n))

    assert all_met(run, THREADS)


def test_what_is_picked_by_one_idle_thread_runs_on_as_many_as_there_are(make):
    run, queue = SideBySide(THREADS), []

    def fetch(limit):
        found, queue[:] = queue[:limit], queue[limit:]
        return found

    runner = make(run, fetch)
    runner.submit("first")
    idle(runner)

    queue.extend(new_task(str(n)) for n in range(THREADS))
    runner.look()

    assert all_met(run, THREADS)


def test_pauses_that_end_at_once_are_followed_by_as_many_runs_as_there_are_threads(make):
    run = SideBySide(THREADS)
    runner = make(run)

    for n in range(THREADS):
        runner.submit(str(n), delay=0.05)

    assert all_met(run, THREADS)


def test_a_runner_that_has_no_thread_yet_looks_for_work(make):
    run, queue = SideBySide(THREADS), [new_task(str(n)) for n in range(THREADS)]

    def fetch(limit):
        found, queue[:] = queue[:limit], queue[limit:]
        return found

    make(run, fetch).look()

    assert all_met(run, THREADS)
