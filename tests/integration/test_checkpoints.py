"""A checkpoint runs once per task, whatever the number of attempts, and gives its output out once per attempt."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from flask_bgtasks import (
    Backoff,
    NotSerializable,
    PayloadTooLarge,
    Status,
    TaskFailed,
    checkpoint,
    copy_current_task,
    current_task,
    step,
    track,
)
from flask_bgtasks.core.transitions.outside import Reopen
from flask_bgtasks.errors import StoreUnavailable
from flask_bgtasks.execution import flusher as flusher_module
from flask_bgtasks.runtime import processes
from flask_bgtasks.stores.types import TaskQuery
from tests.support.waiting import PATIENCE

STORES = ["memory://", "sqlite:///tasks.sqlite3"]


class Broken(Exception):
    """What an attempt of a test dies of."""


@pytest.fixture(params=STORES)
def app(request, make_app):
    return make_app(store=request.param, runner="inline")


@pytest.fixture
def twice(app, bg):
    """Runs a pipeline twice: its first attempt fails where it calls `fail_first()`. Gives the handle."""

    def run(pipeline, *args, **options):
        settings = {"name": "pipeline", "retries": 3, "backoff": Backoff(0), **options}
        function = bg.task(**settings)(pipeline)
        with app.app_context():
            return function.submit(*args)

    return run


def fail_first():
    if current_task.attempt == 1:
        raise Broken("the first attempt ends here")


def events(app, handle, *types):
    found = app.extensions["bgtasks"].store.events(handle.request_id)
    return [event for event in found if not types or event.type.value in types]


def steps(app, handle, mark):
    finished = events(app, handle, "step_finished")
    return [" > ".join(event.data["path"]) for event in finished if event.data.get(mark)]


# -- values --------------------------------------------------------------------------------------------------------


def test_a_checkpoint_that_finished_is_not_run_again(app, twice):
    calls = []

    def outline(text):
        calls.append(current_task.attempt)
        return text.split()

    def pipeline(text):
        headings = checkpoint("Outline", outline, text)
        fail_first()
        return headings

    handle = twice(pipeline, "a b")

    assert handle.wait(timeout=PATIENCE) == ["a", "b"]
    assert calls == [1]
    assert steps(app, handle, "checkpoint") == ["Outline"]
    assert steps(app, handle, "restored") == ["Outline"]


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}, {"a": [1, None, "ü"]}, 1.5])
def test_any_json_value_comes_back_as_it_was(twice, value):
    seen = []

    def pipeline():
        seen.append(checkpoint("Make", lambda: value))
        fail_first()

    twice(pipeline).wait(timeout=PATIENCE)

    assert seen == [value, value]
    assert type(seen[1]) is type(value)


def test_the_first_attempt_sees_what_a_later_one_would(twice):
    seen = []

    def pipeline():
        seen.append(checkpoint("Make", lambda: {"pair": (1, 2), 3: "key"}))
        fail_first()

    twice(pipeline).wait(timeout=PATIENCE)

    assert seen == [{"pair": [1, 2], "3": "key"}] * 2


def test_a_function_that_raises_stores_nothing_and_runs_again_while_those_before_do_not(twice):
    calls = []

    def flaky():
        calls.append("flaky")
        fail_first()
        return "done"

    def pipeline():
        checkpoint("Sound", calls.append, "sound")
        return checkpoint("Flaky", flaky)

    assert twice(pipeline).wait(timeout=PATIENCE) == "done"
    assert calls == ["sound", "flaky", "flaky"]


def test_what_is_not_json_is_said_with_its_place(app, twice, caplog):
    def pipeline():
        checkpoint("Draw", lambda: {"pictures": [{"bytes": b"..."}]})

    handle = twice(pipeline)

    with pytest.raises(TaskFailed, match=r"checkpoint 'Draw'.*value\['pictures'\]\[0\]\['bytes'\]"):
        handle.wait(timeout=PATIENCE)
    assert handle.task.error_type == NotSerializable.__name__
    assert handle.task.attempt == 1  # it would not be JSON the next time either
    assert steps(app, handle, "failed") == ["Draw"]


def test_a_value_that_is_too_large_is_refused(make_app, bg):
    app = make_app(runner="inline", max_result_bytes=1000)

    @bg.task
    def pipeline():
        checkpoint("Draw", lambda: "x" * 1001)

    with app.app_context():
        handle = pipeline.submit()

    with pytest.raises(TaskFailed, match=r"checkpoint 'Draw'.*BGTASKS_MAX_RESULT_BYTES"):
        handle.wait(timeout=PATIENCE)
    assert handle.task.error_type == PayloadTooLarge.__name__


def test_a_completed_task_keeps_no_checkpoints(app, twice):
    def pipeline():
        checkpoint("Make", lambda: 1)
        fail_first()

    handle = twice(pipeline)
    handle.wait(timeout=PATIENCE)

    assert app.extensions["bgtasks"].store.load_checkpoints(handle.request_id) == {}


def test_a_failed_task_that_is_retried_by_hand_goes_on_from_its_checkpoints(app, twice):
    calls = []

    def pipeline():
        checkpoint("Make", calls.append, "made")
        fail_first()
        return "done"

    handle = twice(pipeline, retries=0)
    assert handle.status is Status.FAILED
    handle.retry()

    assert handle.wait(timeout=PATIENCE) == "done"
    assert calls == ["made"]
    assert handle.task.attempt == 2


# -- which is which ------------------------------------------------------------------------------------------------


def test_repeated_names_are_told_apart(twice):
    calls = []

    def pipeline():
        made = [checkpoint("Section", lambda: calls.append(1) or len(calls)) for _ in range(3)]
        fail_first()
        return made

    assert twice(pipeline).wait(timeout=PATIENCE) == [1, 2, 3]
    assert len(calls) == 3


def test_the_same_name_in_another_step_is_another_checkpoint(twice):
    def pipeline():
        made = []
        for chapter in ("One", "Two"):
            with step(chapter):
                made.append(checkpoint("Write", lambda chapter=chapter: chapter))
        fail_first()
        return made

    assert twice(pipeline).wait(timeout=PATIENCE) == ["One", "Two"]


def test_inside_a_checkpoint_that_finished_nothing_is_reached_and_inside_another_what_finished_is_kept(app, twice):
    calls = []

    def part(name):
        calls.append(name)
        return name

    def whole(name, *, fails):
        made = [checkpoint("Part", part, f"{name}1"), checkpoint("Part", part, f"{name}2")]
        if fails:
            fail_first()
        return made

    def pipeline():
        first = checkpoint("First", lambda: whole("a", fails=False))
        return first + checkpoint("Second", lambda: whole("b", fails=True))

    handle = twice(pipeline)

    assert handle.wait(timeout=PATIENCE) == ["a1", "a2", "b1", "b2"]
    assert calls == ["a1", "a2", "b1", "b2"]
    assert steps(app, handle, "restored") == ["First", "Second > Part", "Second > Part"]
    assert "remarks" not in events(app, handle, "completed")[0].data


def test_in_threads_the_arguments_tell_calls_apart_whatever_their_order(app, twice):
    calls = []

    def draw(section):
        calls.append(section)
        return f"picture of {section}"

    def pipeline():
        sections = ["a", "b", "c"] if current_task.attempt == 1 else ["c", "a", "b"]
        with ThreadPoolExecutor(3) as pool:
            drawn = copy_current_task(lambda section: checkpoint("Draw", draw, section))
            made = dict(zip(sections, pool.map(drawn, sections), strict=True))
        fail_first()
        return made

    handle = twice(pipeline)

    assert handle.wait(timeout=PATIENCE) == {name: f"picture of {name}" for name in "abc"}
    assert sorted(calls) == ["a", "b", "c"]
    assert "remarks" not in events(app, handle, "completed")[0].data


def test_other_arguments_run_again_and_it_is_said(app, twice, caplog):
    calls = []

    def pipeline():
        checkpoint("Write", calls.append, f"draft {current_task.attempt}")
        fail_first()

    handle = twice(pipeline)
    handle.wait(timeout=PATIENCE)

    assert calls == ["draft 1", "draft 2"]
    remarks = events(app, handle, "completed")[0].data["remarks"]
    assert remarks[0] == "checkpoint 'Write' has other arguments than in an earlier attempt: it runs again"
    assert remarks[0] in caplog.text


def test_a_checkpoint_that_is_no_longer_reached_is_said(app, twice, caplog):
    def pipeline():
        checkpoint("Outline", lambda: 1)
        if current_task.attempt == 1:
            checkpoint("Draft", lambda: 2)
        fail_first()

    handle = twice(pipeline)
    handle.wait(timeout=PATIENCE)

    [remark] = events(app, handle, "completed")[0].data["remarks"]
    assert remark.startswith("checkpoint 'Draft' of an earlier attempt was not reached")
    assert remark in caplog.text


def test_another_order_is_said_and_the_values_are_used(app, twice):
    calls = []

    def pipeline():
        names = ["One", "Two"] if current_task.attempt == 1 else ["Two", "One"]
        for name in names:
            checkpoint(name, calls.append, name)
        fail_first()

    handle = twice(pipeline)
    handle.wait(timeout=PATIENCE)

    assert calls == ["One", "Two"]
    [remark] = events(app, handle, "completed")[0].data["remarks"]
    assert remark == "checkpoint 'One' came earlier in the attempt that stored it: its value is used"


def test_arguments_that_are_no_json_are_told_apart_by_their_order(twice):
    calls = []

    def look(thing):
        calls.append(thing)
        return len(calls)

    def pipeline():
        made = [checkpoint("Look", look, object()), checkpoint("Look", look, {1: object(), "a": 2})]
        made.append(checkpoint("Look", look, object()))
        fail_first()
        return made

    assert twice(pipeline).wait(timeout=PATIENCE) == [1, 2, 3]
    assert len(calls) == 3


# -- forms ---------------------------------------------------------------------------------------------------------


def test_as_a_decorator_each_call_is_a_checkpoint(app, twice):
    calls = []

    @checkpoint
    def outline(text):
        """Its own text."""
        calls.append("outline")
        return text.split()

    @checkpoint("Proofread")
    async def proofread(text):
        await asyncio.sleep(0)
        calls.append("proofread")
        return text.strip()

    async def pipeline():
        made = [outline("a b"), await proofread(" c "), await checkpoint("Count", count)]
        fail_first()
        return made

    async def count():
        calls.append("count")
        return len(calls)

    handle = twice(pipeline)

    assert outline.__doc__ == "Its own text."
    assert handle.wait(timeout=PATIENCE) == [["a", "b"], "c", 3]
    assert calls == ["outline", "proofread", "count"]
    assert steps(app, handle, "restored") == ["outline", "Proofread", "Count"]


def test_outside_a_task_it_just_calls():
    assert checkpoint("Make", lambda: (1, b"bytes")) == (1, b"bytes")
    assert asyncio.run(checkpoint("Make", _async_value)) == (1,)


async def _async_value():
    return (1,)


def test_in_code_that_runs_where_it_stands_it_is_a_step(make_app, bg):
    app = make_app()

    with app.app_context(), bg.track_request(name="import") as task:
        value = checkpoint("Read", lambda: (1, 2))

    assert value == (1, 2)
    found = app.extensions["bgtasks"].store.events(task.request_id)
    assert [event.data["step"] for event in found if event.type.value == "step_finished"] == ["Read"]


@pytest.mark.parametrize("arguments", [(), ("",), (3,), ("Make", 3), (len, len)])
def test_wrong_use_is_a_type_error(arguments):
    with pytest.raises(TypeError):
        checkpoint(*arguments)


# -- progress and output -------------------------------------------------------------------------------------------


def test_the_percentage_never_falls_and_the_resumed_attempt_says_so(app, twice):
    def pipeline():
        checkpoint("One", lambda: 1)
        with step("Two"):
            current_task.update(fraction=0.5, details="half")
            fail_first()
        checkpoint("Three", lambda: 3)

    handle = twice(pipeline, steps=["One", "Two", "Three"])
    handle.wait(timeout=PATIENCE)

    shown = [e.data["progress_percentage"] for e in events(app, handle) if "progress_percentage" in e.data]
    assert shown == sorted(shown)
    assert shown[-1] == 100
    retrying = events(app, handle, "retrying")[0]
    assert retrying.data["details"] == "trying again (1 of 3): the first attempt ends here"


def test_an_attempt_that_catches_up_says_which_it_is(make_app, bg):
    app, gate = make_app(runner="threads", workers=1), threading.Event()

    @bg.task(steps=["One", "Two"], retries=1, backoff=Backoff(0))
    def pipeline():
        checkpoint("One", lambda: 1)
        with step("Two", details="drawing"):
            if current_task.attempt == 1:
                current_task.update(fraction=0.5)
                raise Broken("no")
            assert gate.wait(PATIENCE)

    with app.app_context():
        handle = pipeline.submit()
        sink = app.extensions["bgtasks"].plugins.get("memory")
        sink.wait_for(lambda sink: [p for _, p in sink.progress if p.details == "drawing (resumed, attempt 2)"])
        gate.set()
        handle.wait(timeout=PATIENCE)


def test_the_newest_attempts_output_is_complete_and_nothing_in_it_is_double(app, twice):
    def write(name):
        current_task.emit(f"{name}1 ")
        current_task.emit(f"{name}2 ")
        return name

    def pipeline():
        current_task.emit("title ")
        checkpoint("A", write, "a")
        checkpoint("Outer", lambda: checkpoint("B", write, "b"))
        current_task.emit("cut ")
        fail_first()
        checkpoint("C", write, "c")

    handle = twice(pipeline)
    handle.wait(timeout=PATIENCE)

    outputs = {1: [], 2: []}
    for event in events(app, handle, "output"):
        assert event.data["offset"] == len(outputs[event.attempt])
        outputs[event.attempt] += event.data["chunks"]
    assert "".join(outputs[1]) == "title a1 a2 b1 b2 cut "
    assert "".join(outputs[2]) == "title a1 a2 b1 b2 cut c1 c2 "


def test_a_restored_step_teaches_no_duration(app, twice):
    def pipeline():
        checkpoint("One", lambda: 1)
        fail_first()
        with step("Two"):
            list(track([1]))

    twice(pipeline).wait(timeout=PATIENCE)

    assert list(app.extensions["bgtasks"].store.load_durations("pipeline")) == ["Two"]


# -- crashes and zombies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", STORES)
def test_an_attempt_whose_lease_was_lost_goes_on_elsewhere_and_its_own_end_counts_for_nothing(make_app, bg, store):
    app, calls = make_app(store=store, runner="inline"), []
    entered, gate = threading.Event(), threading.Event()

    def work(name):
        calls.append((name, current_task.attempt))
        if name == "two" and current_task.attempt == 1:
            entered.set()
            assert gate.wait(PATIENCE)
        return name

    @bg.task
    def pipeline():
        return [checkpoint(name, work, name) for name in ("one", "two", "three")]

    state = app.extensions["bgtasks"]
    with app.app_context():
        zombie = threading.Thread(target=_in(app, pipeline))
        zombie.start()
        assert entered.wait(PATIENCE)
        [task] = state.store.find(TaskQuery()).tasks
        assert state.store.expire_leases(processes.me()) == 1
        state.engine.run(task.request_id)
        done = state.store.get(task.request_id)
        gate.set()
        zombie.join(10)

    assert (done.status, done.attempt, done.crashes) == (Status.COMPLETED, 2, 0)  # it finished a checkpoint
    assert calls == [("one", 1), ("two", 1), ("two", 2), ("three", 2)]
    assert state.store.get(task.request_id) == done
    started = [e for e in state.store.events(task.request_id) if e.type.value == "started"]
    assert [event.data for event in started] == [{}, {"recovered": True}]


def _in(app, function):
    def submit():
        with app.app_context():
            function.submit()

    return submit


def test_a_store_that_is_out_of_reach_is_asked_again_for_a_checkpoint(make_app, bg, monkeypatch):
    app, refusals = make_app(runner="inline"), [StoreUnavailable("full"), StoreUnavailable("locked")]
    store = app.extensions["bgtasks"].store
    save = store.save_checkpoint

    def unreliable(*args, **kwargs):
        if refusals:
            raise refusals.pop()
        return save(*args, **kwargs)

    monkeypatch.setattr(store, "save_checkpoint", unreliable)
    monkeypatch.setattr(flusher_module.time, "sleep", lambda seconds: None)

    @bg.task
    def pipeline():
        return checkpoint("Make", lambda: "made")

    with app.app_context():
        handle = pipeline.submit()

    assert handle.wait(timeout=PATIENCE) == "made"
    assert not refusals


def test_reopening_keeps_what_is_stored(app, twice):
    def pipeline():
        checkpoint("Make", lambda: 1)
        raise Broken("always")

    handle = twice(pipeline, retries=0)
    store = app.extensions["bgtasks"].store
    store.transition(handle.request_id, Reopen())

    assert len(store.load_checkpoints(handle.request_id)) == 1
