"""A task that waits for another one: never a silent deadlock."""

import logging
import threading

import pytest

from flask_bgtasks import CancelRequested, WaitTimeout
from tests.support.waiting import PATIENCE


def submit(app, function, *args):
    with app.app_context():
        return function.submit(*args)


@pytest.mark.parametrize("workers", [1, 2])
def test_tasks_that_wait_for_subtasks_on_all_threads_come_to_their_end(make_app, bg, workers):
    app = make_app(workers=workers)
    together = threading.Barrier(workers)

    @bg.task
    def child(n):
        return n * 2

    @bg.task
    def parent(n):
        together.wait(20)  # every thread has a parent now
        return child.submit(n).wait(timeout=PATIENCE)

    handles = [submit(app, parent, n) for n in range(workers)]

    assert [handle.wait(timeout=PATIENCE) for handle in handles] == [n * 2 for n in range(workers)]


def test_a_chain_of_tasks_that_wait_for_each_other_needs_one_thread(make_app, bg):
    app = make_app(workers=1)

    @bg.task
    def count(n):
        return 0 if n == 0 else 1 + count.submit(n - 1).wait(timeout=PATIENCE)

    assert submit(app, count, 5).wait(timeout=PATIENCE) == 5


def test_a_subtask_that_may_not_begin_beside_its_parent_is_said(make_app, bg, caplog):
    app = make_app(workers=1)

    @bg.task(max_concurrency=1)
    def only(depth):
        if depth:
            only.submit(0).wait(timeout=1.5)

    with caplog.at_level(logging.WARNING, "flask_bgtasks"):
        failed = submit(app, only, 1).wait_until_done(timeout=PATIENCE)

    assert failed.error_type == WaitTimeout.__name__
    assert any("max_concurrency" in record.message for record in caplog.records)


def test_a_task_that_waits_notices_that_it_was_cancelled(make_app, bg):
    app = make_app(workers=2)
    waits, go_on, seen = threading.Event(), threading.Event(), []

    @bg.task
    def child():
        go_on.wait(20)

    @bg.task
    def parent():
        handle = child.submit()
        waits.set()
        try:
            handle.wait(timeout=PATIENCE)
        except CancelRequested:
            seen.append("cancelled")
            raise

    handle = submit(app, parent)
    assert waits.wait(20)
    handle.cancel()
    ended = handle.wait_until_done(timeout=PATIENCE)
    go_on.set()

    assert (ended.status.value, seen) == ("cancelled", ["cancelled"])
