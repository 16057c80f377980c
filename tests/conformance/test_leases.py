"""Who runs what: the queue, leases and their end, checkpoints, dead letters. Run over every store."""

import contextlib
import threading
from datetime import timedelta

import pytest

from flask_bgtasks import AtCapacity, LeaseLost, Status, StoreUnavailable
from flask_bgtasks.core.model import Checkpoint, Entry, EventType, OnInterrupt, Progress, Result, TaskKind
from flask_bgtasks.core.transitions.attempt import Cancel, Complete, Expire, Fail, Release, Renew, Report, Retry
from flask_bgtasks.core.transitions.outside import RequestCancel
from flask_bgtasks.stores.base import PRIVATE
from flask_bgtasks.stores.memory.store import MemoryStore
from flask_bgtasks.stores.sql import SqlStore
from flask_bgtasks.stores.types import Limits, NewDelivery, Settlement

LEASE = timedelta(seconds=60)
NOW = timedelta(0)
SINK = [NewDelivery("sink")]


def ids(tasks):
    return [task.request_id for task in tasks]


@pytest.fixture
def runnable(store):
    return lambda **how: ids(store.runnable(limit=how.pop("limit", 100), **how))


# -- the queue -----------------------------------------------------------------------------------------------------


def test_what_waits_comes_in_order_of_arrival_and_no_more_than_was_asked_for(bench, runnable):
    waiting = [bench.create().request_id for _ in range(5)]

    assert runnable() == waiting
    assert runnable(limit=2) == waiting[:2]


def test_what_has_begun_comes_before_what_has_not(bench, store, runnable):
    waiting = bench.create().request_id
    lost, released, again = (bench.running().request_id for _ in range(3))
    bench.running()
    store.transition(released, Release(1))
    store.transition(again, Retry(1, "no", NOW, 3))
    store.transition(lost, Expire(1))

    assert sorted(runnable()[:3]) == sorted([lost, released, again])
    assert runnable()[3:] == [waiting]


def test_only_the_names_and_queues_that_were_asked_for_are_given(bench, store, runnable):
    a = bench.create(name="a", queue="x").request_id
    b = bench.create(name="b", queue="y").request_id
    lost = bench.running(name="a", queue="y").request_id
    store.transition(lost, Expire(1))

    assert runnable(names=["a"]) == [lost, a]
    assert runnable(names=["a", "b"], queues=["y"]) == [lost, b]
    assert runnable(names=[]) == []
    assert runnable(names=["c"]) == []


def test_tracked_code_is_never_begun_but_ended_by_whoever_finds_it_lost(bench, store, runnable):
    bench.create(kind=TaskKind.TRACKED, name="import")
    lost = bench.running(kind=TaskKind.TRACKED, name="import").request_id
    assert runnable() == []
    store.transition(lost, Expire(1))

    assert runnable(names=["other"]) == [lost]
    ended = bench.claim(lost).task
    assert (ended.status, ended.error_type) == (Status.FAILED, "Interrupted")


def test_a_wait_is_kept_until_it_is_over(bench, store, runnable):
    task = bench.running()
    store.transition(task.request_id, Retry(1, "busy", timedelta(hours=1), 3))

    assert runnable() == []
    assert store.get(task.request_id).retry_at is not None
    bench.expire_lease(task.request_id)
    assert runnable() == [task.request_id]
    assert bench.claim(task.request_id).task.attempt == 2


def test_no_more_run_at_once_than_may(bench, store, runnable):
    most = {"narrow": 2}
    waiting = [bench.create(name="narrow").request_id for _ in range(4)]
    other = bench.create(name="other").request_id
    for request_id in waiting[:2]:
        store.claim(request_id, worker="w", lease=LEASE, most_running=most)

    assert runnable(most_running=most) == [other]
    with pytest.raises(AtCapacity, match="2 tasks called 'narrow' already running"):
        store.claim(waiting[2], worker="w", lease=LEASE, most_running=most)
    store.transition(waiting[0], Complete(1))
    assert runnable(most_running=most) == [*waiting[2:], other]
    store.claim(waiting[2], worker="w", lease=LEASE, most_running=most)


def test_of_many_who_claim_at_once_no_more_win_than_may(bench, store):
    waiting = [bench.create(name="narrow").request_id for _ in range(12)]
    start, won = threading.Barrier(len(waiting)), []

    def claim(request_id):
        start.wait(10)
        with contextlib.suppress(AtCapacity):
            won.append(store.claim(request_id, worker="w", lease=LEASE, most_running={"narrow": 3}))

    threads = [threading.Thread(target=claim, args=(request_id,)) for request_id in waiting]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(won) == 3


# -- leases --------------------------------------------------------------------------------------------------------


def test_the_processes_that_hold_something_are_known(bench, store):
    task = bench.create(deliveries=SINK)
    bench.claim(task.request_id, worker="runs")
    store.due_deliveries("sink", worker="delivers", lease=LEASE)
    gone = bench.create().request_id
    bench.claim(gone, worker="released")
    store.transition(gone, Release(1))

    assert sorted(store.workers()) == ["delivers", "runs"]


def test_when_the_next_lease_or_pause_ends_is_known(bench, store):
    bench.create()
    assert store.next_due() is None

    running, again = bench.running().request_id, bench.running().request_id
    assert 50 < store.next_due() <= LEASE.total_seconds()
    store.transition(again, Retry(1, "no", timedelta(seconds=20), 3))
    assert 10 < store.next_due() <= 20
    store.transition(again, RequestCancel())
    assert 50 < store.next_due() <= LEASE.total_seconds()

    store.transition(running, Complete(1))
    assert store.next_due() is None


def test_the_leases_of_a_dead_process_end_and_nobody_elses(bench, store, runnable):
    first, second = (bench.create(deliveries=SINK).request_id for _ in range(2))
    bench.claim(first, worker="dead")
    bench.claim(second, worker="alive")
    assert len(store.due_deliveries("sink", worker="dead", lease=LEASE)) == 2

    assert store.expire_leases("dead") == 1

    assert runnable() == [first]
    assert store.workers() == ["alive"]
    assert len(store.due_deliveries("sink", worker="alive", lease=LEASE)) == 2
    assert store.expire_leases("dead") == 0


WRITES = [
    Report(1),
    Complete(1, Result(b"1")),
    Fail(1, "no"),
    Cancel(1),
    Renew(1, LEASE),
    Retry(1, "no", NOW, 3),
    Release(1),
    Expire(1),
    Report(1, checkpoint=Checkpoint("k", {}, b"1")),
]


@pytest.mark.parametrize("write", WRITES, ids=lambda change: type(change).__name__)
@pytest.mark.parametrize("given_up", [Release(1), Retry(1, "no", NOW, 3)], ids=["released", "retrying"])
def test_an_attempt_that_gave_its_task_back_writes_nothing_more(bench, store, given_up, write):
    request_id = bench.running().request_id
    store.transition(request_id, given_up)
    before = store.get(request_id)

    with pytest.raises(LeaseLost):
        store.transition(request_id, write, deliveries=SINK)

    assert store.get(request_id) == before
    assert store.load_checkpoints(request_id) == {}


def crash(bench, request_id):
    bench.store.transition(request_id, Expire(bench.store.get(request_id).attempt))
    return bench.claim(request_id).task


def test_a_task_that_kills_its_process_again_and_again_fails_with_a_message_that_says_so(bench, store):
    request_id = bench.running(max_attempts=3).request_id

    assert [crash(bench, request_id).crashes for _ in range(2)] == [1, 2]
    ended = crash(bench, request_id)

    assert (ended.status, ended.attempt, ended.error_type) == (Status.FAILED, 3, "Interrupted")
    assert "died in 3 attempts of 3 (max_attempts)" in ended.error_message
    assert store.events(request_id)[-1].type is EventType.FAILED


def test_attempts_that_were_given_back_do_not_count_as_deaths(bench, store):
    request_id = bench.running(max_attempts=1).request_id
    for attempt in range(1, 6):
        store.transition(request_id, Release(attempt))
        bench.claim(request_id)

    assert store.get(request_id).crashes == 0
    assert store.get(request_id).attempt == 6


def test_a_task_that_is_not_to_run_again_fails_when_its_process_died(bench):
    request_id = bench.running(on_interrupt=OnInterrupt.FAIL).request_id

    ended = crash(bench, request_id)

    assert ended.status is Status.FAILED
    assert "on_interrupt='fail'" in ended.error_message


def test_a_lost_task_that_was_to_be_cancelled_is_cancelled(bench, store):
    request_id = bench.running().request_id
    store.transition(request_id, RequestCancel())

    assert crash(bench, request_id).status is Status.CANCELLED


def test_what_a_lost_task_owes_at_its_end_is_recorded_with_it(bench, store):
    request_id = bench.running(max_attempts=1).request_id
    store.transition(request_id, Expire(1))

    store.claim(
        request_id,
        worker="w",
        lease=LEASE,
        deliveries=lambda outcome: SINK * 2 if outcome.task.status is Status.FAILED else (),
    )

    assert store.stats().deliveries_pending == 2


# -- checkpoints ---------------------------------------------------------------------------------------------------


def save(store, request_id, key, body=b"[1,[]]", attempt=1):
    made = Checkpoint(key, {"path": [key]}, body)
    entries = [Entry(EventType.STEP_FINISHED, store.now(), {"path": [key], "checkpoint": True})]
    progress = Progress(store.now(), attempt, 10.0)
    store.save_checkpoint(request_id, attempt=attempt, checkpoint=made, progress=progress, entries=entries)
    return made


def test_a_checkpoint_is_stored_with_its_event_and_given_back(bench, store):
    request_id = bench.running().request_id
    other = bench.running().request_id

    saved = [save(store, request_id, key) for key in ("a", "b")]
    save(store, other, "c")

    assert store.load_checkpoints(request_id) == {made.key: made for made in saved}
    assert [event.type.value for event in store.events(request_id)[2:]] == ["step_finished", "progress"] * 2


def test_a_claim_brings_what_the_task_is_run_with(bench, store):
    request_id = bench.create(input={"a": 1, PRIVATE: {"user": "ada"}}).request_id
    first = bench.claim(request_id)
    saved = [save(store, request_id, key) for key in ("a", "b")]
    store.transition(request_id, Release(1))

    second = bench.claim(request_id)

    assert (first.task.attempt, dict(first.checkpoints)) == (1, {})
    assert (second.task.attempt, dict(second.checkpoints)) == (2, {made.key: made for made in saved})
    assert first.input == second.input == {"a": 1, PRIVATE: {"user": "ada"}}


def test_a_claim_whose_input_cannot_be_read_is_none(bench, store, monkeypatch):
    if isinstance(store, MemoryStore):
        pytest.skip("nothing of it can be out of reach")
    request_id = bench.create().request_id

    def out_of_reach(*arguments):
        raise StoreUnavailable("gone")

    with monkeypatch.context() as broken:
        broken.setattr(store, "_input" if isinstance(store, SqlStore) else "_load_input", out_of_reach)
        with pytest.raises(StoreUnavailable):
            bench.claim(request_id)

    assert store.get(request_id).status is Status.STARTED
    assert bench.claim(request_id).task.attempt == 1


def test_a_checkpoint_that_is_stored_again_takes_the_place_of_the_first(bench, store):
    request_id = bench.running().request_id
    save(store, request_id, "a")

    second = save(store, request_id, "a", b"[2,[]]")

    assert store.load_checkpoints(request_id) == {"a": second}


def test_a_zombies_checkpoint_is_refused(bench, store):
    request_id = bench.running().request_id
    crash(bench, request_id)

    with pytest.raises(LeaseLost):
        save(store, request_id, "a", attempt=1)

    assert store.load_checkpoints(request_id) == {}


def test_checkpoints_outlive_attempts_and_end_with_their_task(bench, store):
    kept, dropped, deleted = (bench.running().request_id for _ in range(3))
    for request_id in (kept, dropped, deleted):
        save(store, request_id, "a")
    crash(bench, kept)
    store.transition(dropped, Complete(1, Result(b"1"), drop_checkpoints=True))
    store.transition(deleted, Fail(1, "no"))
    assert list(store.load_checkpoints(deleted)) == ["a"]
    store.delete(deleted)

    assert list(store.load_checkpoints(kept)) == ["a"]
    assert store.load_checkpoints(dropped) == {}
    assert store.load_checkpoints(deleted) == {}
    assert store.load_result(dropped).body == b"1"


# -- dead letters --------------------------------------------------------------------------------------------------


def test_dead_letters_are_listed_by_sink_and_delivered_after_all(bench, store):
    for sink in ("a", "b", "a"):
        bench.create(deliveries=[NewDelivery(sink)])
        [letter] = store.due_deliveries(sink, worker="w", lease=LEASE)
        store.settle_delivery(letter, Settlement(dead=True, error="never"))
    letters = store.dead_deliveries(sink="a")

    assert [letter.error for letter in letters] == ["never", "never"]
    assert len(store.dead_deliveries()) == 3
    assert store.due_deliveries("a", worker="w", lease=LEASE) == []
    assert store.replay_deliveries([letters[0].id, 10**6]) == 1
    [again] = store.due_deliveries("a", worker="w", lease=LEASE)
    assert (again.id, again.tries, again.dead, again.error) == (letters[0].id, 0, False, None)
    assert store.replay_deliveries([again.id]) == 0  # it is not dead


# -- fairness ------------------------------------------------------------------------------------------------------


def test_somebodys_thousand_do_not_hold_up_somebody_elses_first(bench, runnable):
    limits = Limits(max_queued=10_000, max_queued_per_owner=2_000)
    many = [bench.create(owner="ada", limits=limits).request_id for _ in range(100)]
    first = bench.create(owner="bob", limits=limits).request_id
    second = bench.create(owner="bob", limits=limits).request_id

    order = runnable(limit=200)

    assert order.index(first) == 1
    assert order.index(second) == 3
    assert order[0] == many[0]


def test_higher_priorities_come_first_and_equal_ones_in_order(bench, runnable):
    low = bench.create(priority=-1).request_id
    a, b = (bench.create().request_id for _ in range(2))
    high = bench.create(priority=1).request_id

    assert runnable() == [high, a, b, low]


def test_a_low_priority_does_not_starve(bench, runnable):
    if bench.clock is None:
        pytest.skip("needs a clock that the test moves")
    low = bench.create(priority=-3).request_id
    bench.clock.advance(29 * 60)
    early = bench.create().request_id
    bench.clock.advance(2 * 60)
    late = bench.create().request_id

    assert runnable() == [early, low, late]
