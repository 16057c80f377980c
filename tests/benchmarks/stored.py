"""What a submit, and getting the next task, cost beside 100,000 finished tasks and 1,000 that wait, in SQLite.

Two stores in one process, an empty and a full one, measured in turn. Getting the next task is what a worker does: ask
which may begin, and claim it. What was claimed is finished outside of the measured time, so both stay as they are.
"""

from __future__ import annotations

import statistics
import time
import uuid
from datetime import timedelta
from pathlib import Path

from flask_bgtasks.core.model import Entry, EventType, Result, Task, TaskKind
from flask_bgtasks.core.transitions.attempt import Complete
from flask_bgtasks.stores.conversions import EPOCH
from flask_bgtasks.stores.sql import SqlStore
from flask_bgtasks.stores.types import Limits

from . import filled
from .harness import Series

FINISHED, WAITING, OWNERS = 100_000, 1_000, 400
PER_ROUND = 300
NAME = "lesson"
LEASE = timedelta(seconds=30)


class Stored:
    """The two stores."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        urls = {name: f"sqlite:///{folder / name}.sqlite3" for name in ("empty", "full")}
        self.stores = {name: SqlStore(url) for name, url in urls.items()}
        _fill(self.stores["full"], urls["full"])
        for store in self.stores.values():  # what is prepared on first use is not what is measured
            _round(store, 20)

    def measure(self, rounds: int) -> dict[str, Series]:
        """Microseconds, the median of each round: ``submit, empty`` and so on."""
        series = {f"{what}, {name}": Series() for what in ("submit", "next task") for name in self.stores}
        for number in range(rounds):
            for name, store in self.stores.items():
                submit, get = _round(store, PER_ROUND)
                series[f"submit, {name}"].values[number] = submit
                series[f"next task, {name}"].values[number] = get
        return series

    def close(self) -> None:
        """Close both."""
        for store in self.stores.values():
            store.close()


def _round(store: SqlStore, count: int) -> tuple[float, float]:
    submits, gets = [], []
    for number in range(count):
        task = _task(number)
        begun = time.perf_counter()
        store.create(task, input={"args": ["a text"], "kwargs": {}}, limits=Limits())
        submits.append(time.perf_counter() - begun)

        begun = time.perf_counter()
        found = store.runnable(limit=1, names=[NAME, "report"])
        attempt = store.claim(found[0].request_id, worker="bench", lease=LEASE)
        gets.append(time.perf_counter() - begun)

        store.transition(attempt.task.request_id, Complete(attempt.task.attempt, Result(b'{"blocks": []}')))
    return statistics.median(submits) * 1e6, statistics.median(gets) * 1e6


def _task(number: int) -> Task:
    return Task(
        request_id=str(uuid.uuid4()),
        name=NAME,
        kind=TaskKind.FUNCTION,
        created_at=EPOCH,  # the store sets its own
        updated_at=EPOCH,
        expires_after=timedelta(days=7),
        owner=f"owner-{number % OWNERS}",
    )


def _fill(store: SqlStore, url: str) -> None:
    """Finished tasks of four steps each, and some that wait."""
    now = store.now()
    entries = tuple(
        Entry(kind, now, {"step": name, "path": [name], "step_number": place, "total_steps": 4})
        for place, name in enumerate(("Outline", "Write", "Draw", "Bind"), 1)
        for kind in (EventType.STEP_STARTED, EventType.STEP_FINISHED)
    )
    filled.end(store, url, _task(0), count=FINISHED, owners=OWNERS, entries=entries)
    for place in range(WAITING):
        store.create(_task(place), input={"args": ["a text"], "kwargs": {}})
