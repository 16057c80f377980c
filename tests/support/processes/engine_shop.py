"""An app whose tasks run in the workers of another queue; its workers import this module, and find ``workers`` in it.

The environment says where it keeps its things, and by which queue: ``SHOP_FOLDER``, ``SHOP_STORE``, ``SHOP_BROKER`` (an
address of Redis), ``SHOP_ID``, ``SHOP_ENGINE``.
"""

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

from flask import Flask

from flask_bgtasks import BackgroundTasks, checkpoint, current_task
from flask_bgtasks.execution.finding import sweep
from tests.support.processes import queues

ENGINE, BROKER, ID = os.environ["SHOP_ENGINE"], os.environ["SHOP_BROKER"], os.environ["SHOP_ID"]

folder = Path(os.environ["SHOP_FOLDER"])
app = Flask("shop", instance_path=str(folder))


workers = app.extensions[ENGINE] = queues.make(ENGINE, BROKER, ID)
if ENGINE == "huey":
    images_workers, workers = workers["images"], workers["default"]

bgtasks = BackgroundTasks()
bgtasks.init_app(
    app,
    store=os.environ["SHOP_STORE"],
    runner=ENGINE,
    app_id=ID,
    shutdown_grace=0.2,
    progress_interval=0.02,
)
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


@bgtasks.task(max_concurrency=1)
def alone(what):
    """Begin and end, while no other does."""
    note("begins")
    time.sleep(0.02)
    note("ends")
    return what


@bgtasks.task(retries=1, backoff=0.1)
def second_try():
    """Fail, then not."""
    note(f"try {current_task.attempt}")
    if current_task.attempt == 1:
        raise ValueError("not yet")
    return "in the end"


@bgtasks.task
def poison():
    """Take the process along, each time."""
    note(f"poison in {os.getpid()}")
    os.kill(os.getpid(), signal.SIGKILL)
