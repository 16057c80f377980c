"""What every store does: one suite, run over memory, SQLite and PostgreSQL."""

import threading
import uuid
from datetime import datetime, timedelta, timezone
from functools import partial

import pytest

from flask_bgtasks import (
    AlreadyClaimed,
    AnonymousQueueFull,
    IdempotencyConflict,
    LeaseLost,
    OwnerQueueFull,
    QueueFull,
    TaskFinished,
    TaskNotFound,
    TransitionRefused,
)
from flask_bgtasks.core.model import Entry, EventType, Progress, Result, Status, StepHistory, TokenNote
from flask_bgtasks.core.transitions.attempt import Cancel, Complete, Fail, Renew, Report
from flask_bgtasks.core.transitions.outside import MarkSeen, Reopen, RequestCancel
from flask_bgtasks.stores.averages import average
from flask_bgtasks.stores.types import Limits, NewDelivery, Settlement, TaskQuery
from tests.support.stored_input import stored_input

EVENT = NewDelivery("sink")


def output(bench, text):
    return Entry(EventType.OUTPUT, bench.store.now(), {"chunks": [text]})


def together(count, call):
    """Run ``call(n)`` in so many threads at once; what each returned or raised."""
    barrier, results = threading.Barrier(count), [None] * count

    def run(n):
        barrier.wait(10)
        try:
            results[n] = call(n)
        except Exception as error:
            results[n] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


# -- creating


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
    again = store.create(bench.new(idempotency_scope="k", fingerprint="f"), input={}, deliveries=[EVENT])

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


# -- claiming, leases, fencing


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
        store.transition(task.request_id, change, deliveries=[EVENT])

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


# -- histories and results


def test_entries_and_progress_are_numbered_in_order(bench, store):
    task = bench.running()
    progress = Progress(store.now(), 1, 40.0, "Write", 1, 2, "details ü", 3.5)
    store.save_progress(task.request_id, attempt=1, progress=progress, entries=[output(bench, "a"), output(bench, "b")])
    after = store.transition(task.request_id, Complete(1, None, (output(bench, "c"),))).task

    assert bench.history(task.request_id) == [
        (1, "accepted"),
        (2, "started"),
        (3, "output"),
        (4, "output"),
        (5, "progress"),
        (6, "output"),
        (7, "completed"),
    ]
    assert store.events(task.request_id)[4].data["details"] == "details ü"
    assert after.progress.percentage == 100.0
    assert after.expire_at == after.completed_at + timedelta(days=7)
    assert store.get(task.request_id) == after


def test_the_percentage_never_falls(bench, store):
    task = bench.running()
    for percentage in (50.0, 20.0, 60.0):
        store.save_progress(task.request_id, attempt=1, progress=Progress(store.now(), 1, percentage))
    shown = [e.data["progress_percentage"] for e in store.events(task.request_id) if e.type is EventType.PROGRESS]

    assert shown == [50.0, 50.0, 60.0]


def test_a_history_is_read_from_any_number_on_and_in_pages(bench, store):
    task = bench.running()
    for n in range(10):
        store.save_progress(task.request_id, attempt=1, progress=None, entries=[output(bench, str(n))])

    assert [e.seq for e in store.events(task.request_id, after=4)] == list(range(5, 13))
    assert [e.seq for e in store.events(task.request_id, after=4, limit=3)] == [5, 6, 7]
    assert store.events(task.request_id, after=12) == []


def test_a_history_is_bounded_and_keeps_the_newest(bench, store):
    task = bench.running()
    for n in range(12):
        entries = [output(bench, str(n))] * 100
        store.save_progress(task.request_id, attempt=1, progress=None, entries=entries)
    kept = [e.seq for e in store.events(task.request_id, limit=10_000)]

    assert kept == list(range(kept[0], 1203))
    assert 300 <= len(kept) < 300 + 256 + 100


@pytest.mark.parametrize("body", [b"", bytes(range(256)), "ü".encode(), b"x" * 5_000_000], ids=len)
def test_a_result_is_kept_byte_for_byte(bench, store, body):
    task = bench.running()
    result = Result(body, 207, "image/x; q=ü", (("Location", "/x"), ("Content-Language", "de")))
    after = store.transition(task.request_id, Complete(1, result)).task

    assert store.load_result(task.request_id) == result
    assert (after.result_status, after.result_type, after.result_size) == (207, "image/x; q=ü", len(body))


def test_a_failure_keeps_any_text(bench, store):
    task = bench.running()
    store.transition(task.request_id, Fail(1, "bad \x00 \ud800 ü", "ValueError"))
    failed = store.get(task.request_id)

    assert failed.status is Status.FAILED
    assert failed.error_message.startswith("bad ")
    assert failed.error_message.endswith(" ü")


def test_a_retry_opens_the_task_again_and_drops_the_old_outcome(bench, store):
    task = bench.running()
    store.save_progress(task.request_id, attempt=1, progress=Progress(store.now(), 1, 70.0))
    store.transition(task.request_id, Fail(1, "no", result=Result(b"bad", 422)))
    store.transition(task.request_id, MarkSeen("poll"))
    opened = store.transition(task.request_id, Reopen()).task

    assert (opened.status, opened.error_message, opened.seen_at, opened.expire_at) == (Status.STARTED, None, None, None)
    assert store.load_result(task.request_id) is None
    second = bench.claim(task.request_id)
    assert second.task.attempt == 2
    done = store.transition(task.request_id, Complete(2, Result(b"good"))).task
    assert store.load_result(task.request_id).body == b"good"
    assert done.seq == store.events(task.request_id)[-1].seq


def test_a_cancel_ends_what_waits_and_is_noted_for_what_runs(bench, store):
    waiting, running = bench.create(), bench.running()
    ended = store.transition(waiting.request_id, RequestCancel()).task
    noted = store.transition(running.request_id, RequestCancel()).task
    again = store.transition(running.request_id, RequestCancel())

    assert ended.status is Status.CANCELLED
    assert (noted.status, noted.cancel_requested_at is not None) == (Status.PROCESSING, True)
    assert again.events == ()
    assert store.transition(running.request_id, Cancel(1)).task.status is Status.CANCELLED


def test_the_first_sighting_counts_and_leaves_no_event(bench, store):
    task = bench.running()
    with pytest.raises(TransitionRefused):
        store.transition(task.request_id, MarkSeen("poll"))
    seq = store.transition(task.request_id, Complete(1)).task.seq
    store.transition(task.request_id, MarkSeen("push"))
    store.transition(task.request_id, MarkSeen("poll"))
    seen = store.get(task.request_id)

    assert (seen.seen_via, seen.seq) == ("push", seq)


# -- finding


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
    with pytest.raises(ValueError, match="not one that a page gave"):
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
    store.transition(task.request_id, Complete(1, Result(b"1")), deliveries=[EVENT])
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
    first = bench.create(deliveries=[EVENT])
    bench.running()
    stats = store.stats()

    assert stats.by_status == {"started": 1, "processing": 1}
    assert stats.oldest_waiting == first.created_at
    assert (stats.deliveries_pending, stats.deliveries_dead) == (1, 0)


# -- listeners


def test_listeners_hear_of_changes_after_they_are_stored(bench, store):
    heard = []
    store.on_commit(lambda task, events: heard.append((task, [e.seq for e in events], store.get(task.request_id))))
    task = bench.create()
    bench.claim(task.request_id)
    with pytest.raises(LeaseLost):
        store.transition(task.request_id, Complete(9))

    assert [seqs for _, seqs, _ in heard] == [[1], [2]]
    assert all(told == stored for told, _, stored in heard)


def test_a_listener_that_raises_does_not_make_a_change_look_refused(bench, store, caplog):
    store.on_commit(lambda task, events: 1 / 0)
    task = bench.create()

    assert store.get(task.request_id) == task
    assert "a listener failed" in caplog.text


# -- outbox


def due(store, sink="sink", worker="w", seconds=60):
    return store.due_deliveries(sink, worker=worker, lease=timedelta(seconds=seconds))


def test_a_change_and_its_deliveries_are_one(bench, store):
    task = bench.create(deliveries=[EVENT, NewDelivery("other", "notification", {"title": "ü"})])
    bench.claim(task.request_id, deliveries=[EVENT])

    (mine,) = due(store)
    assert (mine.request_id, mine.seq, mine.kind, mine.payload, mine.tries) == (task.request_id, 1, "event", None, 0)
    (other,) = due(store, "other")
    assert (other.kind, other.payload) == ("notification", {"title": "ü"})
    assert store.stats().deliveries_pending == 3


def test_changes_without_an_event_for_sinks_owe_nothing(bench, store):
    task = bench.running()
    store.transition(task.request_id, Report(1, (output(bench, "x"),)), deliveries=[EVENT])
    store.transition(task.request_id, Renew(1, timedelta(seconds=9)), deliveries=[EVENT])

    assert store.stats().deliveries_pending == 0


def test_deliveries_of_a_task_come_one_after_the_other(bench, store):
    one = bench.create(deliveries=[EVENT])
    bench.claim(one.request_id, deliveries=[EVENT])
    two = bench.create(deliveries=[EVENT])
    first, second = due(store)

    assert [(d.request_id, d.seq) for d in (first, second)] == [(one.request_id, 1), (two.request_id, 1)]
    assert due(store) == []
    store.settle_delivery(first, Settlement())
    (next_,) = due(store)
    assert (next_.request_id, next_.seq) == (one.request_id, 2)


def test_two_workers_never_get_the_same_delivery(bench, store):
    for _ in range(40):
        bench.create(deliveries=[EVENT])
    results = together(4, lambda n: due(store, worker=str(n)))
    taken = [delivery.id for result in results for delivery in result]
    while rest := due(store):
        taken += [delivery.id for delivery in rest]

    assert len(taken) == len(set(taken)) == 40


def lose_leases(store, sink="sink"):
    """Whoever watches finds the leases lost."""
    return store.end_delivery_leases(sink, store.delivery_leases(sink))


def test_a_lease_on_a_delivery_does_not_end_by_the_clock(bench, store):
    if bench.clock is None:
        pytest.skip("needs a clock that the test moves")
    bench.create(deliveries=[EVENT])
    due(store, worker="right")
    bench.clock.advance(3600)  # of another process, whose clock is an hour ahead

    assert due(store, worker="ahead") == []


def test_what_a_dead_worker_took_comes_again(bench, store):
    bench.create(deliveries=[EVENT])
    (first,) = due(store, worker="dead")

    assert lose_leases(store) == 1

    (again,) = due(store, worker="alive")
    assert again.id == first.id
    assert store.delivery_leases("another") == {}


LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "settlement",
    [
        Settlement(),
        Settlement(replaced_by=[NewDelivery("sink", "message", {"n": 1}, channel="a")]),
        Settlement(due_at=LONG_AGO, error="too late"),
        Settlement(dead=True, error="no"),
    ],
    ids=["done", "split up", "retry", "dead"],
)
def test_who_has_lost_its_lease_does_not_take_a_delivery_from_who_has_it(bench, store, settlement):
    bench.create(deliveries=[EVENT])
    (frozen,) = due(store, worker="same")
    lose_leases(store)
    store.settle_delivery(frozen, settlement)  # nobody has it
    (sending,) = due(store, worker="same")

    store.settle_delivery(frozen, settlement)

    assert due(store, worker="third") == []
    assert store.dead_deliveries() == []
    assert store.stats().deliveries_pending == 1
    store.settle_delivery(sending, Settlement(due_at=LONG_AGO, error="down"))
    (again,) = due(store, worker="third")
    assert (again.id, again.tries, again.error) == (frozen.id, 1, "down")


def test_a_late_settlement_does_not_take_the_delivery_of_another_task(bench, store):
    bench.create(deliveries=[EVENT])
    (frozen,) = due(store, worker="frozen")
    lose_leases(store)
    (sending,) = due(store, worker="sending")
    store.settle_delivery(sending, Settlement())
    newer = bench.create(deliveries=[EVENT])
    (delivery,) = due(store, worker="frozen")

    store.settle_delivery(frozen, Settlement())

    assert delivery.request_id == newer.request_id
    assert delivery.id != frozen.id
    assert store.stats().deliveries_pending == 1


def test_a_renewed_lease_is_another_one_to_who_watches_and_the_same_to_its_holder(bench, store):
    bench.create(deliveries=[EVENT])
    (taken,) = due(store)
    seen = store.delivery_leases("sink")
    if bench.clock is not None:
        bench.clock.advance(20)

    renewed = store.renew_deliveries([taken], lease=timedelta(seconds=60))

    assert list(seen) == list(renewed) == [taken.id]
    assert store.delivery_leases("sink") != seen
    assert store.end_delivery_leases("sink", seen) == 0
    assert due(store) == []
    store.settle_delivery(renewed[taken.id], Settlement())
    assert store.stats().deliveries_pending == 0
    assert store.renew_deliveries([taken], lease=timedelta(seconds=60)) == {}


def test_a_lost_lease_is_not_renewed(bench, store):
    bench.create(deliveries=[EVENT])
    (taken,) = due(store)
    lose_leases(store)
    (again,) = due(store)

    assert store.renew_deliveries([taken], lease=timedelta(seconds=60)) == {}
    assert list(store.renew_deliveries([again], lease=timedelta(seconds=60))) == [again.id]


def test_a_retry_waits_until_it_is_due_and_holds_the_later_ones_back(bench, store):
    if bench.clock is None:
        pytest.skip("needs a clock that the test moves")
    task = bench.create(deliveries=[EVENT])
    bench.claim(task.request_id, deliveries=[EVENT])
    (first,) = due(store)
    store.settle_delivery(first, Settlement(due_at=store.now() + timedelta(seconds=5), error="down"))
    assert due(store) == []
    bench.clock.advance(6)

    (again,) = due(store)
    assert (again.id, again.tries, again.error) == (first.id, 1, "down")


def test_a_dead_letter_is_kept_and_holds_nothing_back(bench, store):
    task = bench.create(deliveries=[EVENT])
    bench.claim(task.request_id, deliveries=[EVENT])
    (first,) = due(store)
    store.settle_delivery(first, Settlement(dead=True, error="bad"))

    (next_,) = due(store)
    assert next_.seq == 2
    (dead,) = store.dead_deliveries()
    assert (dead.id, dead.dead, dead.error, dead.tries) == (first.id, True, "bad", 1)
    assert store.stats().deliveries_dead == 1


def test_a_delivery_of_no_task_stands_alone(bench, store):
    store.add_delivery(NewDelivery("sink", "notification", {"title": "a"}))
    store.add_delivery(NewDelivery("sink", "notification", {"title": "b"}))
    both = due(store)

    assert [(d.request_id, d.payload["title"]) for d in both] == [(None, "a"), (None, "b")]
    store.settle_delivery(both[0], Settlement())
    store.settle_delivery(both[0], Settlement())  # settled twice: nothing more happens
    assert store.stats().deliveries_pending == 1


# -- durations


def test_durations_are_averaged_in_the_order_in_which_they_came(bench, store):
    store.save_durations("process", {"b": 10.0, "a": 2.0})
    store.save_durations("process", {"a": 4.0, "c": 1.0})
    store.save_durations("other", {"x": 1.0})
    learnt = store.load_durations("process")

    assert list(learnt) == ["b", "a", "c"]
    assert learnt["b"] == StepHistory(1, 10.0)
    assert learnt["a"] == average(StepHistory(1, 2.0), 4.0) == StepHistory(2, 3.0)
    assert store.load_durations("unknown") == {}


def test_a_changed_pipeline_is_learnt_within_a_few_runs():
    history = None
    for _ in range(20):
        history = average(history, 10.0)
    for _ in range(10):
        history = average(history, 1.0)

    assert history.seconds < 2.0


# -- life


def test_a_closed_store_opens_again(bench, store):
    task = bench.create()
    store.close()
    store.check()

    assert store.get(task.request_id) == task


def test_threads_write_side_by_side_and_nothing_is_lost(bench, store):
    def work(n):
        for _ in range(10):
            task = bench.create(owner=str(n))
            bench.claim(task.request_id)
            store.save_progress(task.request_id, attempt=1, progress=None, entries=[output(bench, "x")])
            store.transition(task.request_id, Complete(1, Result(str(n).encode())))

    assert together(8, work) == [None] * 8
    assert store.stats().by_status == {"completed": 80}
    for task in store.find(TaskQuery(limit=100)).tasks:
        assert [seq for seq, _ in bench.history(task.request_id)] == [1, 2, 3, 4]
        assert store.load_result(task.request_id).body == task.owner.encode()
