"""Finding, deleting and counting tasks in every store."""

from datetime import timedelta
from functools import partial

import pytest

from flask_bgtasks import (
    TaskNotFound,
    TransitionRefused,
)
from flask_bgtasks.core.model import Result, Status
from flask_bgtasks.core.transitions.attempt import Complete
from flask_bgtasks.core.transitions.outside import MarkSeen
from flask_bgtasks.stores.types import NewDelivery, TaskQuery
from tests.support.stored_input import stored_input


def find(store, **query):
    return [task.request_id for task in store.find(TaskQuery(**query)).tasks]


def test_tasks_are_found_by_what_they_are(bench, store):
    ada, eve = bench.create(owner="ada", name="a").request_id, bench.create(owner="eve").request_id
    done = bench.running(owner="ada", idempotency_scope="s", fingerprint="f").request_id
    store.transition(done, Complete(1))
    store.transition(done, MarkSeen("poll"))

    assert set(find(store)) == {ada, eve, done}
    assert set(find(store, owner="ada")) == {ada, done}
    assert find(store, owner="ada", statuses=[Status.COMPLETED]) == [done]
    assert find(store, statuses=[Status.COMPLETED, Status.FAILED], seen=True) == [done]
    assert set(find(store, seen=False)) == {ada, eve}
    assert find(store, idempotency_scope="s") == [done]
    assert find(store, name="a") == [ada]
    assert set(find(store, ids=[ada, eve, "unknown"])) == {ada, eve}
    assert find(store, ids=[]) == []


def test_pages_are_newest_first_and_neither_miss_nor_repeat_while_tasks_are_added(bench, store):
    ids = []
    for _ in range(7):
        ids.append(bench.create().request_id)
        if bench.clock:
            bench.clock.advance(1)
    seen, cursor = [], None
    while True:
        page = store.find(TaskQuery(limit=3, cursor=cursor))
        seen += [task.request_id for task in page.tasks]
        cursor = page.cursor
        if cursor is None:
            break
        if bench.clock:
            bench.clock.advance(1)
        bench.create()

    assert seen == ids[::-1]


@pytest.mark.parametrize("cursor", ["nonsense", "????", "", "ü"])
def test_a_cursor_that_no_page_gave_is_refused(store, cursor):
    with pytest.raises(ValueError, match="not a cursor of an earlier page"):
        store.find(TaskQuery(cursor=cursor))


def test_versions_and_tokens_tell_of_changes(bench, store):
    task = bench.create()
    before = store.change_token()
    assert store.versions([task.request_id, "gone"]) == {task.request_id: 1}
    assert store.versions([]) == {}
    bench.claim(task.request_id)

    assert store.versions([task.request_id]) == {task.request_id: 2}
    assert before is None or store.change_token() != before
    assert store.change_token() == store.change_token()


def test_what_is_deleted_leaves_nothing(bench, store):
    task = bench.running(idempotency_scope="k", fingerprint="f")
    with pytest.raises(TransitionRefused):
        store.delete(task.request_id)
    store.transition(task.request_id, Complete(1, Result(b"1")), deliveries=[NewDelivery("sink")])
    store.delete(task.request_id)

    for ask in (store.get, store.events, store.load_result, partial(stored_input, store)):
        with pytest.raises(TaskNotFound):
            ask(task.request_id)
    assert store.stats().deliveries_pending == 0
    assert store.create(bench.new(idempotency_scope="k", fingerprint="g"), input={}).replayed is False


def test_purge_takes_what_was_over_as_long_as_it_was_kept_in_small_batches(bench, store):
    finished = [bench.running(expires_after=timedelta(days=7)).request_id for _ in range(5)]
    for request_id in finished:
        store.transition(request_id, Complete(1, Result(b"1")))
    kept = bench.create().request_id
    assert store.purge() == 0
    bench.pass_time(finished, timedelta(days=13))
    assert store.purge() == 0  # expired, and still told apart from one that never was

    bench.pass_time(finished, timedelta(days=2))

    assert [store.purge(limit=2) for _ in range(4)] == [2, 2, 1, 0]
    assert find(store) == [kept]


def test_figures_count_tasks_and_deliveries(bench, store):
    first = bench.create(deliveries=[NewDelivery("sink")])
    bench.running()
    stats = store.stats()

    assert stats.by_status == {"started": 1, "processing": 1}
    assert stats.oldest_waiting == first.created_at
    assert (stats.deliveries_pending, stats.deliveries_dead) == (1, 0)
