"""How many writes a task is: counted by PostgreSQL itself, and of the Firestore mirror by what it hands to the client.

:func:`counted` and :func:`mirrored` start `python -m tests.benchmarks.scale.writes FOLDER STORE RUNNER TASK COUNT`,
which runs so many tasks one after the other and closes everything, since PostgreSQL tells what a session did when it
ends. What opening and closing cost is measured by a run of no task, and left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask

from flask_bgtasks import BackgroundTasks, current_task, step

from .. import servers

PROJECT = "demo-bench"
STEPS = 10
REPORT_SECONDS = 3.0
REPORT_APART = 0.02
PATIENCE_SECONDS = 60.0

COUNTS = {"none": 20, "steps": 20, "reports": 2}
"""The tasks, and how often each is run."""

RUNS = {
    ("threads", "off"): ("none", "steps", "reports"),
    ("threads", "auto"): ("none", "reports"),
    ("external", "off"): ("none",),
    ("external", "auto"): ("none",),
}
"""What is run, by the runner (the submitting process's own threads, or a ``flask bgtasks worker``) and by whether
changes are announced. An announcement is a transaction of its own; nothing of it is synced to the disk, so that those
are counted apart: what there is more of with them."""

bgtasks = BackgroundTasks()


@bgtasks.task
def none() -> int:
    """Does nothing."""
    return 1


@bgtasks.task
def steps() -> int:
    """Begins and ends ten steps, at once."""
    for number in range(STEPS):
        with step(f"Step {number}"):
            pass
    return 1


@bgtasks.task
def reports() -> int:
    """Reports all the time, for three seconds."""
    stop = time.monotonic() + REPORT_SECONDS
    with step("Draw"):
        while time.monotonic() < stop:
            current_task.update(fraction=max(0.0, 1 - (stop - time.monotonic()) / REPORT_SECONDS))
            time.sleep(REPORT_APART)
    return 1


def make(folder: str, store: str, runner: str) -> Flask:
    """The app; with the mirror where there is an emulator."""
    app = Flask("writes", instance_path=folder)
    mirror = {"sinks": ["firestore"], "firebase_project": PROJECT} if os.environ.get("FIRESTORE_EMULATOR_HOST") else {}
    announcements = os.environ.get("BENCH_ANNOUNCEMENTS", "off")
    bgtasks.init_app(app, store=store, runner=runner, announcements=announcements, **mirror)
    return app


# -- who counts ------------------------------------------------------------------------------------------------------


def counted(server: servers.Postgresql, folder: Path) -> dict[str, dict[str, float]]:
    """Per task, by who runs it and what it does: synced ``commits``, ``announcements``, ``rows``, bytes of ``wal``.

    :raises ServerFailed: a run failed.
    """
    found: dict[str, dict[str, float]] = {}
    for (runner, announcements), tasks in RUNS.items():
        name = f"writes_{runner}_{announcements}"
        server.create(name)
        place = folder / name
        place.mkdir(parents=True)
        run = _Run(server, name, place, runner, {"BENCH_ANNOUNCEMENTS": announcements})
        run.delta("none", 1)  # makes the tables, and whatever is made once
        nothing = run.delta("none", 0)
        for task in tasks:
            all_of, count = run.delta(task, COUNTS[task]), COUNTS[task]
            each = {key: (all_of[key] - nothing[key]) / count for key in all_of}
            row = found.setdefault(f"{runner}, {task}", each)
            if announcements != "off":
                row["announcements"] = each["commits"] - row["commits"]
        server.drop(name)
    return found


def mirrored(folder: Path) -> dict[str, float]:
    """Documents that the Firestore mirror writes per task, by what it does; on the emulator.

    :raises ServerFailed: there is none.
    """
    found = {}
    folder.mkdir(parents=True)
    with servers.firestore(folder) as host:
        for task, count in COUNTS.items():
            place = folder / task
            place.mkdir()
            store = f"sqlite:///{place}/tasks.sqlite3"
            found[task] = _run(place, store, "threads", task, count, FIRESTORE_EMULATOR_HOST=host)["documents"] / count
    return found


@dataclass(frozen=True)
class _Run:
    """Runs of tasks in one database."""

    server: servers.Postgresql
    name: str
    folder: Path
    runner: str
    environ: Mapping[str, str]

    def delta(self, task: str, count: int) -> dict[str, float]:
        """What so many tasks add to what PostgreSQL counts."""
        before, store = _told(self.server, self.name), self.server.store(self.name)
        worker = _serving(self.folder, store, self.environ) if self.runner == "external" else contextlib.nullcontext()
        with worker:
            _run(self.folder, store, self.runner, task, count, **self.environ)
        after = _told(self.server, self.name)
        return {key: after[key] - before[key] for key in after}


def _told(server: servers.Postgresql, name: str) -> dict[str, float]:
    """What PostgreSQL has counted, once nobody has the database open."""
    import psycopg

    with psycopg.connect(server.url("postgres"), autocommit=True) as db:
        stop = time.monotonic() + PATIENCE_SECONDS
        while db.execute("SELECT 1 FROM pg_stat_activity WHERE datname = %s", (name,)).fetchone():
            if time.monotonic() > stop:
                raise servers.ServerFailed(f"somebody keeps {name} open")
            time.sleep(0.05)
        row = db.execute(
            # Only a transaction that writes is given a number.
            "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_current_wal_insert_lsn() - '0/0'::pg_lsn,"
            " tup_inserted + tup_updated + tup_deleted FROM pg_stat_database WHERE datname = %s",
            (name,),
        ).fetchone()
    assert row is not None
    return dict(zip(("commits", "wal", "rows"), map(float, row), strict=True))


@contextlib.contextmanager
def _serving(folder: Path, store: str, environ: Mapping[str, str]) -> Iterator[None]:
    """A worker."""
    command = ["-m", "flask", "--app", f"{__name__}:make({str(folder)!r},{store!r},'external')", "bgtasks", "worker"]
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _run(folder: Path, store: str, runner: str, task: str, count: int, **environ: str) -> dict[str, Any]:
    command = [sys.executable, "-m", __name__, str(folder), store, runner, task, str(count)]
    done = subprocess.run(
        command,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_SECONDS,
        check=False,
    )
    if done.returncode:
        raise servers.ServerFailed(f"counting writes: {done.stderr.strip()[-300:]}")
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


# -- who writes ------------------------------------------------------------------------------------------------------


def _documents() -> list[int]:
    """From now on, how many documents each commit to Firestore writes."""
    from google.cloud.firestore_v1.batch import WriteBatch

    sizes: list[int] = []
    commit = WriteBatch.commit

    def noted(batch: Any, *arguments: Any, **options: Any) -> Any:
        sizes.append(len(batch))
        return commit(batch, *arguments, **options)

    WriteBatch.commit = noted
    return sizes


def main(folder: str, store: str, runner: str, task: str, count: str) -> None:
    """Run the tasks, one after the other."""
    sizes = _documents() if os.environ.get("FIRESTORE_EMULATOR_HOST") else []
    app = make(folder, store, runner)
    state = app.extensions["bgtasks"]
    with app.app_context():
        # One after the other, since each begins with its creation if a thread is free here; a worker takes them all.
        together = max(1, int(count)) if runner == "external" else 1
        for _ in range(int(count) // together):
            function = {"none": none, "steps": steps, "reports": reports}[task]
            for handle in [function.submit() for _ in range(together)]:
                handle.wait(timeout=PATIENCE_SECONDS)
        stop = time.monotonic() + PATIENCE_SECONDS
        while sizes and state.store.stats().deliveries_pending and time.monotonic() < stop:
            time.sleep(0.1)
    state.close(grace=5)
    print(json.dumps({"documents": sum(sizes)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
