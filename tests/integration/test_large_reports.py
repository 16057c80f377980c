"""A pipeline that reports megabytes, or thousands of steps, comes to its end on every store, and nothing is lost."""

import time

import pytest

from flask_bgtasks import StoreUnavailable, current_task, step
from tests.support.http_app import PATIENCE, make
from tests.support.waiting import until

MIB = 2**20


@pytest.fixture(params=["memory", "sqlite", "firestore"])
def studio(request, tmp_path):
    if request.param == "firestore":
        pytest.importorskip("google.cloud.firestore")
        store = f"firestore://{request.getfixturevalue('firestore_project')}"
    else:
        store = "memory://" if request.param == "memory" else "sqlite:///tasks.sqlite3"
    made = make(store, tmp_path, runner="inline", progress_interval=60)
    client = made.app.test_client()
    until(lambda: client.post("/process", json={"input_text": "x"}).status_code != 503)  # the first calls
    yield made
    made.state.close(grace=PATIENCE)


def run(studio, function):
    work = studio.bgtasks.task(name="work")(function)
    with studio.app.app_context():
        return work.submit()


def history(studio, request_id):
    events, after, deadline = [], 0, time.monotonic() + PATIENCE
    while True:
        try:
            found = studio.state.store.events(request_id, after=after)
        except StoreUnavailable:  # a busy machine's emulator does not give a thousand events within two seconds
            assert time.monotonic() < deadline, "the store does not answer"
            continue
        if not found:
            return events
        events += found
        after = found[-1].seq


def chunks(events):
    return [chunk for event in events if event.type == "output" for chunk in event.data["chunks"]]


def test_one_chunk_larger_than_a_document(studio):
    large = "é" * MIB

    handle = run(studio, lambda: current_task.emit(large))

    assert handle.task.status == "completed"
    assert chunks(history(studio, handle.request_id)) == [large]


def test_many_chunks_between_two_writes(studio):
    given = ["x" * 3000] * 1000

    def work():
        for chunk in given:
            current_task.emit(chunk)

    handle = run(studio, work)

    events = history(studio, handle.request_id)
    assert handle.task.status == "completed"
    assert chunks(events) == given
    offsets = [event.data["offset"] for event in events if event.type == "output"]
    assert len(offsets) > 5
    assert offsets == sorted(offsets)


def test_hundreds_of_steps_between_two_writes(studio):
    def work():
        for number in range(500):
            with step(f"Step {number}"):
                pass

    handle = run(studio, work)

    names = [event.data["step"] for event in history(studio, handle.request_id) if event.type == "step_finished"]
    assert handle.task.status == "completed"
    assert names == [f"Step {number}" for number in range(500)]


def test_a_checkpoint_whose_step_gave_megabytes(studio):
    from flask_bgtasks import checkpoint

    def write():
        current_task.emit("y" * 2 * MIB)
        return "value"

    handle = run(studio, lambda: checkpoint("Write", write))

    assert handle.task.status == "completed"
    assert chunks(history(studio, handle.request_id)) == ["y" * 2 * MIB]


def test_an_error_with_a_page_of_text(studio):
    def work():
        raise ValueError("z" * 3 * MIB)

    handle = run(studio, work)

    assert handle.task.status == "failed"
    assert handle.task.error_message.startswith("zzz")
