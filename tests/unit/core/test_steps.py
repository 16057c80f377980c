"""The arithmetic of percentages and remaining times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_bgtasks.core.model import StepHistory
from flask_bgtasks.core.steps import Expected, StepTree


def plan(*names, total_steps=None, durations=None):
    expected = [Expected(*name) if isinstance(name, tuple) else Expected(name) for name in names]
    return StepTree(started=0.0, expected=expected, total_steps=total_steps, durations=durations or {})


def run(plan, name, *, at=0.0, until=None, parent=None, weight=None):
    node = plan.open(name, parent or plan.root, at=at, weight=weight)
    if until is not None:
        plan.close(node, at=until)
    return node


def learnt(**seconds):
    return {name.replace("_", " > "): StepHistory(5, s) for name, s in seconds.items()}


def test_the_third_of_eight_declared_steps_ends_at_37_5_percent():
    p = plan(*"abcdefgh")
    for name in "abc":
        run(p, name, until=1.0)

    assert p.percentage(1.0) == 37.5
    assert p.total_steps == 8


def test_a_known_number_of_unnamed_steps_counts_likewise():
    p = plan(total_steps=8)
    for name in "xyz":
        run(p, name, until=1.0)

    assert p.percentage(1.0) == 37.5


def test_weights_decide_where_they_are_given():
    p = plan(("small", 1), ("large", 9))
    run(p, "small", until=1.0)

    assert p.percentage(1.0) == 10.0


def test_learnt_durations_decide_where_no_weight_is_given():
    p = plan("quick", "slow", durations=learnt(quick=10.0, slow=30.0))
    run(p, "quick", until=1.0)

    assert p.percentage(1.0) == 25.0


def test_a_step_without_a_fraction_moves_by_time_once_its_duration_is_learnt():
    p = plan("only", durations=learnt(only=10.0))
    run(p, "only", at=0.0)

    assert p.percentage(5.0) == 50.0
    assert p.percentage(100.0) == 95.0  # late, but not done


def test_two_runs_teach_nothing_yet():
    p = plan("a", "b", durations={"a": StepHistory(2, 1.0), "b": StepHistory(2, 99.0)})
    run(p, "a", until=1.0)

    assert p.percentage(1.0) == 50.0
    assert p.eta_seconds(1.0) is None


def test_undeclared_steps_are_known_from_earlier_runs():
    p = plan(durations=learnt(a=1.0, b=1.0, c=2.0))
    run(p, "a", until=1.0)

    assert p.total_steps == 3
    assert p.percentage(1.0) == 25.0


def test_unknown_steps_give_an_estimate_that_never_reaches_the_end():
    p = plan()
    shown = []
    for n in range(20):
        run(p, f"step {n}", until=float(n))
        shown.append(p.percentage(float(n)))

    assert p.total_steps is None
    assert shown == sorted(shown)
    assert shown[-1] < 100


def test_a_declared_step_that_was_left_out_counts_as_done_once_a_later_one_began():
    p = plan("a", "optional", "c", "d")
    run(p, "a", until=1.0)
    run(p, "c", at=1.0)

    assert p.percentage(1.0) == 50.0


def test_a_step_that_nobody_declared_lengthens_the_row():
    p = plan("a", "b")
    run(p, "surprise", until=1.0)

    assert p.total_steps == 3
    assert p.open("a", p.root, at=1.0).number == 1


def test_a_step_that_comes_twice_takes_the_second_place_of_its_name():
    p = plan("draw", "draw")

    assert [run(p, "draw", until=1.0).number, run(p, "draw", until=2.0).number] == [1, 2]


def test_nested_steps_share_their_parents_part():
    p = plan("a", "b")
    a = run(p, "a")
    run(p, "one", parent=a, until=1.0)
    half_way = p.percentage(1.0)
    p.close(a, at=2.0)

    assert 0 < half_way < 50
    assert p.percentage(2.0) == 50.0


def test_a_loops_turn_counts_with_its_nested_step():
    p = plan("a")
    a = run(p, "a")
    a.fraction, a.unit = 0.5, 0.25
    inner = run(p, "inner", parent=a)
    inner.fraction = 0.5

    assert p.percentage(0.0) == 62.5


def test_a_task_without_steps_can_say_how_far_it_is():
    p = plan()
    p.root.fraction = 0.4

    assert p.percentage(0.0) == 40.0


def test_the_remaining_time_is_what_earlier_runs_took_for_the_rest():
    p = plan("a", "b", durations=learnt(a=10.0, b=20.0))
    run(p, "a", at=0.0)

    assert p.eta_seconds(0.0) == 30.0
    assert p.eta_seconds(5.0) == 25.0


def test_a_step_nobody_knows_leaves_the_remaining_time_unknown():
    p = plan("a", "new", durations=learnt(a=10.0))
    run(p, "a", at=0.0)

    assert p.eta_seconds(0.0) is None


def test_a_run_teaches_its_top_level_steps_and_their_children_in_order():
    p = plan()
    a = run(p, "a", at=0.0)
    run(p, "part", parent=a, at=0.0, until=1.0)
    run(p, "part", parent=a, at=1.0, until=4.0)
    p.close(a, at=5.0)
    run(p, "unfinished", at=5.0)

    assert p.durations() == {"a": 5.0, "a > part": 4.0}


def test_steps_named_after_their_data_do_not_fill_the_store():
    p = plan()
    for n in range(500):
        run(p, f"section {n}", at=0.0, until=1.0)

    assert len(p.durations(max_steps=100)) == 100


@pytest.mark.parametrize("durations", [{}, learnt(a=3.0, b=0.0, c=50.0)])
@given(
    moves=st.lists(st.tuples(st.sampled_from("abcdx"), st.floats(0, 1), st.floats(0.01, 5)), max_size=12),
)
def test_in_a_sequence_of_steps_the_percentage_never_falls_or_leaves_its_bounds(durations, moves):
    p, now, shown = plan("a", "b", "c", durations=durations), 0.0, 0.0
    order = sorted(moves, key=lambda m: "abcdx".index(m[0]))
    seen = set()
    for name, fraction, seconds in order:
        if name in seen or name in "dx":
            continue
        seen.add(name)
        node = p.open(name, p.root, at=now)
        assert shown <= p.percentage(now)
        now += seconds
        node.fraction = fraction
        shown = max(shown, 0.0)
        p.close(node, at=now)
        after = p.percentage(now)
        assert shown <= after <= 100
        shown = after
