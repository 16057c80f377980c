"""What every runner does, run over threads and inline."""

import threading

import pytest

from flask_bgtasks import ShuttingDown, StoreUnavailable
from flask_bgtasks.runners.inline import InlineRunner
from flask_bgtasks.runners.threads import ThreadRunner
from tests.support.tasks import new_task
from tests.support.waiting import PATIENCE, until


class Ran:
    """Records what was run, and lets a test wait for it."""

    def __init__(self):
        self.ids = []
        self._told = threading.Condition()

    def __call__(self, request_id):
        with self._told:
            self.ids.append(request_id)
            self._told.notify_all()

    def wait_for(self, count, timeout=PATIENCE):
        with self._told:
            assert self._told.wait_for(lambda: len(self.ids) >= count, timeout), self.ids


@pytest.fixture
def ran():
    return Ran()


@pytest.fixture(params=["threads", "inline"])
def make_runner(request):
    made = []

    def make(run):
        runner = ThreadRunner(run, workers=2) if request.param == "threads" else InlineRunner(run)
        made.append(runner)
        return runner

    yield make
    for runner in made:
        runner.stop(5)


@pytest.fixture
def make_threads():
    made = []

    def make(run, *, fetch=None):
        made.append(ThreadRunner(run, workers=2, fetch=fetch))
        return made[-1]

    yield make
    for runner in made:
        runner.stop(5)


def test_what_is_submitted_runs_once(make_runner, ran):
    runner = make_runner(ran)
    for n in range(50):
        runner.submit(str(n))
    ran.wait_for(50)

    assert sorted(ran.ids, key=int) == [str(n) for n in range(50)]


def test_a_run_that_raises_does_not_keep_the_next_from_running(make_runner, ran, caplog):
    def run(request_id):
        ran(request_id)
        raise RuntimeError("broken")

    runner = make_runner(run)
    for n in range(6):
        try:
            runner.submit(str(n))
        except RuntimeError:
            assert isinstance(runner, InlineRunner)
    ran.wait_for(6)

    assert len(ran.ids) == 6


def test_a_stopped_runner_refuses_work(make_runner, ran):
    runner = make_runner(ran)
    assert runner.stop(1) is True

    assert runner.draining
    with pytest.raises(ShuttingDown):
        runner.submit("late")
    assert ran.ids == []


def test_nothing_leaks_from_one_run_into_the_next(make_runner, ran):
    import contextvars

    leak = contextvars.ContextVar("leak", default="clean")
    seen = []

    def run(request_id):
        seen.append(leak.get())
        leak.set("dirty")
        ran(request_id)

    runner = make_runner(run)
    leak.set("of the submitter")
    for n in range(5):
        runner.submit(str(n))
    ran.wait_for(5)

    assert seen == ["clean"] * 5


class Gate:
    """A run that waits until it is let go."""

    def __init__(self):
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, request_id):
        self.entered.release()
        assert self.open.wait(PATIENCE)


def test_what_comes_while_all_threads_are_busy_is_picked_from_the_store_in_its_order():
    gate, ran, queue = Gate(), Ran(), ["high", "a", "b", "low"]

    def run(request_id):
        if request_id == "first":
            gate(request_id)
        else:
            queue.remove(request_id)
        ran(request_id)

    runner = ThreadRunner(run, workers=1, fetch=lambda limit: [new_task(name) for name in queue[:limit]])
    runner.submit("first")
    assert gate.entered.acquire(timeout=PATIENCE)
    for name in ("low", "a", "b", "high"):
        runner.submit(name)
    assert runner.waiting == 0  # the store has them
    assert runner.free == 0
    gate.open.set()
    ran.wait_for(5)

    assert ran.ids == ["first", "high", "a", "b", "low"]
    runner.stop(1)


def test_a_store_that_is_out_of_reach_is_asked_again_when_there_is_reason_to(caplog):
    answers = [StoreUnavailable("locked"), [new_task("a")]]
    ran, asked = Ran(), threading.Semaphore(0)

    def fetch(limit):
        asked.release()
        answer = answers.pop(0) if answers else []
        if isinstance(answer, Exception):
            raise answer
        return answer

    runner = ThreadRunner(ran, workers=1, fetch=fetch)
    runner.look()
    assert asked.acquire(timeout=PATIENCE)
    assert ran.ids == []
    runner.look()
    ran.wait_for(1)

    assert ran.ids == ["a"]
    assert "cannot look for work: locked" in caplog.text
    runner.stop(1)


def test_a_task_that_ends_its_thread_does_not_cost_the_process_a_worker(caplog):
    ran = Ran()

    def run(request_id):
        ran(request_id)
        raise SystemExit(1)

    runner = ThreadRunner(run, workers=1)
    for n in range(3):
        runner.submit(str(n))
    ran.wait_for(3)

    assert ran.ids == ["0", "1", "2"]
    runner.stop(1)


def test_a_waiting_task_can_be_forgotten_and_a_running_one_not():
    gate, order = Gate(), []

    def run(request_id):
        order.append(request_id)
        gate(request_id)

    runner = ThreadRunner(run, workers=1)
    runner.submit("runs")
    assert gate.entered.acquire(timeout=PATIENCE)
    runner.submit("waits")

    assert runner.waiting == 1
    assert runner.cancel("waits") is True
    assert runner.cancel("runs") is False
    assert runner.waiting == 0
    gate.open.set()
    assert runner.stop(10) is True
    assert order == ["runs"]


def test_stop_waits_for_what_runs_no_longer_than_the_grace():
    gate = Gate()
    runner = ThreadRunner(gate, workers=1)
    runner.submit("long")
    assert gate.entered.acquire(timeout=PATIENCE)

    assert runner.stop(0.05) is False
    gate.open.set()
    assert runner.stop(10) is True


def test_a_delayed_task_waits_without_holding_a_thread(ran):
    runner = ThreadRunner(ran, workers=1)
    runner.submit("later", delay=0.2)
    runner.submit("now")
    ran.wait_for(2)

    assert ran.ids == ["now", "later"]
    runner.stop(1)


def test_threads_are_made_on_first_need_and_not_more_than_the_workers():
    gate = Gate()
    before = set(threading.enumerate())  # of other tests; they may end meanwhile
    runner = ThreadRunner(gate, workers=3)
    assert not set(threading.enumerate()) - before
    for n in range(10):
        runner.submit(str(n))
    for _ in range(3):
        assert gate.entered.acquire(timeout=PATIENCE)

    assert len(set(threading.enumerate()) - before) == 3
    gate.open.set()
    runner.stop(10)


# -- reserved places


@pytest.fixture
def gate():
    """Holds runs until it is opened."""
    event = threading.Event()
    yield event
    event.set()


def test_no_more_places_are_reserved_than_are_free(make_threads, gate):
    runner = make_threads(lambda request_id: gate.wait(10))
    assert [runner.reserve() for _ in range(3)] == [True, True, False]
    assert runner.free == 0
    runner.give_back()

    assert runner.reserve() is True


def test_what_a_place_was_reserved_for_runs_there_once(make_threads, ran):
    runner = make_threads(ran)
    for n in range(20):
        until(runner.reserve)
        runner.begin(str(n))
    ran.wait_for(20)

    assert sorted(ran.ids, key=int) == [str(n) for n in range(20)]


def test_a_reserved_place_is_given_to_nobody_else(make_threads, ran):
    found = []
    runner = make_threads(ran, fetch=lambda limit: found)
    assert runner.reserve()
    assert runner.reserve()
    runner.submit("waits")  # it is in the store, and fetched when there is a place

    assert runner.waiting == 0
    found.append(new_task(request_id="waits"))
    runner.give_back()
    runner.begin("mine")
    ran.wait_for(2)
    assert sorted(ran.ids) == ["mine", "waits"]


def test_a_runner_that_was_stopped_meanwhile_refuses_what_has_a_place(make_threads, ran):
    runner = make_threads(ran)
    assert runner.reserve()
    runner.stop(1)

    with pytest.raises(ShuttingDown):
        runner.begin("late")
    assert runner.reserve() is False
    assert ran.ids == []


def test_a_runner_without_places_keeps_none(ran):
    runner = InlineRunner(ran)

    assert runner.reserve() is False
    runner.give_back()
    runner.begin("1")
    assert ran.ids == ["1"]
