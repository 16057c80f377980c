"""A store that fails in the middle of a change: what is known is said, nothing is written twice, no task is blamed."""

import threading

import pytest

from flask_bgtasks import OutcomeUnknown, Status, StoreUnavailable, checkpoint, current_task
from flask_bgtasks.core.model import EventType
from flask_bgtasks.execution import flusher as flusher_module
from tests.support.http_app import PATIENCE, make

UNKNOWN = "/problems/#outcome-unknown"


@pytest.fixture
def studio(tmp_path):
    made = make("sqlite:///tasks.sqlite3", tmp_path)
    yield made
    made.state.close(grace=PATIENCE)


def _broken(_):
    raise OSError(5, "Input/output error")


@pytest.mark.parametrize("prefer", ["respond-async", None])
def test_a_task_whose_commit_may_not_be_on_disk_is_not_called_refused(studio, monkeypatch, prefer):
    client = studio.app.test_client()
    client.get("/tasks/health")
    with monkeypatch.context() as patch:
        patch.setattr("flask_bgtasks.stores.sql.drivers.wal_sync.os.fsync", _broken)
        answer = client.post("/process", json={"input_text": "x"}, headers={"Prefer": prefer} if prefer else {})

    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
    assert answer.json["type"].endswith(UNKNOWN)
    assert "Nothing was changed" not in answer.text
    request_id = answer.json["request_id"]
    assert answer.headers["Task-Id"] == request_id
    assert client.get(f"/tasks/{request_id}").status_code == 200  # it was stored


def test_a_stored_task_that_cannot_be_begun_is_not_called_refused(studio, monkeypatch):
    def away(*_, **__):
        raise StoreUnavailable("cannot connect to db.internal:5432")

    asked = {"json": {"input_text": "x"}, "headers": {"Idempotency-Key": "0123456789abcdef"}}
    with monkeypatch.context() as busy:  # nobody begins with it
        busy.setattr(studio.state.runner, "reserve", lambda: False)
        busy.setattr(studio.state.runner, "submit", lambda *_, **__: None)
        headers = {**asked["headers"], "Prefer": "respond-async"}
        assert studio.app.test_client().post("/legacy/dict", json=asked["json"], headers=headers).status_code == 202
        busy.setattr(studio.state.store, "claim", away)
        answer = studio.app.test_client().post("/legacy/dict", **asked)

    assert answer.json["type"].endswith(UNKNOWN)
    assert studio.state.store.get(answer.json["request_id"]).status is Status.STARTED


def test_a_stored_task_is_accepted_though_its_end_cannot_be_waited_for(studio, monkeypatch):
    def away(*_, **__):
        raise StoreUnavailable("cannot connect to db.internal:5432")

    monkeypatch.setattr(studio.state.watcher, "follow", away)

    answer = studio.app.test_client().post("/process", json={"input_text": "x"}, headers={"Prefer": "wait=5"})

    assert answer.status_code == 202
    assert studio.state.store.get(answer.json["request_id"])


@pytest.mark.parametrize("name", ["save_progress", "save_checkpoint"])
def test_reports_of_which_it_is_not_known_whether_they_are_stored_are_stored_once(make_app, bg, monkeypatch, name):
    app = make_app(store="memory://")
    store = app.extensions["bgtasks"].store
    save, failures, failed = getattr(store, name), [OutcomeUnknown("the connection was lost during a commit")], []

    def unreliable(*args, **kwargs):
        saved = save(*args, **kwargs)
        if failures and kwargs["entries"]:
            failed.append(True)
            raise failures.pop()
        return saved

    monkeypatch.setattr(store, name, unreliable)

    @bg.task
    def generate():
        for number in range(5):
            current_task.emit(number)
            checkpoint(f"Step {number}", lambda: None)

    with app.app_context():
        handle = generate.submit()
    assert handle.wait_until_done(timeout=PATIENCE).status is Status.COMPLETED

    events = store.events(handle.request_id)
    chunks = [chunk for event in events if event.type is EventType.OUTPUT for chunk in event.data["chunks"]]
    ended = [event.data["step"] for event in events if event.type is EventType.STEP_FINISHED]
    assert failed or name == "save_progress"  # else the checkpoints took it all
    assert chunks == list(range(5))
    assert ended == [f"Step {number}" for number in range(5)]


def test_a_checkpoint_that_cannot_be_stored_for_long_gives_the_task_back_and_does_not_fail_it(
    make_app, bg, monkeypatch
):
    app = make_app(store="memory://", runner="inline")
    state = app.extensions["bgtasks"]
    monkeypatch.setattr(flusher_module, "SAVE_PATIENCE_SECONDS", 0.0)
    save, refusals = state.store.save_checkpoint, [StoreUnavailable("locked")]

    def unreliable(*args, **kwargs):
        if refusals:
            raise refusals.pop()
        return save(*args, **kwargs)

    monkeypatch.setattr(state.store, "save_checkpoint", unreliable)

    @bg.task
    def generate():
        return checkpoint("Make", lambda: "made")

    with app.app_context():
        handle = generate.submit()
    task = handle.task
    assert (task.done, task.worker, task.failures, task.crashes) == (False, None, 0, 0)

    state.engine.run(handle.request_id)

    assert handle.wait(timeout=PATIENCE) == "made"
    ended = [event for event in state.store.events(handle.request_id) if event.type is EventType.STEP_FINISHED]
    assert [(event.attempt, event.data.get("checkpoint", False)) for event in ended] == [(1, False), (2, True)]


def test_progress_that_cannot_be_put_together_takes_no_output_with_it(make_app, bg, monkeypatch):
    app = make_app(store="memory://")
    begun, go = threading.Event(), threading.Event()

    @bg.task
    def generate():
        begun.set()
        assert go.wait(PATIENCE)
        current_task.emit("kept")

    with app.app_context():
        handle = generate.submit()
    assert begun.wait(PATIENCE)
    running = app.extensions["bgtasks"].engine._flusher.get(handle.request_id)
    progress, failures = running._progress, [RuntimeError("no time"), RuntimeError("no time")]

    def unreliable():
        if failures:
            raise failures.pop()
        return progress()

    monkeypatch.setattr(running, "_progress", unreliable)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            running.take()
    go.set()
    handle.wait_until_done(timeout=PATIENCE)

    events = app.extensions["bgtasks"].store.events(handle.request_id)
    assert [e.data["chunks"] for e in events if e.type is EventType.OUTPUT] == [["kept"]]
