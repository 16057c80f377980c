"""The average durations of steps, from which ETAs are made: how a run changes them, and which ones are forgotten.

Pure arithmetic that every store applies in its own transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..core.model import StepHistory

MAX_STEP_NAMES = 200
"""Step names of one task that have averages: a task that names its steps after its data has new ones in every run."""

MAX_TASK_NAMES = 500
"""Task names that have averages: ``track_request`` takes any name."""

NEWEST_RUN_WEIGHT = 0.2
"""Weight of the newest run, from the fifth run on."""


def average(old: StepHistory | None, seconds: float) -> StepHistory:
    """An exponentially weighted mean: the last few runs count most, so that a changed pipeline is learnt quickly."""
    if old is None:
        return StepHistory(1, seconds)
    weight = max(NEWEST_RUN_WEIGHT, 1 / (old.runs + 1))
    return StepHistory(old.runs + 1, old.seconds + weight * (seconds - old.seconds))


def superfluous_steps(known: Mapping[str, StepHistory], current: Collection[str]) -> list[str]:
    """The steps of a task whose averages are forgotten: those met in the fewest runs, and of these the oldest.

    :param known: in the order in which they were first met. :param current: the newest run's, which stay.
    """
    others = [step for step in known if step not in current]
    others.sort(key=lambda step: known[step].runs)
    return others[: max(0, len(known) - MAX_STEP_NAMES)]


def superfluous_names(most_runs: Mapping[str, int]) -> list[str]:
    """The tasks whose averages are forgotten to make room for another task.

    None while there is room; otherwise a tenth of them, so that not every new name has to count.

    :param most_runs: for each task that has averages, the runs of its most frequent step.
    """
    if len(most_runs) < MAX_TASK_NAMES:
        return []
    over = len(most_runs) - MAX_TASK_NAMES + MAX_TASK_NAMES // 10
    return sorted(most_runs, key=lambda name: most_runs[name])[:over]
