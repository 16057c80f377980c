"""What every store does when a task is created: its first event, its input, its idempotency key."""

import uuid
from datetime import timedelta

import pytest

from flask_bgtasks import (
    IdempotencyConflict,
    TaskNotFound,
)
from flask_bgtasks.core.model import Status, TokenNote
from flask_bgtasks.core.transitions.attempt import Complete
from flask_bgtasks.core.transitions.outside import RequestCancel
from flask_bgtasks.stores.types import NewDelivery
from tests.support.stored_input import stored_input
from tests.support.threads import together


def test_a_task_belongs_to_the_app_whose_store_accepted_it(bench):
    created = bench.create(app="somebody else's")

    assert created.app == "shop"
    assert bench.store.get(created.request_id).app == "shop"
    assert bench.store.apps() == {"shop": 1}
    assert bench.store.adopt("shop") == bench.store.adopt("nobody") == 0


def test_a_created_task_is_stored_with_its_first_event(bench, store):
    input, note = {"text": "ü\x00\ud800", "n": [1, None]}, TokenNote("expo", "pt-BR", registered=True)
    task = bench.create(input=input, owner="ada", priority=3, user_token="t", token_note=note)

    assert store.get(task.request_id) == task
    assert (task.user_token, task.token_note) == ("t", note)
    assert (task.status, task.seq, task.attempt, task.owner, task.priority) == (Status.STARTED, 1, 0, "ada", 3)
    assert bench.history(task.request_id) == [(1, "accepted")]
    assert stored_input(store, task.request_id) == {"text": "ü\x00\ud800", "n": [1, None]}
    assert store.load_result(task.request_id) is None


def test_the_store_dates_a_task_by_its_own_time(bench, store):
    before = store.now()
    task = bench.create()

    assert before <= task.created_at <= store.now()
    assert task.updated_at == task.created_at


def test_a_callers_later_change_of_its_input_does_not_reach_the_store(bench, store):
    mine = {"list": [1]}
    task = bench.create(input=mine)
    mine["list"].append(2)

    assert stored_input(store, task.request_id) == {"list": [1]}


@pytest.mark.parametrize(
    "ask",
    [
        lambda s, i: s.get(i),
        stored_input,
        lambda s, i: s.load_result(i),
        lambda s, i: s.events(i),
        lambda s, i: s.delete(i),
        lambda s, i: s.claim(i, worker="w", lease=timedelta(seconds=9)),
        lambda s, i: s.transition(i, RequestCancel()),
    ],
)
def test_a_task_that_never_was_is_not_found(store, ask):
    with pytest.raises(TaskNotFound):
        ask(store, str(uuid.uuid4()))


def test_the_same_key_and_body_give_the_same_task(bench, store):
    first = store.create(bench.new(idempotency_scope="k", fingerprint="f"), input={})
    again = store.create(bench.new(idempotency_scope="k", fingerprint="f"), input={}, deliveries=[NewDelivery("sink")])

    assert (first.replayed, again.replayed) == (False, True)
    assert again.task.request_id == first.task.request_id
    assert store.stats().deliveries_pending == 0


def test_the_same_key_with_another_body_is_refused(bench, store):
    first = bench.create(idempotency_scope="k", fingerprint="f")

    with pytest.raises(IdempotencyConflict) as refused:
        bench.create(idempotency_scope="k", fingerprint="other")
    assert refused.value.request_id == first.request_id


def test_an_expired_task_gives_its_key_free(bench, store):
    if bench.clock is None:
        pytest.skip("needs a clock that the test moves")
    first = bench.running(idempotency_scope="k", fingerprint="f", expires_after=timedelta(seconds=10))
    store.transition(first.request_id, Complete(1))
    bench.clock.advance(11)
    second = store.create(bench.new(idempotency_scope="k", fingerprint="f"), input={})

    assert second.replayed is False
    assert store.get(second.task.request_id).idempotency_scope == "k"
    assert store.get(first.request_id).idempotency_scope is None


def test_of_many_that_race_with_one_key_one_task_is_made(bench, store):
    def create(_):
        return store.create(bench.new(idempotency_scope="k", fingerprint="f"), input={})

    results = together(8, create)

    assert len({created.task.request_id for created in results}) == 1
    assert [created.replayed for created in results].count(False) == 1
    assert store.stats().by_status == {"started": 1}
