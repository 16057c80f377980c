"""What failed is tried again: when, how often, and what is seen of it. And the limit in time for one attempt."""

import threading
import time
from datetime import datetime, timedelta, timezone

import pytest
from flask import abort
from werkzeug.exceptions import HTTPException, ServiceUnavailable, TooManyRequests
from werkzeug.http import http_date

from flask_bgtasks import (
    AlreadyClaimed,
    Backoff,
    ConfigurationError,
    RetryLater,
    Status,
    TaskFailed,
    TaskOptions,
    current_task,
    signals,
    step,
)
from flask_bgtasks.core.model import Result
from flask_bgtasks.execution import flusher as flusher_module
from flask_bgtasks.execution import retry
from flask_bgtasks.execution.invocation import CallResult
from tests.support.waiting import PATIENCE

NOW = Backoff(0)


class Busy(Exception):
    """What a model raises that has too much to do."""


@pytest.fixture
def app(make_app):
    return make_app(runner="inline")


def history(app, request_id, *types):
    found = app.extensions["bgtasks"].store.events(request_id)
    return [event for event in found if not types or event.type.value in types]


def failing(times, error=None):
    """A function that fails in its first attempts."""

    def run():
        if current_task.attempt <= times:
            raise error or Busy(f"busy {current_task.attempt}")
        return "done"

    return run


# -- how often, and for what ---------------------------------------------------------------------------------------


def test_it_is_tried_again_until_it_succeeds(app, bg):
    task = bg.task(name="t", retries=2, backoff=NOW)(failing(2))

    with app.app_context():
        handle = task.submit()

    assert handle.wait(timeout=PATIENCE) == "done"
    assert handle.task.attempt == 3
    retries = history(app, handle.request_id, "retrying")
    assert [event.data["error_message"] for event in retries] == ["busy 1", "busy 2"]
    assert [(event.data["failures"], event.data["retries"]) for event in retries] == [(1, 2), (2, 2)]


def test_it_has_failed_when_all_attempts_have(app, bg):
    task = bg.task(name="t", retries=2, backoff=NOW)(failing(9))

    with app.app_context():
        handle = task.submit()

    with pytest.raises(TaskFailed, match="busy 3"):
        handle.wait(timeout=PATIENCE)
    assert handle.task.attempt == 3


def test_without_retries_one_attempt_is_all(app, bg):
    task = bg.task(name="t")(failing(1))

    with app.app_context():
        handle = task.submit()

    assert (handle.status, handle.task.attempt) == (Status.FAILED, 1)


@pytest.mark.parametrize(
    ("retry_on", "error", "attempts"),
    [
        (Busy, Busy("x"), 2),
        (Busy, KeyError("x"), 1),
        ((KeyError, Busy), Busy("x"), 2),
        (LookupError, KeyError("x"), 2),
        (Exception, RetryLater("x", after=0), 2),
        (Busy, RetryLater("x", after=0), 2),
    ],
)
def test_only_what_retry_on_names_is_tried_again(app, bg, retry_on, error, attempts):
    task = bg.task(name="t", retries=1, retry_on=retry_on, backoff=NOW)(failing(1, error))

    with app.app_context():
        handle = task.submit()

    assert handle.task.attempt == attempts


@pytest.mark.parametrize(
    ("code", "retry_on", "attempts"),
    [
        (422, Exception, 1),
        (404, Exception, 1),
        (408, Exception, 2),
        (425, Exception, 2),
        (429, Exception, 2),
        (500, Exception, 2),
        (503, Exception, 2),
        (503, Busy, 1),
        (422, HTTPException, 2),
    ],
)
@pytest.mark.parametrize("how", ["raised", "returned"])
def test_of_a_views_errors_those_are_tried_again_that_may_pass(app, bg, code, retry_on, attempts, how):
    @app.post("/process")
    @bg.background(retries=1, retry_on=retry_on, backoff=NOW)
    def process():
        if current_task.attempt > 1:
            return "done"
        if code != 425 and how == "raised":  # Werkzeug has no exception for 425
            abort(code)
        return "no", code

    response = app.test_client().post("/process")
    task = app.extensions["bgtasks"].store.get(response.headers["Task-Id"])

    if how == "returned" and retry_on is HTTPException and code == 422:
        attempts = 1  # nothing was raised: the code decides
    assert task.attempt == attempts
    assert task.status is (Status.COMPLETED if attempts == 2 else Status.FAILED)


def test_a_result_that_cannot_be_stored_is_not_made_again(app, bg):
    @bg.task(retries=3, backoff=NOW)
    def no_json():
        return object()

    with app.app_context():
        handle = no_json.submit()

    assert (handle.status, handle.task.attempt) == (Status.FAILED, 1)


# -- when ----------------------------------------------------------------------------------------------------------


class Response:
    def __init__(self, **headers):
        self.headers = headers


def carrying(**attributes):
    error = Busy("x")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


IN_A_DAY = datetime.now(timezone.utc) + timedelta(hours=20)  # a slow suite comes here an hour after this line


@pytest.mark.parametrize(
    ("error", "least", "most"),
    [
        (carrying(retry_after=7), 7, 8),
        (carrying(retry_after="7"), 7, 8),
        (carrying(retry_after=True), 0, 1),
        (carrying(retry_after=-3), 0, 1),
        (carrying(response=Response(**{"Retry-After": "9"})), 9, 10),
        (carrying(response=Response(**{"Retry-After": http_date(IN_A_DAY)})), 60_000, 72_100),
        (carrying(response=Response()), 0, 1),
        (carrying(response=None), 0, 1),
        (RetryLater("x", after=5), 5, 6),
        (RetryLater("x"), 0, 1),
        (TooManyRequests(retry_after=11), 11, 12),
        (ServiceUnavailable(retry_after=IN_A_DAY), 60_000, 72_100),
        (carrying(retry_after=10**9), 86_400, 86_400),
        (Busy("x"), 0, 1),
    ],
    ids=repr,
)
def test_a_failure_that_says_when_to_come_back_is_heeded(error, least, most):
    code = getattr(error, "code", None)
    result = Result(b"", code) if code else None
    options = TaskOptions(retries=1, backoff=1.0)

    wait = retry.wait_before_retry(options, 0, CallResult(result, "x", "X", error))

    assert least <= wait <= most


def test_a_views_own_retry_after_is_heeded():
    answer = CallResult(Result(b"", 503), "x", "HTTPError", retry_after="20")

    assert 20 <= retry.wait_before_retry(TaskOptions(retries=1, backoff=1.0), 0, answer) <= 21


def test_ceilings_double_up_to_the_longest():
    backoff = Backoff(first=2, longest=60)

    assert [backoff.ceiling(tries) for tries in range(1, 8)] == [2, 4, 8, 16, 32, 60, 60]
    assert backoff.ceiling(10_000) == 60


def test_waits_are_drawn_between_nothing_and_their_ceiling():
    waits = [Backoff(first=10, longest=10).wait(1) for _ in range(2000)]

    assert 0 <= min(waits) < 1
    assert 9 < max(waits) <= 10
    assert 4.5 < sum(waits) / len(waits) < 5.5


@pytest.mark.parametrize("values", [{"first": -1}, {"first": True}, {"longest": "5"}, {"longest": float("inf")}])
def test_a_backoff_of_nonsense_is_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Backoff(**values)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"retries": -1}, "retries"),
        ({"retries": True}, "retries"),
        ({"retries": "3"}, "retries"),
        ({"retry_on": "Busy"}, "retry_on"),
        ({"retry_on": ()}, "retry_on"),
        ({"retry_on": (Busy, BaseException)}, "retry_on"),
        ({"backoff": "2"}, "backoff"),
        ({"backoff": -2}, "backoff"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": None}, "max_attempts"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": True}, "timeout"),
        ({"timeout": "2"}, "timeout"),
        ({"on_interrupt": "restart"}, "on_interrupt"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_concurrency": 1.5}, "max_concurrency"),
        ({"priority": 1001}, "priority"),
        ({"priority": -1001}, "priority"),
    ],
)
def test_an_option_of_nonsense_is_refused_where_it_is_written(bg, options, named):
    with pytest.raises(ConfigurationError, match=named):
        bg.task(name="t", **options)


# -- while it waits ------------------------------------------------------------------------------------------------


@pytest.fixture
def waiting(make_app, bg):
    """An app with one thread, and a task that waits an hour for its second attempt."""
    app = make_app(runner="threads", workers=1)

    @bg.task(name="unlucky", retries=2, steps=["One", "Two"])
    def unlucky():
        with step("One"):
            current_task.update(fraction=0.5)
        raise RetryLater("the model is busy", after=3600)

    with app.app_context():
        handle = unlucky.submit()
        store = app.extensions["bgtasks"].store
        deadline = time.monotonic() + 10
        with app.extensions["bgtasks"].watcher.follow([handle.request_id]) as following:
            while handle.task.retry_at is None:
                assert time.monotonic() < deadline
                following.wait(1)
        yield app, store, handle


def test_the_wait_holds_no_thread(waiting, bg):
    *_, handle = waiting

    @bg.task(name="other")
    def other():
        return "ran"

    assert other.submit().wait(timeout=PATIENCE) == "ran"
    assert handle.status is Status.PROCESSING


def test_the_wait_stands_in_the_store_and_nobody_begins_before_it_is_over(waiting):
    _, store, handle = waiting

    task = handle.task

    assert (task.worker, task.failures) == (None, 1)
    assert timedelta(minutes=59) < task.retry_at - store.now() < timedelta(minutes=61)
    assert store.runnable(limit=10) == []
    with pytest.raises(AlreadyClaimed, match="it waits until"):
        store.claim(handle.request_id, worker="w", lease=timedelta(seconds=9))


def test_the_wait_is_seen_in_the_history_the_progress_and_the_document(waiting):
    app, _, handle = waiting

    [event] = history(app, handle.request_id, "retrying")
    document = app.test_client().get(f"/tasks/{handle.request_id}").get_json()

    assert event.data["seconds"] >= 3600
    assert handle.progress.details == "trying again (1 of 2): the model is busy"
    assert handle.progress.percentage == 50
    assert document["status"] == "processing"
    assert document["retry_at"] is not None
    assert document["progress"]["details"] == handle.progress.details


def test_a_task_that_waits_is_cancelled_at_once(waiting):
    _, _, handle = waiting

    assert handle.cancel().status is Status.CANCELLED


def test_the_waiting_client_gets_the_answer_of_the_last_attempt(make_app):
    app = make_app(runner="threads", endpoints=["process"])
    bg = app.extensions["bgtasks"].extension

    @app.post("/other")
    @bg.background(respond="prefer", retries=1, backoff=NOW)
    def other():
        if current_task.attempt == 1:
            raise Busy("x")
        return f"attempt {current_task.attempt}"

    @app.post("/process")
    def process():
        return "ok"

    response = app.test_client().post("/other")

    assert (response.status_code, response.text) == (200, "attempt 2")


def test_a_signal_tells_of_each_retry(app, bg):
    told = []

    def receiver(sender, *, task, event):
        told.append((event.type.value, task.failures))

    task = bg.task(name="t", retries=2, backoff=NOW)(failing(2))
    with signals.task_retrying.connected_to(receiver, app), app.app_context():
        task.submit()

    assert told == [("retrying", 1), ("retrying", 2)]


# -- a limit in time -----------------------------------------------------------------------------------------------


def test_an_attempt_that_takes_too_long_stops_at_its_next_report(make_app, bg):
    app = make_app(runner="threads")

    @bg.task(timeout=0.05)
    def endless():
        while True:
            current_task.update(details="still here")
            time.sleep(0.001)

    with app.app_context():
        handle = endless.submit()
        with pytest.raises(TaskFailed, match=r"longer than its timeout of 0\.05 s"):
            handle.wait(timeout=PATIENCE)
    assert handle.task.error_type == "TaskTimeout"


@pytest.mark.parametrize(("retry_on", "attempts"), [(Exception, 2), (TimeoutError, 2), (Busy, 1)])
def test_a_timeout_is_a_failure_like_any_other(make_app, bg, retry_on, attempts):
    app = make_app(runner="threads")

    @bg.task(timeout=0.05, retries=1, retry_on=retry_on, backoff=NOW)
    def slow():
        while current_task.attempt == 1:
            current_task.update(details="still here")
            time.sleep(0.001)
        return "in time"

    with app.app_context():
        done = slow.submit().wait_until_done(timeout=PATIENCE)

    assert done.attempt == attempts


def test_an_attempt_that_reports_nothing_is_ended_without_its_doing(make_app, bg, monkeypatch, caplog):
    monkeypatch.setattr(flusher_module, "OVERDUE_SECONDS", 0.05)
    app, gate, left = make_app(runner="threads", workers=1), threading.Event(), threading.Event()

    @bg.task(timeout=0.05)
    def stuck():
        gate.wait(10)
        left.set()
        return "too late"

    @bg.task
    def other():
        return "ran"

    with app.app_context():
        handle = stuck.submit()
        done = handle.wait_until_done(timeout=PATIENCE)
        assert other.submit().wait(timeout=PATIENCE) == "ran"  # on the one thread that there is: another one by now
        gate.set()
        assert left.wait(PATIENCE)
        app.extensions["bgtasks"].lifecycle.drain(10)

    assert (done.status, done.error_type) == (Status.FAILED, "TaskTimeout")
    assert handle.task == done
    assert "does not stop after its timeout" in caplog.text
