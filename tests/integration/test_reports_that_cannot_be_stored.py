"""Whatever a task reports: it goes on, its lease is renewed, and what cannot be kept is said where it was given."""

import contextlib
import threading
from decimal import Decimal

import pytest

from flask_bgtasks import NotSerializable, checkpoint, current_task, step, track
from flask_bgtasks.core.model import EventType
from flask_bgtasks.stores.memory.store import MemoryStore
from tests.support.waiting import PATIENCE, until

numpy = pytest.importorskip("numpy")


class Broken:
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.fixture(params=["memory", "sqlite"])
def app(request, make_app, tmp_path):
    return make_app(store="memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/tasks.sqlite3")


@pytest.fixture
def run(app, bg):
    def call(body):
        task = bg.task(name="work")(body)
        with app.app_context():
            handle = task.submit()
            handle.wait(timeout=PATIENCE)
        store = app.extensions["bgtasks"].store
        return handle.task, store.events(handle.request_id, limit=10_000)

    return call


def chunks(events):
    return [chunk for event in events if event.type is EventType.OUTPUT for chunk in event.data["chunks"]]


def report_numpy():
    with step("Draw", weight=numpy.float32(2)):
        for number in track(numpy.arange(3), total=numpy.int64(3)):
            current_task.update(fraction=numpy.float32(0.25 * number), details=numpy.float64(number))


def report_what_changes():
    with step("Draw"):
        changing = {"n": 1}
        current_task.emit(changing)
        changing["n"] = threading.Lock()
        changing[object()] = changing


def report_details_without_text():
    with step("Draw", details=Broken()):
        current_task.update(details=Broken())


def report_600_nested_steps():
    with contextlib.ExitStack() as steps:
        for number in range(600):
            steps.enter_context(step(f"Step {number}"))
        current_task.update(fraction=0.5)
        checkpoint("Deepest", lambda: 1)
        current_task.emit("deep")


@pytest.mark.parametrize(
    "report",
    [report_numpy, report_what_changes, report_details_without_text, report_600_nested_steps],
    ids=lambda report: report.__name__,
)
def test_an_accepted_report_never_ends_its_task(run, report):
    task, events = run(report)

    assert (task.status.value, task.attempt) == ("completed", 1)
    assert task.progress is not None
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


def test_a_chunk_that_cannot_be_stored_is_refused_where_it_is_given_and_loses_no_other(run):
    refused = []

    def work():
        with step("Price"):
            for chunk in ("a", Decimal("1.5"), "b", numpy.float32(1), {"price": Decimal(1)}, "c"):
                try:
                    current_task.emit(chunk)
                except NotSerializable as error:
                    refused.append(str(error))

    task, events = run(work)

    assert task.status.value == "completed"
    assert chunks(events) == ["a", "b", "c"]
    assert [("Decimal" in text or "float32" in text) for text in refused] == [True] * 3


def test_a_step_that_is_nested_too_deep_to_be_shown_whole_is_said_once_at_the_step(run, caplog):
    def work():
        for _ in range(2):
            with contextlib.ExitStack() as steps:
                for number in range(25):
                    steps.enter_context(step(f"Step {number}"))

    run(work)

    said = [record for record in caplog.records if "nested deeper than" in record.message]
    assert len(said) == 1
    assert "'Step 20'" in said[0].message


class Choosy(MemoryStore):
    """Stores no report that says "poison", and says so in a way that nobody has foreseen."""

    def save_progress(self, request_id, *, entries=(), **report):
        if any("poison" in str(entry.data) for entry in entries):
            raise ValueError("no poison")
        return super().save_progress(request_id, entries=entries, **report)


def test_a_report_that_the_store_refuses_takes_none_with_it_that_waits_beside_it(make_app, bg, caplog, monkeypatch):
    monkeypatch.setattr("flask_bgtasks.stores.memory.store.MemoryStore", Choosy)
    app = make_app(progress_interval=0.2, lease_seconds=1)

    @bg.task
    def work():
        with step("Write"):
            current_task.emit("a")
        with step("poison"):
            pass
        with step("Draw"):
            current_task.emit("b")
            until(lambda: "cannot be stored and are lost" in caplog.text)
            before = state.store.get(current_task.request_id).lease_until
            until(lambda: state.store.get(current_task.request_id).lease_until > before)

    state = app.extensions["bgtasks"]
    with app.app_context():
        handle = work.submit()
        handle.wait(timeout=PATIENCE)

    events = state.store.events(handle.request_id)
    assert handle.task.attempt == 1
    assert chunks(events) == ["a", "b"]
    assert [event.data["step"] for event in events if event.type is EventType.STEP_FINISHED] == ["Write", "Draw"]
