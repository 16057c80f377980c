"""Tasks whose process died run alone for a while, so that another death proves which of them ends it."""

import threading

import pytest

from flask_bgtasks.core.model import OnInterrupt, Status
from flask_bgtasks.runners import isolation
from flask_bgtasks.runners.isolation import seconds_alone
from flask_bgtasks.runners.threads import ThreadRunner
from tests.support.tasks import T0, new_task
from tests.support.waiting import PATIENCE

HELD = {"status": Status.PROCESSING, "worker": "w", "lease_until": T0, "attempt": 1}


def task(request_id, **fields):
    return new_task(request_id, **fields)


def suspect(request_id, suspicions=3):
    return task(request_id, suspicions=suspicions)


class Queue:
    """A store's queue, and runs that take what they run out of it; each ends when it is let go."""

    def __init__(self, *tasks):
        self.tasks = list(tasks)
        self.began = []
        self.beside = {}  # how many ran when each began
        self._running = set()
        self._let_go = set()
        self._told = threading.Condition()

    def fetch(self, limit):
        with self._told:
            return self.tasks[:limit]

    def add(self, task):
        with self._told:
            self.tasks.append(task)

    def run(self, request_id):
        with self._told:
            self.tasks = [task for task in self.tasks if task.request_id != request_id]
            self.beside[request_id] = len(self._running)
            self._running.add(request_id)
            self.began.append(request_id)
            self._told.notify_all()
            self._told.wait_for(lambda: request_id in self._let_go, PATIENCE)
            self._running.discard(request_id)

    def wait_for(self, *request_ids):
        with self._told:
            assert self._told.wait_for(lambda: set(request_ids) <= set(self.began), PATIENCE), self.began

    def let_go(self, *request_ids):
        with self._told:
            self._let_go.update(request_ids)
            self._told.notify_all()


@pytest.fixture
def make():
    made = []

    def make(queue, workers=4):
        runner = ThreadRunner(queue.run, workers=workers, fetch=queue.fetch)
        made.append((runner, queue))
        return runner

    yield make
    for runner, queue in made:
        queue.let_go(*(f"{kind}{n}" for kind in "so" for n in range(10)))
        runner.stop(PATIENCE)


def test_suspects_run_one_at_a_time_and_others_after_them(make):
    queue = Queue(suspect("s1"), suspect("s2"), task("o1"), task("o2"))
    runner = make(queue)
    runner.look()
    for number, name in enumerate(["s1", "s2"], 1):
        queue.wait_for(name)
        runner.submit("o3")  # there is no place for it
        assert (queue.began, runner.free) == (["s1", "s2"][:number], 0)
        queue.let_go(name)
    queue.add(task("o3"))

    queue.wait_for("o1", "o2")

    assert (queue.beside["s1"], queue.beside["s2"]) == (0, 0)


def one_runs_and_a_suspect_waits(make):
    """And another task behind it."""
    queue = Queue(task("o1"))
    runner = make(queue)
    runner.look()
    queue.wait_for("o1")
    queue.tasks[:] = [suspect("s1"), task("o2")]
    runner.isolate("s1", seconds=64.0)
    return queue, runner


def test_a_suspect_waits_for_what_runs_and_nothing_begins_meanwhile(make):
    queue, runner = one_runs_and_a_suspect_waits(make)
    assert runner.free == 0
    queue.let_go("o1")

    queue.wait_for("s1")
    assert queue.began == ["o1", "s1"]
    queue.let_go("s1")
    queue.wait_for("o2")


def test_a_suspect_that_goes_on_for_long_holds_nobody_up(make, monkeypatch):
    monkeypatch.setattr(isolation, "FIRST_SECONDS", 0.01)
    queue = Queue(suspect("s1", 1), suspect("s2", 1), task("o1"))
    make(queue).look()

    queue.wait_for("s1", "s2", "o1")  # though none of them ends


def test_a_suspect_that_another_process_has_taken_is_waited_for_no_longer(make):
    queue, _ = one_runs_and_a_suspect_waits(make)

    queue.tasks[:] = [task("o2")]

    queue.wait_for("o2")


def test_a_suspect_whose_run_is_given_up_holds_nobody_up(make):
    queue = Queue(suspect("s1"), task("o1"))
    runner = make(queue)
    runner.look()
    queue.wait_for("s1")

    runner.give_up("s1")

    queue.wait_for("o1")


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, 0.0),
        ({**HELD, "worker": None}, 0.0),  # it was given back
        (HELD, 1.0),
        ({"crashes": 1}, 1.0),
        ({"crashes": 1, "suspicions": 1}, 8.0),
        ({**HELD, "crashes": 1, "suspicions": 1}, 64.0),
        ({"suspicions": 9}, 86_400.0),
        ({**HELD, "on_interrupt": OnInterrupt.FAIL}, 0.0),
    ],
)
def test_how_long_a_task_is_alone_grows_with_the_deaths_since_its_last_checkpoint(fields, seconds):
    assert seconds_alone(task("t", **fields)) == seconds
