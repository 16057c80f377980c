"""The average durations of steps on Firestore: one document for each task name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...core.model import StepHistory
from ...firebase.firestore.client import ONCE, field
from ..averages import MAX_TASK_NAMES, average, superfluous_names, superfluous_steps
from . import rows
from .database import DURATIONS, NAMES, FirestorePart, count


class FirestoreDurations(FirestorePart):
    """The averages of the store."""

    def save_durations(self, name: str, seconds: Mapping[str, float]) -> None:
        reference = self._durations_of(name)

        def attempt() -> None:
            snapshot = reference.get(**ONCE)
            known = _durations(snapshot)
            for step, value in seconds.items():
                known[step] = average(known.get(step), value)
            for step in superfluous_steps(known, seconds):
                del known[step]
            text = json.dumps([[step, mean.runs, mean.seconds] for step, mean in known.items()])
            if snapshot.exists:
                option = self._firestore.client.write_option(last_update_time=snapshot.update_time)
                reference.update({"steps": text}, option=option, **ONCE)
            else:
                self._forget_durations()
                reference.create({"app": self.app_id, "name": name, "steps": text}, **ONCE)

        self._attempted(attempt)

    def _forget_durations(self) -> None:
        """Before another task's are kept: those of the tasks that ran least, where there are too many."""
        learnt = self._own(NAMES).where(filter=field("steps", ">", ""))
        if count(learnt) < MAX_TASK_NAMES:
            return
        found = {one.id: one for one in learnt.stream(**ONCE)}
        most_runs = {id: max((h.runs for h in _durations(one).values()), default=0) for id, one in found.items()}
        self._erase([found[id].reference for id in superfluous_names(most_runs)])

    def load_durations(self, name: str) -> dict[str, StepHistory]:
        with self._calls():
            return _durations(self._durations_of(name).get(**ONCE))

    def _durations_of(self, name: str) -> Any:
        return self._collection(NAMES).document(rows.key_of(self.app_id, name) + DURATIONS)


def _durations(snapshot: Any) -> dict[str, StepHistory]:
    found = json.loads(snapshot.get("steps")) if snapshot.exists else []
    return {step: StepHistory(runs, seconds) for step, runs, seconds in found}
