"""An app whose tasks run in Celery workers: ``celery --app tests.support.processes.celery_shop:workers worker``.

The environment says where it keeps its things: ``SHOP_FOLDER``, ``SHOP_STORE``, ``SHOP_BROKER``, ``SHOP_ID``.
"""

import os
import time
from datetime import timedelta
from pathlib import Path

from celery import Celery
from flask import Flask

from flask_bgtasks import BackgroundTasks, checkpoint, current_task
from flask_bgtasks.execution.finding import sweep

folder = Path(os.environ["SHOP_FOLDER"])
app = Flask("shop", instance_path=str(folder))
bgtasks = BackgroundTasks()
bgtasks.init_app(
    app,
    store=os.environ["SHOP_STORE"],
    runner="celery",
    app_id=os.environ["SHOP_ID"],
    shutdown_grace=0.2,
    progress_interval=0.02,
)
workers = app.extensions["celery"] = Celery("shop", broker=os.environ["SHOP_BROKER"])
workers.conf.task_default_queue = os.environ["SHOP_ID"]  # as apps that share a broker have it
workers.conf.worker_prefetch_multiplier = 1
workers.conf.broker_connection_retry_on_startup = True
sweep.PATIENCE = timedelta(seconds=1)


def note(line):
    """One more line in the shop's diary; a line is written as a whole."""
    with (folder / "diary.txt").open("a") as diary:
        diary.write(f"{line}\n")


def diary():
    """What was noted."""
    path = folder / "diary.txt"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def wait_for(name):
    """Wait until a test makes a file. A task that waits reports, and so notices that it has to stop."""
    begun = time.monotonic()
    while not (folder / name).exists():
        assert time.monotonic() < begun + 120
        current_task.update(details="waiting")
        time.sleep(0.01)


@bgtasks.task
def draw(what):
    """Draw it at once."""
    note(what)
    return f"{what}, drawn"


@bgtasks.task(priority=5)
def urgent(what):
    """Draw it before others."""
    note(what)


@bgtasks.task(queue="images")
def render(what):
    """Draw it where images are made."""
    note(what)


@bgtasks.task
def lesson(name):
    """Two steps, each made once; between them it waits for a file."""
    checkpoint("Outline", note, f"{name}: outline")
    note(f"{name}: waits in {os.getpid()}")
    wait_for("go")
    checkpoint("Write", note, f"{name}: text")
    return name
