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
from flask_bgtasks.stores.types import NewDelivery, Settlement
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


# -- begun with its creation


@pytest.fixture
def create_and_claim(bench, claim_change):
    def create(*, input=None, most_running=None, deliveries=(), **fields):
        task = bench.new(**fields)
        return bench.store.create(
            task, input=input or {}, claim=claim_change, most_running=most_running or {}, deliveries=deliveries
        )

    return create


def test_a_task_can_be_created_and_begun_as_one(bench, store, create_and_claim):
    created = create_and_claim(input={"n": 1, "private": {"login": "ada"}}, owner="ada")
    task, attempt = created.task, created.attempt

    assert (task.status, task.seq, task.attempt) == (Status.STARTED, 1, 0)  # as it was accepted
    assert (attempt.task.attempt, attempt.input) == (1, {"n": 1, "private": {"login": "ada"}})
    assert attempt.checkpoints == {}
    assert store.get(task.request_id) == attempt.task
    assert attempt.task.lease_until - attempt.task.started_at == timedelta(seconds=60)
    assert attempt.task.worker == "worker"
    assert bench.history(task.request_id) == [(1, "accepted"), (2, "started")]
    assert stored_input(store, task.request_id) == {"n": 1, "private": {"login": "ada"}}
    assert store.runnable(limit=10) == []
    store.transition(task.request_id, Complete(1))


def test_sinks_are_told_of_both_events_of_a_task_that_was_begun_with_its_creation(bench, store, create_and_claim):
    create_and_claim(deliveries=[NewDelivery("sink")])
    told = []
    while due := store.due_deliveries("sink", worker="w", lease=timedelta(seconds=60), limit=9):
        for delivery in due:
            told.append(delivery.seq)
            store.settle_delivery(delivery, Settlement())

    assert told == [1, 2]


def test_this_process_hears_of_both_events_of_a_task_that_was_begun_with_its_creation(store, create_and_claim):
    heard = []
    store.on_commit(lambda task, events: heard.extend((task.status, event.seq) for event in events))
    create_and_claim()

    assert heard == [(Status.STARTED, 1), (Status.PROCESSING, 2)]


def test_a_task_that_its_key_finds_is_not_begun(bench, store, create_and_claim):
    first = bench.create(idempotency_scope="k", fingerprint="f")
    again = create_and_claim(idempotency_scope="k", fingerprint="f")

    assert (again.replayed, again.attempt, again.task.request_id) == (True, None, first.request_id)
    assert store.get(first.request_id).status is Status.STARTED


def test_a_task_waits_where_as_many_of_its_name_run_as_may(bench, store, create_and_claim):
    first = create_and_claim(name="lesson", most_running={"lesson": 1})
    second = create_and_claim(name="lesson", most_running={"lesson": 1})
    other = create_and_claim(name="other", most_running={"lesson": 1})

    assert (second.attempt, second.replayed) == (None, False)
    assert first.attempt is not None
    assert other.attempt is not None
    assert [task.request_id for task in store.runnable(limit=9)] == [second.task.request_id]
    store.transition(first.task.request_id, Complete(1))
    assert bench.claim(second.task.request_id).task.attempt == 1


def test_of_many_that_are_begun_at_once_no_more_run_than_may(bench, store, create_and_claim):
    made = together(8, lambda _: create_and_claim(name="lesson", most_running={"lesson": 3}))

    assert sum(one.attempt is not None for one in made) == 3
    assert store.stats().by_status == {"processing": 3, "started": 5}


def test_what_was_begun_with_its_creation_is_found_when_its_process_has_died(bench, store, create_and_claim):
    created = create_and_claim(input={"n": 1})
    bench.expire_lease(created.task.request_id)

    assert [task.request_id for task in store.runnable(limit=9)] == [created.task.request_id]
    again = bench.claim(created.task.request_id)
    assert (again.task.attempt, again.task.crashes, again.input) == (2, 1, {"n": 1})
