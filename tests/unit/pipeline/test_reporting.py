"""What pipeline code touches, driven without an engine."""

import asyncio
import contextlib
import gc
import itertools
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from flask_bgtasks import (
    CancelRequested,
    NotSerializable,
    PayloadTooLarge,
    copy_current_task,
    current_task,
    step,
    track,
)
from flask_bgtasks.core.steps import Expected, StepNode, StepTree
from flask_bgtasks.pipeline import reporting
from tests.support.tasks import T0


@pytest.fixture
def make_running():
    def make(*steps, max_output_bytes=1000):
        ticks = itertools.count()
        running = reporting.RunningAttempt(
            request_id="00000000-0000-4000-8000-000000000000",
            attempt=1,
            owner="ada",
            plan=StepTree(started=0.0, expected=[Expected(s) for s in steps], durations={}),
            clock=lambda: T0 + timedelta(seconds=next(ticks)),
            monotonic=lambda: 0.0,
            max_output_bytes=max_output_bytes,
        )
        reporting.enter(running)
        return running

    yield make
    reporting.leave(None)


def kinds(entries):
    return [(entry.type.value, entry.data.get("step")) for entry in entries]


def test_everything_is_a_harmless_no_op_outside_a_task():
    with step("Draw", details="a cat"):
        current_task.update(details="…", fraction=0.5)
        current_task.emit("text")
        items = list(track([1, 2, 3]))

    assert items == [1, 2, 3]
    assert not current_task
    assert (current_task.request_id, current_task.owner, current_task.attempt) == (None, None, 0)
    assert current_task.cancelled is False


def test_a_task_is_known_to_its_pipeline(make_running):
    make_running()

    assert current_task
    assert (current_task.owner, current_task.attempt) == ("ada", 1)


def test_steps_leave_entries_in_order_and_progress_says_where_it_is(make_running):
    running = make_running("Outline", "Write")
    with step("Outline"):
        pass
    with step("Write", details="8 sections"):
        entries, progress = running.take()

    assert kinds(entries) == [("step_started", "Outline"), ("step_finished", "Outline"), ("step_started", "Write")]
    assert (progress.step, progress.step_number, progress.total_steps) == ("Write", 2, 2)
    assert (progress.details, progress.percentage) == ("8 sections", 50.0)


def test_a_nested_step_is_told_in_the_details_of_its_top_level_step(make_running):
    running = make_running("Write")
    with step("Write"), step("Section"):
        current_task.update(details="first draft")
        _, progress = running.take()

    assert (progress.step, progress.details) == ("Write", "Section: first draft")


def test_between_two_steps_the_last_one_is_still_shown(make_running):
    running = make_running("Outline", "Write")
    with step("Outline"):
        pass
    _, progress = running.take()

    assert (progress.step, progress.step_number) == ("Outline", 1)


def test_track_advances_the_current_step(make_running):
    running = make_running("Write")
    seen = []
    with step("Write"):
        for _ in track(["a", "b", "c", "d"]):
            _, progress = running.take()
            seen.append((progress.percentage, progress.details))

    assert seen == [(0.0, "1 of 4"), (25.0, "2 of 4"), (50.0, "3 of 4"), (75.0, "4 of 4")]


def test_track_leaves_details_alone_that_the_step_gave_itself(make_running):
    running = make_running("Write")
    with step("Write", details="sections"):
        for _ in track([1, 2]):
            pass
        _, progress = running.take()

    assert progress.details == "sections"
    assert progress.percentage == 100.0


def test_track_takes_generators_with_a_total_and_without(make_running):
    running = make_running("Write")
    with step("Write"):
        for _ in track((x for x in "ab"), total=2):
            pass
        assert running.take()[1].percentage == 100.0
    with step("Write"):
        for _ in track(x for x in "ab"):
            pass
        assert running.take()[1].details == "2"


def test_an_update_that_says_nothing_new_to_the_store_is_not_a_write(make_running):
    running = make_running("Write")
    with step("Write"):
        running.take()

        assert running.take() == ((), None)


def test_a_fraction_outside_0_to_1_is_refused(make_running):
    make_running()

    with pytest.raises(ValueError, match=r"fraction=1\.5"):
        current_task.update(fraction=1.5)


@pytest.mark.parametrize("name", ["", None, 7])
def test_a_step_without_a_name_is_refused_at_once(name):
    with pytest.raises(TypeError, match="expected a name"):
        step(name)


def test_emitted_chunks_of_one_flush_are_one_entry_and_keep_their_offset(make_running):
    running = make_running()
    current_task.emit("Once ")
    current_task.emit("upon")
    first, _ = running.take()
    current_task.emit({"image": 1})
    second, _ = running.take()

    assert [e.data for e in first] == [{"offset": 0, "chunks": ["Once ", "upon"]}]
    assert [e.data for e in second] == [{"offset": 2, "chunks": [{"image": 1}]}]


def test_output_keeps_its_place_among_the_steps(make_running):
    running = make_running()
    current_task.emit("a")
    with step("Draw"):
        current_task.emit("b")
    entries, _ = running.take()

    assert [e.type.value for e in entries] == ["output", "step_started", "output", "step_finished"]


def test_a_chunk_that_is_not_json_is_refused_with_a_mend(make_running):
    make_running()

    with pytest.raises(NotSerializable, match="Emit texts or JSON values"):
        current_task.emit(b"\x00")


def test_output_is_bounded(make_running):
    make_running(max_output_bytes=20)
    current_task.emit("x" * 10)  # 12 bytes of JSON, and 8 for the chunk

    with pytest.raises(PayloadTooLarge, match="BGTASKS_MAX_RESULT_BYTES"):
        current_task.emit("x")


def test_what_could_not_be_stored_goes_back_before_what_came_since(make_running):
    running = make_running()
    current_task.emit("a")
    entries, _ = running.take()
    current_task.emit("b")
    running.put_back(entries)

    assert [e.data["chunks"] for e in running.take()[0]] == [["a"], ["b"]]


@pytest.mark.parametrize(
    "report",
    [
        lambda: step("next").__enter__(),
        lambda: next(iter(track([1]))),
        lambda: current_task.update(details="…"),
        lambda: current_task.emit("…"),
    ],
    ids=["step", "track", "update", "emit"],
)
def test_the_next_report_of_a_cancelled_task_raises(make_running, report):
    make_running().stop("the task was cancelled")

    assert current_task.cancelled
    with pytest.raises(CancelRequested):
        report()


def test_except_exception_does_not_swallow_a_cancellation(make_running):
    running = make_running()
    with pytest.raises(CancelRequested):
        for n in range(3):
            try:
                current_task.update(details=str(n))
                running.stop("cancelled")
            except Exception:
                pytest.fail("swallowed")


def test_a_step_that_raises_is_finished_as_failed(make_running):
    running = make_running()
    with pytest.raises(KeyError), step("Draw"):
        raise KeyError("x")
    entries, _ = running.take()

    assert entries[-1].data["failed"] is True


def test_threads_of_the_pipeline_report_into_their_step_by_the_helper(make_running):
    running = make_running("Draw")

    def draw(n):
        with step(f"Picture {n}"):
            return current_task.request_id

    with step("Draw"), ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(copy_current_task(draw), range(8)))
    entries, _ = running.take()

    assert set(ids) == {running.request_id}
    assert {tuple(e.data["path"]) for e in entries if "Picture" in e.data["step"]} == {
        ("Draw", f"Picture {n}") for n in range(8)
    }


def test_a_thread_without_the_helper_is_outside_the_task(make_running):
    make_running()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: bool(current_task)).result() is False


def test_async_code_reports_like_any_other(make_running):
    running = make_running("Write", "Draw")

    async def numbers():
        for n in range(2):
            yield n

    async def draw(n):
        with step(f"Picture {n}"):
            await asyncio.sleep(0)

    async def pipeline_():
        with step("Write"):
            async for _ in track(numbers(), total=2):
                await asyncio.sleep(0)
        with step("Draw"):
            await asyncio.gather(draw(1), draw(2))

    asyncio.run(pipeline_())
    entries, progress = running.take()

    assert progress.percentage == 100.0
    assert [e.data["path"] for e in entries if e.type.value == "step_started"] == [
        ["Write"],
        ["Draw"],
        ["Draw", "Picture 1"],
        ["Draw", "Picture 2"],
    ]


def test_a_generator_may_open_a_step_and_be_closed_early(make_running):
    running = make_running("Outline", "Write")

    def sections():
        with step("Outline"):
            yield 1
            yield 2

    for _ in sections():
        break
    with step("Write"):
        pass
    entries, _ = running.take()

    assert [e.data["path"] for e in entries if e.type.value == "step_started"][-1][-1] == "Write"


def test_a_step_is_a_decorator_too(make_running):
    running = make_running()

    @step("Draw")
    def draw(n):
        return draw(n - 1) if n else "done"

    assert draw(1) == "done"
    entries, _ = running.take()
    assert [e.data["path"] for e in entries if e.type.value == "step_started"] == [["Draw"], ["Draw", "Draw"]]


def work_of(call):
    """How many functions are called, and C functions: the same on a busy machine as on an idle one."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(None)
    return calls


def drained(running):
    """All that is to be stored, of as many writes as it takes, and the progress that goes with the last."""
    entries = []
    while True:
        some, progress = running.take()
        entries += some
        if not running._entries:
            return entries, progress


def one_step():
    with step("Draw"):
        current_task.update(details="a cat")


def one_of_many_names():
    with step(f"Section {next(numbers)}"):
        pass


def one_nested_step():
    with step("Chapter"), step("Section"):
        pass


numbers = itertools.count()


@pytest.mark.parametrize("one", [one_step, one_of_many_names, one_nested_step], ids=lambda one: one.__name__)
@pytest.mark.parametrize("declared", [(), ("Draw", "Chapter")], ids=["undeclared", "declared"])
def test_the_ten_thousandth_step_costs_what_the_hundredth_did(make_running, one, declared):
    running = make_running(*declared)

    def step_and_flush():
        one()
        drained(running)

    for _ in range(100):
        one()
    drained(running)
    early = work_of(step_and_flush)
    with step("Outer"):
        for _ in range(5_000):
            one()
    for _ in range(5_000):
        one()
    drained(running)

    assert work_of(step_and_flush) <= early + 5


def test_steps_that_are_over_are_not_kept(make_running):
    running = make_running()
    with step("Outer"):
        for n in range(100):
            with step(f"Section {n}"):
                pass

    gc.collect()
    kept = [
        found.name for found in gc.get_objects() if isinstance(found, StepNode) and found.name.startswith("Section ")
    ]

    assert len(kept) < 5
    assert running.plan.root.last.last.name == "Section 99"


def test_what_waits_for_a_store_out_of_reach_is_bounded(make_running):
    running = make_running()
    for n in range(6_000):
        with step(f"Section {n}"):
            pass
    entries, _ = running.take()
    running.put_back(entries)
    with step("Last"):
        pass
    entries, _ = drained(running)

    assert len(entries) == 10_000
    assert kinds(entries)[-1] == ("step_finished", "Last")


def test_names_details_and_paths_are_cut(make_running):
    running = make_running()
    with contextlib.ExitStack() as open_steps:
        for n in range(300):
            open_steps.enter_context(step(f"{n} " + "x" * 5000, details="y" * 5000))
        entries, progress = drained(running)

    assert max(len(entry.data["step"]) for entry in entries) == 1000
    assert max(len(entry.data["path"]) for entry in entries) == 20
    assert entries[-1].data["path"][0].startswith("0 ")
    assert entries[-1].data["path"][-1].startswith("299 ")
    assert (len(progress.step), len(progress.details)) == (1000, 1000)


def test_large_output_is_more_than_one_entry(make_running):
    running = make_running(max_output_bytes=10**6)
    for _ in range(9):
        current_task.emit("x" * 100_000)
    entries, _ = running.take()

    assert [entry.data["offset"] for entry in entries] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("chunk", ["ü" * 10, {"a": "ü" * 10}, ["😀"] * 5, "", 12345])
def test_output_is_counted_in_bytes_of_its_json_and_each_chunk_counts(make_running, chunk):
    size = len(json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode()) + 8
    make_running(max_output_bytes=3 * size)
    for _ in range(3):
        current_task.emit(chunk)

    with pytest.raises(PayloadTooLarge):
        current_task.emit("")
