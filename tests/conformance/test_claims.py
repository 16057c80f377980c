"""Claims and fencing in every store: one runner at a time, and a zombie changes nothing."""

from datetime import timedelta

import pytest

from flask_bgtasks import (
    AlreadyClaimed,
    LeaseLost,
    TaskFinished,
    TaskNotFound,
)
from flask_bgtasks.core.model import Progress, Result, Status, TaskKind
from flask_bgtasks.core.transitions.attempt import Cancel, Complete, Fail, Renew, Report, Retry
from flask_bgtasks.core.transitions.outside import RequestCancel
from flask_bgtasks.stores.types import NewDelivery
from tests.support.stored_input import stored_input
from tests.support.threads import together


def test_a_claim_starts_the_next_attempt_with_the_input(bench, store):
    task = bench.create(input={"n": 1})
    attempt = bench.claim(task.request_id)

    assert (attempt.task.attempt, attempt.input) == (1, {"n": 1})
    assert attempt.task.status is Status.PROCESSING
    assert attempt.task.lease_until - attempt.task.started_at == timedelta(seconds=60)
    assert bench.history(task.request_id) == [(1, "accepted"), (2, "started")]


def test_a_task_that_someone_alive_runs_cannot_be_claimed(bench, store):
    task = bench.running()

    with pytest.raises(AlreadyClaimed) as refused:
        bench.claim(task.request_id, worker="other")
    assert (refused.value.worker, refused.value.until) == ("worker", task.lease_until)
    assert store.get(task.request_id) == task


def test_a_finished_task_cannot_be_claimed(bench, store):
    task = bench.running()
    store.transition(task.request_id, Complete(1))

    with pytest.raises(TaskFinished):
        bench.claim(task.request_id)


def test_of_many_that_race_for_a_claim_exactly_one_wins(bench, store):
    for _ in range(5):
        task = bench.create()
        results = together(8, lambda n, i=task.request_id: bench.claim(i, worker=str(n)))

        winners = [r for r in results if not isinstance(r, Exception)]
        assert len(winners) == 1
        assert all(isinstance(r, AlreadyClaimed) for r in results if isinstance(r, Exception))
        assert bench.history(task.request_id) == [(1, "accepted"), (2, "started")]


def test_an_expired_lease_is_found_and_taken_over(bench, store):
    task = bench.running()
    assert store.runnable(limit=10) == []
    bench.expire_lease(task.request_id)

    assert [found.request_id for found in store.runnable(limit=10)] == [task.request_id]
    second = bench.claim(task.request_id, worker="other")
    assert second.task.attempt == 2
    assert store.events(task.request_id)[-1].data == {"recovered": True}
    assert store.runnable(limit=10) == []


@pytest.mark.parametrize(
    "change",
    [Report(1), Complete(1, Result(b"1")), Fail(1, "no"), Cancel(1), Renew(1, timedelta(seconds=99))],
    ids=lambda change: type(change).__name__,
)
def test_a_zombie_changes_nothing_of_a_task_that_someone_else_took_over(bench, store, change):
    task = bench.running()
    bench.expire_lease(task.request_id)
    taken = bench.claim(task.request_id, worker="other").task
    history = bench.history(task.request_id)

    with pytest.raises(LeaseLost) as lost:
        store.transition(task.request_id, change, deliveries=[NewDelivery("sink")])

    assert (lost.value.attempt, lost.value.holder) == (1, 2)
    assert store.get(task.request_id) == taken
    assert bench.history(task.request_id) == history
    assert store.load_result(task.request_id) is None
    assert store.stats().deliveries_pending == 0


def test_a_renewed_lease_does_not_expire(bench, store):
    task = bench.running()
    renewed = store.renew(task.request_id, attempt=1, lease=timedelta(hours=1))

    assert renewed.lease_until > task.lease_until
    assert renewed.seq == task.seq
    assert store.get(task.request_id) == renewed


def test_a_clock_that_jumps_back_makes_no_second_runner(bench, store):
    if bench.clock is None:
        pytest.skip("needs a clock that the test moves")
    task = bench.running()
    bench.clock.advance(-3600)

    with pytest.raises(AlreadyClaimed):
        bench.claim(task.request_id)
    assert store.transition(task.request_id, Complete(1)).task.status is Status.COMPLETED


# -- changes by a caller who says what it knows of the task


def test_what_a_caller_knows_rightly_changes_nothing_about_what_is_stored(bench, store):
    known = bench.running(owner="ada", input={"private": {"login": "ada"}}, kind=TaskKind.VIEW)
    progress = Progress(store.now(), 1, 40.0, "Outline", 1, 3, None, 9.0)
    after = store.save_progress(
        known.request_id, attempt=1, progress=progress, entries=[bench.output("a")], known=known
    )
    assert store.get(known.request_id) == after
    assert (after.seq, after.progress.percentage, after.owner) == (4, 40.0, "ada")

    done = store.transition(known.request_id, Complete(1, Result(b"{}")), known=after, deliveries=[NewDelivery("s")])
    assert store.get(known.request_id) == done.task
    assert (done.task.status, done.task.progress.step) == (Status.COMPLETED, "Outline")
    assert store.load_result(known.request_id) == Result(b"{}")
    assert [seq for seq, _ in bench.history(known.request_id)] == [1, 2, 3, 4, 5]
    assert stored_input(store, known.request_id) == {}
    assert [one.seq for one in store.due_deliveries("s", worker="w", lease=timedelta(seconds=9), limit=9)] == [5]


def test_who_knows_less_than_the_store_changes_the_task_as_it_is(bench, store):
    known = bench.running()
    store.save_progress(known.request_id, attempt=1, progress=None, entries=[bench.output("a"), bench.output("b")])
    store.transition(known.request_id, RequestCancel())

    after = store.save_progress(known.request_id, attempt=1, progress=None, entries=[bench.output("c")], known=known)
    assert after.seq == 6
    assert after.cancel_requested_at is not None
    outcome = store.transition(known.request_id, Retry(1, "no", timedelta(0), 3), known=known)
    assert outcome.task.status is Status.CANCELLED  # not tried again
    assert [seq for seq, _ in bench.history(known.request_id)] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("change", [Complete(1), Fail(1, "no"), Cancel(1), Report(1), Retry(1, "no", timedelta(0), 3)])
def test_who_was_overtaken_changes_nothing_whatever_it_knows(bench, store, change):
    known = bench.running()
    bench.expire_lease(known.request_id)
    now = bench.claim(known.request_id).task

    with pytest.raises(LeaseLost):
        store.transition(known.request_id, change, known=known)
    assert store.get(known.request_id) == now
    assert bench.history(known.request_id)[-1] == (now.seq, "started")


def test_who_ends_a_task_that_has_ended_changes_nothing_whatever_it_knows(bench, store):
    known = bench.running()
    done = store.transition(known.request_id, Complete(1)).task

    with pytest.raises(LeaseLost):
        store.transition(known.request_id, Fail(1, "late"), known=known)
    assert store.get(known.request_id) == done


def test_of_many_that_end_an_attempt_they_know_one_does(bench, store):
    known = bench.running()
    results = together(8, lambda _: store.transition(known.request_id, Complete(1), known=known))

    assert sum(not isinstance(one, Exception) for one in results) == 1
    assert bench.history(known.request_id)[-1] == (3, "completed")


def test_an_erased_task_is_not_found_whatever_is_known_of_it(bench, store):
    known = bench.running()
    store.transition(known.request_id, Complete(1))
    store.delete(known.request_id)

    with pytest.raises(TaskNotFound):
        store.transition(known.request_id, Complete(1), known=known)
