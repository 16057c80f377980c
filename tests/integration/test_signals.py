"""The blinker signals, each with who is told what."""

import threading

import pytest

from flask_bgtasks import TaskCancelled, TaskFailed, current_task, signals, step
from tests.support.waiting import PATIENCE


@pytest.fixture
def heard(make_app):
    """Listens to every signal of an app; gives the app and what was heard."""
    app, rows, receivers = make_app(), [], []
    for name, signal in vars(signals).items():
        if isinstance(signal, signals.Signal):

            def receive(sender, _name=name, **values):
                rows.append((_name, sender, values))

            signal.connect(receive, app)
            receivers.append(receive)  # blinker holds receivers weakly
    return app, rows, receivers


def names(rows):
    return [name for name, _, _ in rows]


def test_a_tasks_life_is_told_in_order_with_the_app_as_sender(heard, bg):
    app, rows, _ = heard

    @bg.task
    def generate():
        with step("Write"):
            pass

    with app.app_context():
        handle = generate.submit()
        handle.wait(timeout=PATIENCE)

    assert names(rows) == ["task_accepted", "task_started", "step_started", "step_finished", "task_completed"]
    assert all(sender is app for _, sender, _ in rows)
    assert rows[0][2]["task"].request_id == handle.request_id
    assert rows[2][2] == {"request_id": handle.request_id, "step": ["Write"]}
    assert rows[3][2]["seconds"] >= 0


def test_failure_cancellation_and_retry_are_told(heard, bg):
    app, rows, _ = heard
    entered, go_on = threading.Semaphore(0), threading.Event()

    @bg.task
    def fail():
        raise ValueError("no")

    @bg.task
    def wait():
        entered.release()
        assert go_on.wait(PATIENCE)
        current_task.update(details="…")

    with app.app_context():
        failed = fail.submit()
        with pytest.raises(TaskFailed):
            failed.wait(timeout=PATIENCE)
        failed.retry()
        with pytest.raises(TaskFailed):
            failed.wait(timeout=PATIENCE)
        waiting = wait.submit()
        assert entered.acquire(timeout=PATIENCE)
        waiting.cancel()
        go_on.set()
        with pytest.raises(TaskCancelled):
            waiting.wait(timeout=PATIENCE)

    told = names(rows)
    assert told.count("task_failed") == 2
    assert told.count("task_retrying") == 1
    assert told[-1] == "task_cancelled"


def test_progress_is_told_when_it_is_stored(heard, bg):
    app, rows, _ = heard
    told, done = threading.Event(), threading.Event()

    def receive(sender, task, progress):
        if progress.details == "half":
            told.set()

    signals.task_progress.connect(receive, app)

    @bg.task
    def generate():
        current_task.update(details="half", fraction=0.5)
        assert told.wait(PATIENCE)

    with app.app_context():
        generate.submit().wait(timeout=PATIENCE)
    done.set()

    assert ("task_progress", 50.0) in [(n, v["progress"].percentage) for n, _, v in rows if "progress" in v]


def test_a_receiver_that_raises_hurts_nobody(make_app, bg, caplog):
    app, heard = make_app(), []

    def broken(sender, **_):
        raise RuntimeError("receiver")

    def good(sender, **_):
        heard.append(1)

    signals.task_started.connect(broken, app)
    signals.task_started.connect(good, app)

    @bg.task
    def generate():
        return 1

    with app.app_context():
        assert generate.submit().wait(timeout=PATIENCE) == 1

    assert heard == [1]
    assert "a receiver of" in caplog.text


def test_take_over_from_a_dead_process_is_told(heard, bg):
    from datetime import timedelta

    app, rows, _ = heard

    @bg.task
    def generate():
        return current_task.attempt

    state = app.extensions["bgtasks"]
    with app.app_context():
        task = state.submit(generate.definition, {"args": [], "kwargs": {}}, run=False).task
        state.engine.give_back(task.request_id)
        state.store.claim(task.request_id, worker="dead", lease=timedelta(seconds=-1))
        state.engine.run(task.request_id)

        assert bg.get(task.request_id).wait(timeout=PATIENCE) == 3
    assert names(rows).count("task_recovered") == 1
