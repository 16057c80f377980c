"""Which tasks may begin here: what the store says, and what only this process knows."""

from datetime import timedelta

import pytest

from flask_bgtasks.core.model import Status
from flask_bgtasks.execution.finding import fetcher
from flask_bgtasks.runtime import processes
from tests.support.tasks import T0, new_task


class Asked:
    """A store that gives what it was told to, and remembers how it was asked."""

    def __init__(self, *tasks):
        self.tasks = list(tasks)
        self.asked = None

    def runnable(self, **how):
        self.asked = how
        return self.tasks[: how["limit"]]


def lost(worker, until=T0):
    return new_task("id", status=Status.PROCESSING, worker=worker, lease_until=until, attempt=1)


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(fetcher.time, "monotonic", lambda: now[0])
    return now


def make_fetcher(store, **options):
    settings = {"names": lambda: {"n"}, "most_running": lambda: {"n": 2}, "lease": 30.0}
    return fetcher.Fetcher(store, **{**settings, **options})


def test_the_store_is_asked_for_what_this_process_can_run():
    store = Asked()

    make_fetcher(store, queues=["images"])(7)

    assert store.asked == {"limit": 7, "names": {"n"}, "queues": ["images"], "most_running": {"n": 2}}


def test_what_waits_is_given_as_it_comes():
    waiting = new_task("id")

    assert make_fetcher(Asked(waiting))(1) == [waiting]


@pytest.mark.parametrize("alive", [False, None])
def test_a_task_whose_process_is_dead_or_unknown_is_given_at_once(monkeypatch, alive):
    monkeypatch.setattr(processes, "alive", lambda worker: alive)
    task = lost("w")

    assert make_fetcher(Asked(task))(1) == [task]


def test_a_living_process_has_time_to_renew_what_a_clock_took_from_it(clock):
    store = Asked(lost(processes.me()))
    fetch = make_fetcher(store, lease=30.0)

    assert fetch(1) == []
    clock[0] += 10.9  # a third of the lease, and a second, are not over
    assert fetch(1) == []
    store.tasks = [lost(processes.me(), T0 + timedelta(seconds=1))]  # it was renewed, and the clock jumped again
    clock[0] += 1
    assert fetch(1) == []
    clock[0] += 11
    assert fetch(1) == store.tasks


def test_what_waits_is_given_though_what_is_not_believed_to_be_lost_stands_before_it(clock):
    waiting = new_task("other")
    fetch = make_fetcher(Asked(lost(processes.me()), waiting))

    assert fetch(1) == []
    assert fetch(1) == [waiting]
