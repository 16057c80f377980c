"""The queue's limits in every store: for all tasks, for one owner's, for nobody's."""

import pytest

from flask_bgtasks import (
    AnonymousQueueFull,
    OwnerQueueFull,
    QueueFull,
    TransitionRefused,
)
from flask_bgtasks.core.model import Status
from flask_bgtasks.core.transitions.outside import Reopen, RequestCancel
from flask_bgtasks.stores.types import Limits


def test_the_queue_is_bounded_and_nothing_over_it_is_stored(bench, store):
    limits = Limits(max_queued=2)
    running, _ = bench.create(limits=limits), bench.create(limits=limits)
    with pytest.raises(QueueFull) as refused:
        bench.create(limits=limits)
    assert (refused.value.limit, refused.value.retry_after) == (2, 5)
    assert store.stats().by_status == {"started": 2}

    bench.claim(running.request_id)
    bench.create(limits=limits)  # what runs waits no more


def test_one_owner_cannot_fill_the_queue(bench, store):
    limits = Limits(max_queued_per_owner=1)
    bench.create(owner="ada", limits=limits)

    with pytest.raises(OwnerQueueFull):
        bench.create(owner="ada", limits=limits)
    bench.create(owner="eve", limits=limits)
    bench.create(limits=limits)


def test_nobodys_tasks_have_a_share_of_their_own_where_there_are_owners(bench, store):
    limits = Limits(max_queued_anonymous=2)
    first, _ = bench.create(limits=limits), bench.create(limits=limits)

    with pytest.raises(AnonymousQueueFull) as refused:
        bench.create(limits=limits)
    bench.create(owner="ada", limits=limits)
    assert isinstance(refused.value, QueueFull)
    assert (refused.value.limit, refused.value.retry_after) == (2, 5)
    assert store.stats().by_status == {"started": 3}

    bench.claim(first.request_id)
    bench.create(limits=limits)  # what runs waits no more


def test_users_do_not_count_among_nobodys_tasks(bench, store):
    limits = Limits(max_queued_anonymous=1)
    for owner in ("ada", "eve", ""):
        bench.create(owner=owner, limits=limits)

    bench.create(limits=limits)


def test_nobodys_second_task_stands_behind_a_users_first(bench, store):
    limits = Limits(max_queued_anonymous=9)
    first, second = bench.create(limits=limits), bench.create(limits=limits)
    ada = bench.create(owner="ada", limits=limits)

    order = [task.request_id for task in store.runnable(limit=9)]
    assert order == [first.request_id, ada.request_id, second.request_id]


@pytest.mark.parametrize(
    ("limits", "owner", "error"),
    [
        (Limits(max_queued=1), "eve", QueueFull),
        (Limits(max_queued_per_owner=1), "ada", OwnerQueueFull),
        (Limits(max_queued_anonymous=1), None, AnonymousQueueFull),
    ],
)
def test_a_task_that_is_opened_again_waits_like_a_new_one(bench, store, limits, owner, error):
    ended = bench.create(owner=owner)
    store.transition(ended.request_id, RequestCancel())
    cancelled = store.get(ended.request_id)
    waiting = bench.create(owner="ada" if owner == "eve" else owner)

    with pytest.raises(error):
        store.transition(ended.request_id, Reopen(), limits=limits)
    assert store.get(ended.request_id) == cancelled
    with pytest.raises(TransitionRefused):  # it waits already, which is said first
        store.transition(waiting.request_id, Reopen(), limits=limits)

    bench.claim(waiting.request_id)
    assert store.transition(ended.request_id, Reopen(), limits=limits).task.status is Status.STARTED


def test_a_task_that_is_opened_again_stands_behind_what_its_owner_has_waiting(bench, store):
    again = bench.create(owner="ada")
    store.transition(again.request_id, RequestCancel())
    first, eves = bench.create(owner="ada"), bench.create(owner="eve")

    store.transition(again.request_id, Reopen(), limits=Limits())

    order = [task.request_id for task in store.runnable(limit=9)]
    assert order == [first.request_id, eves.request_id, again.request_id]


def test_a_large_limit_is_kept_too(request, bench, store):
    """Above 1,000 the SQL stores count from time to time only; Firestore always counts, and takes 0.1 s a task."""
    most = 103 if "firestore" in request.node.name else 1003
    limits = Limits(max_queued=most)
    for _ in range(most):
        bench.create(limits=limits)

    with pytest.raises(QueueFull):
        bench.create(limits=limits)
