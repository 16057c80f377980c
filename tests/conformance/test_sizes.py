"""What is large, in every store: an event, a checkpoint's output, a report of many events, an error's text."""

import pytest

from flask_bgtasks.core.model import Checkpoint, Entry, EventType, Progress, Result
from flask_bgtasks.core.text.clean import MAX_TEXT
from flask_bgtasks.core.transitions.attempt import Complete, Fail, Report
from tests.support.tasks import T0

MIB = 2**20


def output(*chunks, offset=0):
    return Entry(EventType.OUTPUT, T0, {"offset": offset, "chunks": list(chunks)})


@pytest.mark.parametrize("chunk", ["x" * (2 * MIB), "é" * MIB, [["nested"] * 40] * 3000], ids=["ascii", "not", "json"])
def test_output_larger_than_a_document_comes_back_as_it_was(bench, store, chunk):
    task = bench.running()

    store.save_progress(task.request_id, attempt=1, progress=None, entries=[output("before"), output(chunk, offset=1)])

    events = store.events(task.request_id, after=2)
    assert [event.data["chunks"] for event in events] == [["before"], [chunk]]


def test_a_task_with_large_output_ends_and_is_erased(bench, store):
    task = bench.running()
    large = output("x" * (3 * MIB))

    outcome = store.transition(task.request_id, Complete(1, Result(b"y" * (2 * MIB)), entries=(large,)))
    assert (outcome.task.done, store.load_result(task.request_id).body) == (True, b"y" * (2 * MIB))

    store.delete(task.request_id)
    assert store.versions([task.request_id]) == {}


def test_a_checkpoint_keeps_output_larger_than_a_document(bench, store):
    task = bench.running()
    head = {"name": "Write", "output": ["x" * (2 * MIB)]}

    store.save_checkpoint(task.request_id, attempt=1, checkpoint=Checkpoint("k", head, b'"small"'), progress=None)

    stored = store.load_checkpoints(task.request_id)["k"]
    assert (stored.head, stored.body) == (head, b'"small"')


def test_a_small_checkpoint_is_as_it_was(bench, store):
    task = bench.running()
    made = Checkpoint("k", {"name": "é"}, b"1" * (2 * MIB))

    store.transition(task.request_id, Report(1, checkpoint=made))

    assert store.load_checkpoints(task.request_id) == {"k": made}


def test_an_error_message_is_truncated_with_an_ellipsis(bench, store):
    task = bench.running()

    store.transition(task.request_id, Fail(1, "é" * MIB))

    message = store.get(task.request_id).error_message
    assert (len(message), message[-1]) == (MAX_TEXT, "…")
    assert store.events(task.request_id)[-1].data["error_message"] == message


def test_progress_with_large_texts_is_stored(bench, store):
    task = bench.running()

    shown = Progress(T0, 1, step="s" * MIB, details="é" * MIB)
    store.save_progress(task.request_id, attempt=1, progress=shown)

    stored = store.get(task.request_id).progress
    assert stored.step.startswith("sss")
    assert stored.details.startswith("ééé")


def test_history_that_is_trimmed_takes_its_large_events_along(bench, store):
    task = bench.running()
    store.save_progress(task.request_id, attempt=1, progress=None, entries=[output("x" * MIB)])

    for first in range(0, 600, 200):
        many = [output(n, offset=n) for n in range(first, first + 200)]
        store.save_progress(task.request_id, attempt=1, progress=None, entries=many)

    events = store.events(task.request_id)
    assert events[0].seq > 3
    assert events[-1].data["chunks"] == [599]
