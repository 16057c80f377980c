"""The durations of steps in earlier runs: read for each run's progress, and updated by each completed run."""

from __future__ import annotations

import logging
import time

from ..core.model import StepHistory
from ..core.steps import StepTree
from ..stores.averages import MAX_TASK_NAMES
from ..stores.protocols.durations import StepDurations

log = logging.getLogger("flask_bgtasks")

FRESH_SECONDS = 10.0
"""How long averages are used before they are read again."""


class Durations:
    """The averages of one app in this process. They are a bonus: without them a bar is the worse, and nothing else."""

    def __init__(self, store: StepDurations) -> None:
        self._store = store
        self._known: dict[str, tuple[float, dict[str, StepHistory]]] = {}

    def of(self, name: str) -> dict[str, StepHistory]:
        """Those of a task's steps, by its name."""
        known = self._known.get(name)
        if known is not None and time.monotonic() - known[0] < FRESH_SECONDS:
            return known[1]
        try:
            loaded = self._store.load_durations(name)
        except Exception:
            log.exception("the durations of task %r cannot be read", name)
            return {}
        if len(self._known) >= MAX_TASK_NAMES:
            self._known.clear()
        self._known[name] = (time.monotonic(), loaded)
        return loaded

    def learn(self, name: str, plan: StepTree) -> None:
        """Store what the steps of a completed run took."""
        try:
            durations = plan.durations()
            if durations:
                self._store.save_durations(name, durations)
            self._known.pop(name, None)
        except Exception:
            log.exception("the durations of task %r cannot be stored", name)
