"""flask-bgtasks: the SQLite store, a worker process, a checkpoint for each step."""

from __future__ import annotations

import os

from flask import Flask

from flask_bgtasks import BackgroundTasks, checkpoint

from .steps import STEPS, run_step

app = Flask("survivor", instance_path=os.environ["BENCH_FOLDER"])
bgtasks = BackgroundTasks()


@bgtasks.task(total_steps=STEPS)
def work() -> int:
    """The steps, each run once."""
    return sum(checkpoint(f"Step {number}", run_step, number) for number in range(1, STEPS + 1))


bgtasks.init_app(app, runner="external")


def recorded() -> bool:
    """Whether the task is known, and has not ended."""
    by_status = app.extensions["bgtasks"].store.stats().by_status
    return bool(by_status.get("processing") or by_status.get("started"))


def main(command: str) -> None:
    """Submit, or say whether the task is known and has not ended."""
    with app.app_context():
        print(work.submit() if command == "submit" else recorded())
