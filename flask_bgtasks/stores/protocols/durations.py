"""The part of the store protocol about the durations of steps, from which ETAs are made."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from ...core.model import StepHistory
from .part import StorePart


class StepDurations(StorePart):
    """The averages of earlier runs (:mod:`flask_bgtasks.stores.averages`)."""

    @abstractmethod
    def save_durations(self, name: str, seconds: Mapping[str, float]) -> None:
        """Add the durations of a completed run's steps to the averages of that task name. Keys are step paths.

        Bounded by :data:`~flask_bgtasks.stores.averages.MAX_STEP_NAMES` and
        :data:`~flask_bgtasks.stores.averages.MAX_TASK_NAMES`; the steps and tasks with the fewest runs are forgotten
        first.
        """

    @abstractmethod
    def load_durations(self, name: str) -> dict[str, StepHistory]:
        """The averages of earlier runs by step path, in the order in which the steps first occurred."""
