"""The sections that put one question to a row of subjects, as data: whom to ask, with what, and how often.

Other sections need more than a subject's answer to a command; they have modules of their own beside this one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import engine_app, harness, wrapped

PEERS = {
    "celery": "Celery", "rq": "RQ", "dramatiq": "Dramatiq", "huey": "Huey", "dbos": "DBOS",
    "procrastinate": "Procrastinate", "absurd": "Absurd",
}  # fmt: skip
ON_ENGINES = {f"on-{engine}": engine for engine in engine_app.ENGINES}
NEED_REDIS = ("celery", "rq", "dramatiq", *ON_ENGINES)
NEED_POSTGRESQL = ("procrastinate", "absurd", "ours-postgresql")


OTHER_QUEUES = ("engines", "postgresql")
"""Groups of sections that are asked for by their own name only: they need servers."""


@dataclass(frozen=True)
class Row:
    """A row of a section: whom to ask, with what, and what is done there."""

    name: str
    subject: str
    arguments: dict[str, Any]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """One of the questions."""

    key: str
    title: str
    command: str
    unit: str
    rounds: int
    seconds: float
    rows: tuple[Row, ...]

    def is_in(self, only: Sequence[str]) -> bool:
        """Whether it is asked for: by its command or its key, or with others whose keys begin alike."""
        group = self.key.partition("-")[0]
        return group in only if group in OTHER_QUEUES else self.command in only or group in only


def _submit(count: int) -> dict[str, Any]:
    return {"count": count, "seconds": 0.8}


def _many(count: int) -> dict[str, Any]:
    return {"count": count, "seconds": 2.5}


def _sixteen(count: int) -> dict[str, Any]:
    return {"threads": 16, **_many(count)}


ALONE = {"count": 40, "seconds": 1.5}  # with a pause of 20 ms before each

SECTIONS = (
    Section(
        "update", "1  one progress report, from inside a running task", "update", "µs", 9, 30,
        (
            Row("ours", "ours", {"calls": 20_000}, "current_task.update(details=…, fraction=…)"),
            Row("RQ", "rq", {"calls": 300}, "job.meta[…] = …; job.save_meta()"),
            Row("Celery", "celery", {"calls": 200}, "self.update_state(state=…, meta=…)"),
            Row("DBOS", "dbos", {"calls": 40}, "DBOS.set_event(…)"),
        ),
    ),
    Section(
        "steps", "1b a task of 20,000 steps: the last thousand as a multiple of the first", "steps", "×", 5, 60,
        (Row("ours", "ours", {"steps": 20_000}, "with step(…), each with a name of its own; processor time"),),
    ),
    Section(
        "submit-full", "2a one submit that survives a power cut", "submit", "µs", 11, 40,
        (
            Row("ours", "ours", _submit(200), "BGTASKS_SQLITE_SYNCHRONOUS=FULL, the default"),
            Row("bare insert", "bare", _submit(200), "sqlite3, one INSERT and COMMIT, WAL, synchronous=FULL"),
            Row("DBOS", "dbos", _submit(100), "enqueue, SQLite as it opens it (FULL)"),
        ),
    ),
    Section(
        "submit-normal", "2b one submit that survives a killed process", "submit", "µs", 11, 40,
        (
            Row("ours", "ours-normal", _submit(300), "BGTASKS_SQLITE_SYNCHRONOUS=NORMAL"),
            Row("bare insert", "bare-normal", _submit(300), "the same with synchronous=NORMAL"),
            Row("Dramatiq", "dramatiq", _submit(300), "to Redis, which keeps nothing on disk here"),
            Row("RQ", "rq", _submit(300), "to the same Redis"),
            Row("Celery", "celery", _submit(300), "to the same Redis"),
            Row("Huey", "huey", _submit(200), "SqliteHuey as it comes"),
        ),
    ),
    Section(
        "throughput", "3  no-op tasks, from the first submit to the last result", "throughput", "tasks/s", 5, 75,
        (
            Row("ours", "ours", _many(2000), "SQLite (FULL), 4 threads of the submitting process"),
            Row("Dramatiq", "dramatiq", _many(1000), "Redis, its own default: a process per core, 8 threads each"),
            Row("Huey", "huey", _many(400), "SQLite, consumer of 4 threads"),
            Row("Celery", "celery", _many(400), "Redis, prefork worker of 4"),
            Row("DBOS", "dbos", _many(150), "SQLite, 4 threads of the submitting process"),
            Row("RQ", "rq", _many(40), "Redis, one worker that forks per job"),
            Row("ours, NORMAL", "ours-normal", _many(2000), "as the first row, synchronous=NORMAL"),
        ),
    ),
    Section(
        "submitters", "3b no-op tasks of 16 threads that submit at once", "submitters", "tasks/s", 5, 60,
        (
            Row("ours", "ours", _sixteen(2000), "SQLite (FULL), 4 threads of the submitting process"),
            Row("Dramatiq", "dramatiq", _sixteen(1000), "as above"),
            Row("Huey", "huey", _sixteen(400), "as above"),
            Row("Celery", "celery", _sixteen(400), "as above"),
            Row("ours, NORMAL", "ours-normal", _sixteen(2000), "synchronous=NORMAL"),
        ),
    ),
    Section(
        "latency", "4  one task on an idle process, from submit to visible result (p50)", "latency", "ms", 5, 75,
        (
            Row("ours", "ours", ALONE, "SQLite (FULL)"),
            Row("Celery", "celery", ALONE, "Redis"),
            Row("Huey", "huey", ALONE, "SQLite; result looked for every ms"),
            Row("Dramatiq", "dramatiq", ALONE, "Redis"),
            Row("DBOS", "dbos", ALONE, "SQLite"),
            Row("RQ", "rq", ALONE, "Redis, forks"),
            Row("ours, NORMAL", "ours-normal", ALONE, "SQLite, synchronous=NORMAL"),
            Row("ours, no pause", "ours", {**ALONE, "pause": 0.0}, "as the first row, one task right after the other"),
        ),
    ),
    Section(
        "engines-submit", "3c one submit, on the workers of another queue", "submit", "µs", 9, 60,
        (
            Row("ours on Celery", "on-celery", _submit(200), "SQLite (FULL), then a message to Redis"),
            Row("Celery", "celery", _submit(300), "to the same Redis, and nothing else"),
            *(Row(f"ours on {PEERS[engine]}", f"on-{engine}", _submit(200), "as the first row")
              for engine in ("dramatiq", "huey", "rq")),
        ),
    ),
    Section(
        "engines-throughput", "3d no-op tasks, on the workers of another queue", "throughput", "tasks/s", 5, 90,
        (
            Row("ours on Celery", "on-celery", _many(400), "as bare Celery; results in the SQLite store (FULL)"),
            Row("Celery", "celery", _many(400), "Redis, prefork worker of 4; results in Redis"),
            *(Row(f"ours on {PEERS[engine]}", f"on-{engine}", _many(400), "workers as in 3")
              for engine in ("dramatiq", "huey")),
            Row("ours on RQ", "on-rq", _many(40), "one worker that forks per job"),
        ),
    ),
    Section(
        "engines-update", "3e one progress report, from a task in a worker of another queue", "update", "µs", 7, 30,
        (
            Row("ours on Celery", "on-celery", {"calls": 20_000}, "current_task.update(details=…, fraction=…)"),
            Row("Celery", "celery", {"calls": 200}, "self.update_state(state=…, meta=…)"),
        ),
    ),
    Section(
        "postgresql-submit", "3f one submit, on PostgreSQL alone", "submit", "µs", 9, 40,
        (
            Row("ours", "ours-postgresql", _submit(200), "runner external; every commit is synced"),
            Row("Procrastinate", "procrastinate", _submit(200), "task.defer(), pooled connections"),
            Row("Absurd", "absurd", _submit(200), "spawn()"),
        ),
    ),
    Section(
        "postgresql-throughput", "3g no-op tasks, on PostgreSQL alone", "throughput", "tasks/s", 5, 75,
        (
            Row("ours", "ours-postgresql", _many(1000), "flask bgtasks worker, 4 threads"),
            Row("Procrastinate", "procrastinate", _many(1000), "its worker, concurrency 4, coroutines"),
            Row("Absurd", "absurd", _many(1000), "its worker, concurrency 4, threads on one connection"),
        ),
    ),
    Section(
        "wrapped", "4b a request that its view answers: the processor time that wrapping adds", "added", "µs", 7, 40,
        tuple(Row(name, "wrapped", {"path": path, "seconds": 1.0}, wrapped.NOTES[name])
              for name, path in wrapped.VIEWS.items()),
    ),
)  # fmt: skip

SUBJECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ours": ("ours", {"synchronous": "FULL"}),
    "ours-normal": ("ours", {"synchronous": "NORMAL"}),
    "ours-postgresql": ("ours_postgresql", {}),
    "wrapped": ("wrapped", {}),
    **{name: ("engine_app", {"engine": engine}) for name, engine in ON_ENGINES.items()},
    "bare": ("bare", {"synchronous": "FULL"}),
    "bare-normal": ("bare", {"synchronous": "NORMAL"}),
    **{peer: (f"peers.{peer}_peer", {}) for peer in PEERS},
}

ONLY = (
    "update", "steps", "submit", "throughput", "submitters", "engines", "postgresql", "latency", "wrapped", "idle",
    "polls", "streams", "stored", "scale", "survival", "mirror", "push",
)  # fmt: skip

OURS = ("ours", "ours-normal", "wrapped")
"""The subjects that can be measured at two commits."""


def with_revision(section: Section, before: harness.Revision) -> Section:
    """The section, and after each row of ours the same of another commit."""
    rows: list[Row] = []
    for row in section.rows:
        rows.append(row)
        if row.subject in OURS:
            rows.append(dataclasses.replace(row, name=f"{row.name} @", subject=f"{row.subject}@", note=before.text))
    return dataclasses.replace(section, rows=tuple(rows))
