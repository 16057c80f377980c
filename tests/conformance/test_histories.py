"""Histories, results and outcomes in every store, and who hears of changes."""

from datetime import timedelta

import pytest

from flask_bgtasks import (
    LeaseLost,
    TransitionRefused,
)
from flask_bgtasks.core.model import EventType, Progress, Result, Status
from flask_bgtasks.core.transitions.attempt import Cancel, Complete, Fail
from flask_bgtasks.core.transitions.outside import MarkSeen, Reopen, RequestCancel


def test_entries_and_progress_are_numbered_in_order(bench, store):
    task = bench.running()
    progress = Progress(store.now(), 1, 40.0, "Write", 1, 2, "details ü", 3.5)
    store.save_progress(task.request_id, attempt=1, progress=progress, entries=[bench.output("a"), bench.output("b")])
    after = store.transition(task.request_id, Complete(1, None, (bench.output("c"),))).task

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
        store.save_progress(task.request_id, attempt=1, progress=None, entries=[bench.output(str(n))])

    assert [e.seq for e in store.events(task.request_id, after=4)] == list(range(5, 13))
    assert [e.seq for e in store.events(task.request_id, after=4, limit=3)] == [5, 6, 7]
    assert store.events(task.request_id, after=12) == []


def test_a_history_is_bounded_and_keeps_the_newest(bench, store):
    task = bench.running()
    for n in range(12):
        entries = [bench.output(str(n))] * 100
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
