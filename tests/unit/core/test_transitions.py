"""The state machine: every change in every state, allowed or refused."""

from datetime import timedelta

import pytest

from flask_bgtasks import AlreadyClaimed, LeaseLost, Status, TaskFinished, TransitionRefused
from flask_bgtasks.core.model import Checkpoint, Event, EventType, Progress, Result, Task, TaskKind
from flask_bgtasks.core.transitions.attempt import Cancel, Claim, Complete, Expire, Fail, Release, Renew, Report, Retry
from flask_bgtasks.core.transitions.outside import MarkSeen, Reopen, RequestCancel
from flask_bgtasks.core.transitions.transition import Durability, accepted
from tests.support.tasks import T0

MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("content_type", "is_json"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/problem+json", True),
        ("model/gltf+json ; x=1", True),
        ("application/jsonl", False),
        ("application/x-ndjson", False),
        ("application/json-seq", False),
        ("text/html; profile=application/json", False),
        ("", False),
    ],
)
def test_a_result_is_json_by_its_media_type_alone(content_type, is_json):
    assert Result(b"1", content_type=content_type).is_json is is_json


def task(status, **fields):
    running = {"attempt": 1, "lease_until": T0 + MINUTE, "worker": "w"} if status is Status.PROCESSING else {}
    ended = {"attempt": 1, "completed_at": T0, "expire_at": T0 + MINUTE} if status.terminal else {}
    values = {"request_id": "t", "name": "n", "kind": TaskKind.VIEW, "created_at": T0, "updated_at": T0}
    return Task(**{**values, "expires_after": MINUTE, "status": status, "seq": 5, **running, **ended, **fields})


CHANGES = {
    "claim": Claim("w", MINUTE),
    "renew": Renew(1, MINUTE),
    "report": Report(1, progress=Progress(T0, 1, 10.0)),
    "complete": Complete(1, Result(b"1")),
    "fail": Fail(1, "no"),
    "retry": Retry(1, "no", MINUTE, 3),
    "release": Release(1),
    "expire": Expire(1),
    "cancel": Cancel(1),
    "request_cancel": RequestCancel(),
    "reopen": Reopen(),
    "seen": MarkSeen("poll"),
}
S, P, OK, BAD, GONE = Status.STARTED, Status.PROCESSING, Status.COMPLETED, Status.FAILED, Status.CANCELLED

# What each change makes of each state: the state after it, or the refusal.
TABLE = {
    "claim": {S: P, P: AlreadyClaimed, OK: TaskFinished, BAD: TaskFinished, GONE: TaskFinished},
    "renew": {S: LeaseLost, P: P, OK: LeaseLost, BAD: LeaseLost, GONE: LeaseLost},
    "report": {S: LeaseLost, P: P, OK: LeaseLost, BAD: LeaseLost, GONE: LeaseLost},
    "complete": {S: LeaseLost, P: OK, OK: LeaseLost, BAD: LeaseLost, GONE: LeaseLost},
    "fail": {S: LeaseLost, P: BAD, OK: LeaseLost, BAD: LeaseLost, GONE: LeaseLost},
    "retry": {S: LeaseLost, P: P, OK: LeaseLost, BAD: LeaseLost, GONE: LeaseLost},
    "release": {S: LeaseLost, P: P, OK: LeaseLost, BAD: LeaseLost, GONE: LeaseLost},
    "expire": {S: LeaseLost, P: P, OK: LeaseLost, BAD: LeaseLost, GONE: LeaseLost},
    "cancel": {S: LeaseLost, P: GONE, OK: LeaseLost, BAD: LeaseLost, GONE: LeaseLost},
    "request_cancel": {S: GONE, P: P, OK: OK, BAD: BAD, GONE: GONE},
    "reopen": {S: TransitionRefused, P: TransitionRefused, OK: TransitionRefused, BAD: S, GONE: S},
    "seen": {S: TransitionRefused, P: TransitionRefused, OK: OK, BAD: BAD, GONE: GONE},
}


def test_each_change_says_what_it_survives():
    grades = {grade: {name for name in CHANGES if CHANGES[name].durability is grade} for grade in Durability}

    assert grades[Durability.PROCESS] == {"renew", "expire", "seen"}
    assert grades[Durability.SERVER] == {"claim", "report"}
    assert Report(1, checkpoint=Checkpoint("k", {}, b"1")).durability is Durability.DISK


@pytest.mark.parametrize("status", list(Status), ids=lambda s: s.value)
@pytest.mark.parametrize("name", CHANGES)
def test_each_change_in_each_state(name, status):
    before, expected = task(status), TABLE[name][status]
    if isinstance(expected, Status):
        outcome = CHANGES[name].apply(before, T0)

        assert outcome.task.status is expected
        assert [e.seq for e in outcome.events] == list(range(6, 6 + len(outcome.events)))
        assert outcome.task.seq == 5 + len(outcome.events)
    else:
        with pytest.raises(expected) as refused:
            CHANGES[name].apply(before, T0)
        assert type(refused.value) is expected


@pytest.mark.parametrize("name", ["renew", "report", "complete", "fail", "cancel"])
def test_another_attempts_change_is_refused(name):
    with pytest.raises(LeaseLost, match="attempt 1 lost its lease"):
        CHANGES[name].apply(task(P, attempt=2), T0)


def test_the_first_event_of_a_task_is_its_acceptance():
    outcome = accepted(task(S, seq=0), T0)

    assert outcome.events == (Event(1, EventType.ACCEPTED, T0, 0, {"name": "n"}),)
    assert outcome.sink_event == outcome.events[0]


def test_an_expired_lease_lets_the_next_attempt_in_and_says_so():
    outcome = CHANGES["claim"].apply(task(P), T0 + MINUTE)

    assert outcome.task.attempt == 2
    assert outcome.events[0].data == {"recovered": True}


def test_a_holder_whose_lease_ran_out_goes_on_while_nobody_took_over():
    assert CHANGES["complete"].apply(task(P), T0 + 5 * MINUTE).task.status is OK


def test_completion_is_a_hundred_percent_and_dates_the_end():
    done = CHANGES["complete"].apply(task(P, progress=Progress(T0, 1, 40.0, "Write", 2, 5)), T0).task

    assert (done.progress.percentage, done.progress.step, done.progress.eta_seconds) == (100.0, "Write", 0.0)
    assert (done.completed_at, done.expire_at, done.lease_until, done.worker) == (T0, T0 + MINUTE, None, None)


def test_a_failure_keeps_where_it_was():
    failed = Fail(1, "no", progress=Progress(T0, 1, 30.0)).apply(task(P, progress=Progress(T0, 1, 40.0)), T0)

    assert failed.task.progress.percentage == 40.0
    assert failed.events[-1].data == {"error_message": "no", "progress_percentage": 40.0}


def test_a_task_that_was_cancelled_while_it_ran_may_still_complete():
    asked = CHANGES["request_cancel"].apply(task(P), T0).task

    assert asked.cancel_requested_at == T0
    assert CHANGES["complete"].apply(asked, T0).task.status is OK


def test_a_retry_keeps_the_history_the_percentage_and_the_attempt():
    opened = CHANGES["reopen"].apply(task(BAD, progress=Progress(T0, 1, 40.0), error_message="no"), T0)

    assert (opened.task.seq, opened.task.attempt, opened.task.progress.percentage) == (6, 1, 40.0)
    assert (opened.task.error_message, opened.drop_result) == (None, True)


def test_what_ran_where_it_stood_cannot_be_retried():
    with pytest.raises(TransitionRefused, match="cannot be run by the library"):
        CHANGES["reopen"].apply(task(BAD, kind=TaskKind.TRACKED), T0)


def test_only_lifecycle_events_are_owed_to_sinks():
    assert CHANGES["report"].apply(task(P), T0).sink_event is None
    assert CHANGES["renew"].apply(task(P), T0).sink_event is None
    assert CHANGES["claim"].apply(task(S), T0).sink_event.type is EventType.STARTED
