"""The app that is ill-treated: pipelines of checkpoints, and a sink that cannot be relied on.

Everything that it does beside the library is written down in files outside of the store, with one `write` each, so that
a checker can compare what was done with what was stored. Imported by gunicorn and `flask bgtasks worker`.
"""

import mmap
import os
import random
import signal
import struct
import time
from datetime import timedelta
from pathlib import Path

from flask import Flask, request

from flask_bgtasks import BackgroundTasks, Backoff, RetryLater, changes, checkpoint, current_task, hookimpl
from flask_bgtasks.bundled import sqlite_path
from flask_bgtasks.stores.base import system_clock
from flask_bgtasks.stores.sql import SqlStore

FOLDER = Path(os.environ["CHAOS_FOLDER"])
CALM = "CHAOS_CALM" in os.environ  # nothing fails by chance
LUCK = random.SystemRandom()

if "CHAOS_NO_FENCE" in os.environ:  # the planted fault: anyone may write
    changes._check_holder = lambda task, attempt: None


def note(file, *words):
    """Append a line to a log: one write, which the kernel does not mix with another process's."""
    out = os.open(FOLDER / file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(out, (" ".join(map(str, words)) + "\n").encode())
    os.close(out)


# -- the sink ----------------------------------------------------------------------------------------------------------


class FlakySink:
    """Takes what it is told, sooner or later."""

    name = "flaky"

    @hookimpl
    def bgtasks_task_event(self, task, event):
        if (FOLDER / "sink-is-down").exists():
            raise RetryLater("down", after=0.3, tried=False)  # or the next failure would wait for minutes
        fate = 1.0 if CALM else LUCK.random()
        if fate < 0.02:
            raise RuntimeError("the sink failed")
        if fate < 0.04:
            raise RetryLater("the sink is busy", after=LUCK.uniform(0, 0.2))
        if fate < 0.042:
            time.sleep(LUCK.uniform(0.5, 1.5))
        note("sink.log", task.request_id, event.seq, event.type.value, event.attempt)


# -- the store, with a clock that can be moved -------------------------------------------------------------------------


class MovedClock:
    """The system's time and what a file says must be added: one number for all processes."""

    def __init__(self):
        with (FOLDER / "clock").open("r+b") as file:
            self._seconds = mmap.mmap(file.fileno(), 8)

    def __call__(self):
        return system_clock() + timedelta(seconds=struct.unpack("d", self._seconds)[0])


class MovedClockStore:
    """Opens the usual store with that clock."""

    name = "moved-clock"

    @hookimpl
    def bgtasks_open_store(self, app, url, settings):
        path = sqlite_path(app, url)
        return SqlStore(path, synchronous=settings.sqlite_synchronous, clock=MovedClock())


# -- the work ----------------------------------------------------------------------------------------------------------

app = Flask(__name__, instance_path=os.environ["CHAOS_STORE"])
bgtasks = BackgroundTasks()
bgtasks.register(FlakySink())
store = {}
if os.environ.get("CHAOS_FIRESTORE"):
    store["store"] = f"firestore://{os.environ['CHAOS_FIRESTORE']}"
else:
    bgtasks.register(MovedClockStore())
patient = {"retries": 8, "backoff": Backoff(first=0.05, longest=0.3), "max_attempts": 60}


@bgtasks.owner_loader
def owner():
    return request.headers.get("X-Owner")


def work(key, value):
    """One checkpointed step: what a checkpoint runs."""
    who = (current_task.request_id, key, current_task.attempt, os.getpid())
    note("steps.log", "begin", *who)
    if LUCK.random() < 0.3:
        current_task.emit(f"{key} ")
    if (FOLDER / "hold").exists() and key == "S3" and current_task.attempt == 1:
        while not (FOLDER / "go").exists():
            time.sleep(0.01)
    time.sleep(0 if CALM else LUCK.uniform(0.002, 0.06))
    if not CALM and LUCK.random() < 0.01:
        raise RuntimeError(f"{key} failed by chance")
    note("steps.log", "end", *who)
    return value


def pair(key, value):
    """A step with two checkpoints inside."""
    halves = [checkpoint(half, work, f"{key}/{half}", value) for half in ("a", "b")]
    return work(key, sum(halves) // 2)


def pipeline(n):
    """Five to eight steps, some nested; its result follows from `n`."""
    values = []
    for place in range(1, 6 + n % 4):
        function = pair if place % 3 == 2 else work
        values.append(checkpoint(f"S{place}", function, f"S{place}", n + place))
    return {"n": n, "values": values}


@app.post("/work")
@bgtasks.background(**patient)
def view():
    return pipeline(request.get_json()["n"])


@app.post("/plain")
def plain():
    return pipeline(request.get_json()["n"])


@app.post("/narrow")
@bgtasks.background(max_concurrency=2, **patient)
def narrow():
    return pipeline(request.get_json()["n"])


@app.post("/urgent")
@bgtasks.background(priority=5, timeout=30, **patient)
def urgent():
    return pipeline(request.get_json()["n"])


@app.post("/poison")
@bgtasks.background(max_attempts=2)
def poison():
    os.kill(os.getpid(), signal.SIGKILL)


bgtasks.init_app(
    app,
    endpoints=["plain"],
    runner=os.environ.get("CHAOS_RUNNER", "threads"),
    lease_seconds=float(os.environ.get("CHAOS_LEASE", "3")),
    shutdown_grace=1,
    max_queued_per_owner=10_000,
    **store,
)
