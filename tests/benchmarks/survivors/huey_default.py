"""Huey on SQLite, as it comes: a task leaves the queue when it begins."""

from __future__ import annotations

import os
from pathlib import Path

from huey import SqliteHuey

from .steps import run_all

huey = SqliteHuey("survivor", filename=str(Path(os.environ["BENCH_FOLDER"]) / "huey.sqlite3"))


@huey.task()
def work() -> int:
    """The whole work."""
    return run_all()


def recorded() -> bool:
    """Whether the task is in the queue."""
    return bool(huey.pending_count())


def main(command: str) -> None:
    """Submit, or say whether the task is recorded."""
    print(work() if command == "submit" else recorded())
