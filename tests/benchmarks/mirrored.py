"""One run of many tasks that report all the time, with the Firestore mirror or without: python -m …mirrored FOLDER.

With it (``FIRESTORE_EMULATOR_HOST`` is set) it also tells how often each progress document was written, and what stands
in the documents in the end. Prints one line of JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections import Counter, defaultdict
from typing import Any

from flask import Flask

from flask_bgtasks import BackgroundTasks, current_task, step

TASKS, SECONDS, UPDATES = 200, 30.0, 50
PROJECT = "demo-bench"

bgtasks = BackgroundTasks()


@bgtasks.task(steps=["Work"])
def work() -> int:
    """Report fifty times a second."""
    begun, reports = time.monotonic(), 0
    with step("Work"):
        while time.monotonic() - begun < SECONDS:
            current_task.update(fraction=min(1.0, (time.monotonic() - begun) / SECONDS), details=str(reports))
            reports += 1
            time.sleep(max(0.0, begun + reports / UPDATES - time.monotonic()))
    return reports


def main(folder: str) -> None:
    """Run, and say how it went."""
    mirror = bool(os.environ.get("FIRESTORE_EMULATOR_HOST"))
    app = Flask("mirrored", instance_path=folder)
    sinks = {"sinks": ["firestore"], "firebase_project": PROJECT} if mirror else {}
    bgtasks.init_app(app, workers=TASKS, max_queued_per_owner=TASKS, **sinks)
    state = app.extensions["bgtasks"]
    writes = _counted(state.plugins.get("firestore")) if mirror else {}
    with app.app_context():
        handles = [work.submit() for _ in range(TASKS)]
        reports = [handle.wait(timeout=SECONDS * 3) for handle in handles]
        tasks = [handle.task for handle in handles]
        times = [(task.completed_at - task.started_at).total_seconds() for task in tasks]
        told: dict[str, Any] = {"task_seconds": sum(times) / TASKS, "reports": sum(reports) / TASKS / SECONDS}
        if mirror:
            stop = time.monotonic() + 60
            while state.store.stats().deliveries_pending and time.monotonic() < stop:
                time.sleep(0.1)
            gaps = [later - earlier for at in writes.values() for earlier, later in itertools.pairwise(at)]
            told |= {"writes": sum(map(len, writes.values())) / TASKS, "least_gap": min(gaps), "right": _right(handles)}
    state.close(grace=5)
    print(json.dumps(told))


def _counted(sink: Any) -> dict[str, list[float]]:
    """The times at which each progress document is written."""
    times: dict[str, list[float]] = defaultdict(list)
    write = sink._write_progress

    def counted(due: Any) -> None:
        for one in due:
            times[one.request_id].append(time.monotonic())
        write(due)

    sink._write_progress = counted
    return times


def _right(handles: Any) -> int:
    """How many tasks stand in both collections as they ended."""
    from google.cloud import firestore

    client = firestore.Client(project=PROJECT)
    ended: Counter[str] = Counter()
    for collection in ("background_tasks", "request_progress"):
        for snapshot in client.collection(collection).stream():
            found = snapshot.to_dict() or {}
            if found["status"] == "completed" and found.get("progress_percentage", 100) == 100:
                ended[snapshot.id] += 1
    client.close()
    return sum(ended[handle.request_id] == 2 for handle in handles)


if __name__ == "__main__":
    main(sys.argv[1])
