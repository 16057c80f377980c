"""To whom the death of a process is charged: to a task that was alone in it, and to none of several."""

from datetime import timedelta

import pytest

from flask_bgtasks import Status
from flask_bgtasks.core.model import Checkpoint
from flask_bgtasks.core.transitions.attempt import MAX_SUSPICIONS, Release

SPAN = timedelta(seconds=60)


@pytest.fixture
def died(bench):
    """Has a process claim tasks and die; then others claim them, one after the other, as named."""
    workers = iter(f"w{n}" for n in range(1000))

    def die(*tasks, before=lambda: None):
        worker = next(workers)
        for task in tasks:
            bench.claim(task.request_id, worker=worker)
        before()
        for task in tasks:
            bench.expire_lease(task.request_id)
        return [bench.claim_and_give_back(task.request_id, worker=next(workers)) for task in tasks]

    def claim_and_give_back(request_id, *, worker):
        claimed = bench.claim(request_id, worker=worker).task
        if not claimed.done:
            bench.store.transition(request_id, Release(claimed.attempt))
        return claimed

    bench.claim_and_give_back = claim_and_give_back
    return die


def figures(tasks):
    return [(task.crashes, task.suspicions) for task in tasks]


def test_the_death_of_a_process_is_charged_to_a_task_that_was_alone_in_it(bench, died):
    assert figures(died(bench.create())) == [(1, 0)]


def test_the_death_of_a_process_is_charged_to_none_of_the_tasks_that_ran_in_it(bench, died):
    assert figures(died(*(bench.create() for _ in range(4)))) == [(0, 1)] * 4


def test_innocent_tasks_outlive_any_number_of_attempts_beside_one_that_kills(bench, died):
    killer, innocent = bench.create(max_attempts=2), bench.create(max_attempts=2)

    for _ in range(4):
        died(killer, innocent)

    assert died(innocent)[0].status is Status.PROCESSING


def test_what_ended_or_was_given_back_before_its_process_died_was_not_there_when_it_did(bench, store, died):
    alone, gone = bench.create(), bench.create()
    worker = "w"
    bench.claim(alone.request_id, worker=worker)
    bench.claim(gone.request_id, worker=worker)
    store.transition(gone.request_id, Release(1))
    bench.expire_lease(alone.request_id)

    assert figures([bench.claim(alone.request_id, worker="other").task]) == [(1, 0)]


def test_a_task_that_runs_in_another_process_is_no_company(bench, store):
    one, other = bench.create(), bench.create()
    bench.claim(one.request_id, worker="a")
    bench.claim(other.request_id, worker="b")
    bench.expire_lease(one.request_id)

    assert figures([bench.claim(one.request_id, worker="c").task]) == [(1, 0)]


def test_a_finished_checkpoint_resets_what_was_charged(bench, store, died):
    task, beside = bench.create(max_attempts=2), bench.create()

    for n in range(4):

        def finish(key=str(n)):
            attempt = store.get(task.request_id).attempt
            made = Checkpoint(key, {"path": [key]}, b"[1,[]]")
            store.save_checkpoint(task.request_id, attempt=attempt, checkpoint=made, progress=None)

        assert figures(died(task, before=finish)) == [(1, 0)]
    died(task, beside, before=finish)

    assert figures([store.get(task.request_id)]) == [(0, 1)]


def test_a_task_that_always_dies_with_others_is_ended_some_time_and_the_message_does_not_blame_it(bench, died):
    task = bench.create()

    for _ in range(MAX_SUSPICIONS - 1):
        assert not died(task, bench.create())[0].done
    ended = died(task, bench.create())[0]

    assert (ended.status, ended.crashes) == (Status.FAILED, 0)
    assert "whether this task ends it is not known" in ended.error_message
