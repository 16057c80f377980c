"""How long steps took, as every store averages it."""

from flask_bgtasks.core.model import StepHistory
from flask_bgtasks.stores.averages import average


def test_durations_are_averaged_in_the_order_in_which_they_came(bench, store):
    store.save_durations("process", {"b": 10.0, "a": 2.0})
    store.save_durations("process", {"a": 4.0, "c": 1.0})
    store.save_durations("other", {"x": 1.0})
    learnt = store.load_durations("process")

    assert list(learnt) == ["b", "a", "c"]
    assert learnt["b"] == StepHistory(1, 10.0)
    assert learnt["a"] == average(StepHistory(1, 2.0), 4.0) == StepHistory(2, 3.0)
    assert store.load_durations("unknown") == {}


def test_a_changed_pipeline_is_learnt_within_a_few_runs():
    history = None
    for _ in range(20):
        history = average(history, 10.0)
    for _ in range(10):
        history = average(history, 1.0)

    assert history.seconds < 2.0
