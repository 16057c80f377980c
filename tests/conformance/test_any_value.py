"""Whatever an app reports, every store keeps it, or says that it cannot; and what it learns has a bound."""

from datetime import timedelta

import pytest

from flask_bgtasks.core.model import Entry, EventType, Progress, Result, Status
from flask_bgtasks.core.text.clean import identity
from flask_bgtasks.core.transitions.attempt import Cancel, Complete, Fail, Retry
from flask_bgtasks.errors import StoreUnavailable
from flask_bgtasks.stores import averages
from tests.support.tasks import T0

HALF = "half \ud83d\x00"
CLEAN = "half \ufffd\ufffd"


class Lazy:
    def __str__(self):
        return HALF


@pytest.mark.parametrize(
    "message", [HALF, Lazy(), {"message": "x"}, ["x"], 10**5000, "x" * 100_000], ids=lambda m: type(m).__name__
)
def test_any_message_ends_a_task(bench, store, message):
    task = bench.running()
    store.transition(task.request_id, Fail(1, message, HALF))
    failed = store.get(task.request_id)

    assert (failed.status, failed.error_type) == (Status.FAILED, CLEAN)
    assert 0 < len(failed.error_message) <= 1000
    failed.error_message.encode()


def test_any_message_lets_a_task_be_tried_again(bench, store):
    task = bench.running()
    store.transition(task.request_id, Retry(1, {"no": HALF}, timedelta(0), 3))

    assert "{'no'" in store.get(task.request_id).progress.details


@pytest.mark.parametrize("percentage", [float("nan"), float("inf"), -1.0, 1e300])
def test_any_progress_is_kept_with_clean_texts_and_finite_numbers(bench, store, percentage):
    task = bench.running()
    progress = Progress(T0, 1, percentage, HALF, 1, 2, HALF * 1000, eta_seconds=float("inf"))
    store.save_progress(task.request_id, attempt=1, progress=progress)
    store.transition(task.request_id, Cancel(1, progress=progress))
    kept = store.get(task.request_id).progress

    assert (kept.step, kept.percentage, kept.eta_seconds) == (CLEAN, 0.0, None)
    assert len(kept.details) == 1000
    kept.details.encode()


def test_a_result_of_any_content_type_is_kept(bench, store):
    task = bench.running()
    store.transition(task.request_id, Complete(1, Result(b"x", 200, HALF, (("Location", HALF),))))

    assert store.get(task.request_id).result_type == CLEAN
    assert store.load_result(task.request_id).body == b"x"


def test_a_value_that_no_column_holds_is_no_outage(bench, store):
    task = bench.running()
    try:
        store.transition(task.request_id, Complete(1, Result(b"x", 10**30)))
    except StoreUnavailable:
        pytest.fail("it would be tried again for a minute, and then taken for a dead process")
    except Exception:
        store.transition(task.request_id, Fail(1, "its end cannot be stored"))

    assert store.get(task.request_id).done


def test_a_report_of_many_megabytes_is_kept(bench, store):
    task = bench.running()
    chunks = ["ü" * 400_000, *(str(n) * 100_000 for n in range(10, 40))]  # 2.4 MB in one, 6 MB in many
    entries = [Entry(EventType.OUTPUT, T0, {"offset": n, "chunks": [chunk]}) for n, chunk in enumerate(chunks)]
    store.save_progress(task.request_id, attempt=1, progress=None, entries=entries)
    kept = [event.data["chunks"][0] for event in store.events(task.request_id) if event.type is EventType.OUTPUT]

    assert kept == chunks
    assert [event.data["offset"] for event in store.events(task.request_id, after=20, limit=3)] == [18, 19, 20]


def test_steps_that_are_named_after_their_data_do_not_fill_the_durations(store):
    for run in range(4):
        store.save_durations("process", {"Outline": 1.0, **{f"Section {run}-{n}": 1.0 for n in range(90)}})
    learnt = store.load_durations("process")

    assert len(learnt) == averages.MAX_STEP_NAMES
    assert next(iter(learnt)) == "Outline"
    assert learnt["Outline"].runs == 4
    assert "Section 3-89" in learnt
    assert "Section 0-0" not in learnt


def test_tasks_that_are_named_after_their_data_do_not_fill_the_durations(bench, store, monkeypatch):
    monkeypatch.setattr(averages, "MAX_TASK_NAMES", 20)
    if hasattr(store, "_firestore"):
        monkeypatch.setattr("flask_bgtasks.stores.firestore.durations.MAX_TASK_NAMES", 20)
    store.save_durations("daily", {"a": 1.0})
    store.save_durations("daily", {"a": 1.0})
    for n in range(30):
        store.save_durations(f"Report {n}", {"a": 1.0})
    kept = [n for n in range(30) if store.load_durations(f"Report {n}")]

    assert 17 <= len(kept) <= 19
    assert kept[-1] == 29
    assert store.load_durations("daily")["a"].runs == 2


def test_the_longest_names_are_kept(bench, store):
    name, owner, step = (identity(letter * 5000) for letter in "ü漢😀")
    task = bench.create(name=name, owner=owner)
    store.save_durations(name, {step: 1.0})

    assert store.get(task.request_id).owner == owner
    assert list(store.load_durations(name)) == [step]
