"""What is published again: what nobody seems to have been told of, by one process, less and less often."""

from datetime import timedelta

import pytest

from flask_bgtasks.core.transitions.attempt import Release, Retry
from flask_bgtasks.errors import ShuttingDown
from flask_bgtasks.execution.finding import sweep
from flask_bgtasks.execution.finding.fetcher import Fetcher
from flask_bgtasks.execution.finding.sweep import PATIENCE, Sweep
from flask_bgtasks.stores.memory.store import MemoryStore
from tests.support.stores import FakeClock
from tests.support.tasks import new_task

LEASE = timedelta(seconds=60)
NOBODY = "nobody@elsewhere:1:1"


@pytest.fixture
def clock(monkeypatch):
    """The store's time, and this process's own: they pass together."""
    clock = FakeClock()
    monkeypatch.setattr(sweep.time, "monotonic", lambda: clock.now.timestamp())
    return clock


@pytest.fixture
def store(clock):
    return MemoryStore(clock=clock)


class Broker:
    """Takes what is published, unless it is away."""

    def __init__(self):
        self.ids, self.error = [], None

    def __call__(self, task):
        if self.error is not None:
            raise self.error
        self.ids.append(task.request_id)


@pytest.fixture
def broker():
    return Broker()


@pytest.fixture
def process(store, broker):
    """Makes what one process has of it."""
    fetch = {"names": lambda: ["process"], "most_running": dict, "lease": LEASE.total_seconds()}
    return lambda: Sweep(store, Fetcher(store, **fetch), broker, queues=lambda: {"default", "images"})


def _accept(store, request_id="one", **fields):
    store.create(new_task(request_id, at=store.now(), **fields), input={})


def _run(store, request_id="one", worker=NOBODY):
    return store.claim(request_id, worker=worker, lease=LEASE).task.attempt


def test_a_task_is_left_to_the_call_of_its_acceptance_for_a_while(store, clock, broker, process):
    look = process()
    _accept(store)
    clock.advance(PATIENCE.total_seconds() - 1)
    assert look() == 0

    clock.advance(1)
    assert look() == 1

    assert broker.ids == ["one"]


def test_it_is_published_again_ever_more_rarely(store, clock, broker, process):
    look = process()
    _accept(store)
    seconds = []
    for second in range(1, 1000):
        clock.advance(1)
        if look():
            seconds.append(second)

    assert seconds == [30, 60, 120, 240, 480, 960]


def test_one_process_publishes_it(store, clock, broker, process):
    looks = [process() for _ in range(5)]
    _accept(store)
    clock.advance(PATIENCE.total_seconds())

    assert sum(look() for look in looks) == 1


def test_what_runs_or_is_over_is_not_published(store, clock, broker, process):
    look = process()
    _accept(store)
    _run(store)
    clock.advance(PATIENCE.total_seconds())

    assert look() == 0


def test_what_a_dead_process_had_is_published_at_once(store, clock, broker, process):
    look = process()
    _accept(store)
    _run(store)
    clock.advance(LEASE.total_seconds())

    assert look() == 1


def test_what_was_given_back_is_published_at_once(store, broker, process):
    look = process()
    _accept(store)
    store.transition("one", Release(_run(store)))

    assert look() == 1


def test_a_retry_is_published_when_it_is_due(store, clock, broker, process):
    look = process()
    _accept(store)
    store.transition("one", Retry(_run(store), "not yet", timedelta(seconds=5), 3))
    clock.advance(4)
    assert look() == 0

    clock.advance(1)
    assert look() == 1


def test_what_could_not_be_published_when_it_was_accepted_is_at_the_next_look(store, broker, process):
    look = process()
    _accept(store)
    look.unheard("one", ConnectionError("refused"))

    assert look() == 1
    assert look() == 0


def test_a_broker_that_is_away_is_asked_once_a_look_and_loses_nothing(store, clock, broker, process, caplog):
    looks = [process(), process()]
    for number in range(10):
        _accept(store, f"{number}")
    clock.advance(PATIENCE.total_seconds())
    broker.error = ConnectionError("refused")

    assert [look() for look in looks] == [0, 0]
    broker.error = None

    assert sum(look() for look in looks) == 10
    assert sorted(broker.ids) == [f"{number}" for number in range(10)]
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "tasks cannot be published, and wait in the store: ConnectionError: refused"
    ] * 2


def test_a_process_that_stops_leaves_it_to_the_others(store, clock, broker, process):
    stopping, other = process(), process()
    _accept(store)
    clock.advance(PATIENCE.total_seconds())
    broker.error = ShuttingDown()
    with pytest.raises(ShuttingDown):
        stopping()
    broker.error = None

    assert other() == 1


def test_the_head_of_the_queue_is_looked_at(store, clock, broker, process, monkeypatch):
    monkeypatch.setattr(sweep, "HEAD", 3)
    look = process()
    for number in range(10):
        _accept(store, f"{number}")
        clock.advance(0.001)
    clock.advance(PATIENCE.total_seconds())

    assert look() == 3

    assert broker.ids == ["0", "1", "2"]
    for request_id in broker.ids:
        _run(store, request_id)
    assert look() == 3
    assert broker.ids[3:] == ["3", "4", "5"]


def test_each_retry_is_published_when_it_is_due(store, clock, broker, process):
    looks = [process(), process()]
    _accept(store)
    clock.advance(3600)  # so long it has waited until it is published
    looks[0]()
    for number in range(1, 4):
        store.transition("one", Retry(_run(store), "not yet", timedelta(seconds=1), 5))
        clock.advance(1)

        assert sum(look() for look in looks) == 1, number


def test_a_queue_that_nobody_serves_hides_no_other(store, clock, broker, process, monkeypatch):
    monkeypatch.setattr(sweep, "HEAD", 3)
    look = process()
    for number in range(10):
        _accept(store, f"image {number}", queue="images")
    _accept(store)
    clock.advance(PATIENCE.total_seconds())

    look()

    assert "one" in broker.ids


def test_what_could_not_be_published_is_found_behind_all_others(store, clock, broker, process, monkeypatch):
    monkeypatch.setattr(sweep, "HEAD", 3)
    look = process()
    for number in range(10):
        _accept(store, f"{number}")
        clock.advance(0.001)
    look.unheard("9", ConnectionError("refused"))

    assert look() == 1

    assert broker.ids == ["9"]


def test_what_was_begun_or_erased_meanwhile_is_not_remembered(store, broker, process):
    look = process()
    _accept(store)
    look.unheard("one", ConnectionError("refused"))
    look.unheard("erased", ConnectionError("refused"))
    _run(store)

    assert look() == 0

    assert look._unheard == {}
