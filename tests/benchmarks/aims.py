"""The aims, as data. Each was set beside figures of the peers, taken on one machine; both stand here.

An absolute aim is judged as it is, on whatever machine this runs. Relative to a peer that is measured in the same
run it can be judged anywhere: the aim's ratio to that peer's figure of then is what is asked now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Aim:
    """What a row of ours should reach."""

    section: str
    row: str
    limit: float
    unit: str
    better: Literal["lower", "higher"]
    beside: Mapping[str, float] = field(default_factory=dict)
    """Figures of other rows of the section, when the aim was set."""

    hope: float | None = None

    def met(self, value: float) -> bool:
        """Whether this figure of ours is good enough."""
        return value < self.limit if self.better == "lower" else value > self.limit

    def ratio(self, row: str) -> float | None:
        """Ours over that row, at most (or least); None where the aim says nothing of it."""
        then = self.beside.get(row)
        return None if then is None else self.limit / then

    def ratio_met(self, row: str, ratio: float) -> bool | None:
        """Whether ours is as good beside that row as the aim asks; None where it says nothing of it."""
        asked = self.ratio(row)
        if asked is None:
            return None
        return ratio < asked if self.better == "lower" else ratio > asked

    def __str__(self) -> str:
        word = "under" if self.better == "lower" else "over"
        hope = f", hope {self.hope:,g}" if self.hope else ""
        return f"{word} {self.limit:,g} {self.unit}{hope}"


AIMS = (
    Aim("update", "ours", 3, "µs", "lower", {"RQ": 107, "Celery": 310, "DBOS": 2408}),
    Aim("steps", "ours", 1.2, "×", "lower"),
    Aim("submit-full", "ours", 300, "µs", "lower", {"bare insert": 144}),
    Aim("submit-normal", "ours", 120, "µs", "lower", {"Dramatiq": 166, "RQ": 336, "Celery": 551}),
    Aim("throughput", "ours", 2500, "tasks/s", "higher", {"Dramatiq": 1682, "Huey": 1138, "Celery": 635}, hope=3400),
    Aim("latency", "ours", 1, "ms", "lower", {"Celery": 4.9, "Huey": 113, "Dramatiq": 275}),
    Aim(
        "polls", "ours, 200", 85, "% of the constant", "higher", {"plain read": 79, "Huey": 78, "RQ": 60, "Celery": 47}
    ),
    Aim("polls", "ours, 304", 95, "% of the constant", "higher"),
    Aim("wrapped", "wrapped by name", 450, "µs", "lower"),
    Aim("wrapped", "@background", 450, "µs", "lower"),
    Aim("served", "wrapped by name", 45, "% of the plain view", "higher"),
    Aim("served", "@background", 45, "% of the plain view", "higher"),
    Aim("submitters", "ours", 2500, "tasks/s", "higher"),
    # Twice, 0.8 and a hundredth of what bare Celery has.
    Aim("engines-submit", "ours on Celery", 1418, "µs", "lower", {"Celery": 709}),
    Aim("engines-throughput", "ours on Celery", 477, "tasks/s", "higher", {"Celery": 596}),
    Aim("engines-update", "ours on Celery", 2.46, "µs", "lower", {"Celery": 246}),
    Aim("idle", "ours", 0.2, "% of a core", "lower"),
    Aim("streams", "gevent", 50, "ms", "lower"),  # p99 after the commit
    Aim("stored", "full / empty", 1.2, "×", "lower"),
    Aim("survival", "ours", 1.0, "s", "lower"),
    Aim("mirror", "with / without", 1.02, "×", "lower"),
)


def of(section: str, row: str) -> Aim | None:
    """The aim for a row, if it has one."""
    return next((aim for aim in AIMS if (aim.section, aim.row) == (section, row)), None)


def rows_of(section: str) -> list[str]:
    """Our rows of a section."""
    return [aim.row for aim in AIMS if aim.section == section]
