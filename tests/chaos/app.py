"""The app that is ill-treated: pipelines of checkpoints, tasks that kill their process, tasks that wait for each other.

Everything that it does beside the library is written down in files outside of the store (:mod:`tests.chaos.notes`), so
that a checker can compare what was done with what was stored. Imported by gunicorn and `flask bgtasks worker`.
"""

import contextlib
import decimal
import errno
import os
import signal
import time
from uuid import uuid4

from flask import Flask, request

from flask_bgtasks import BackgroundTasks, Backoff, checkpoint, current_task
from flask_bgtasks.core.transitions import attempt as attempt_changes
from flask_bgtasks.execution import flusher
from flask_bgtasks.execution.finding import sweep
from tests.chaos import plugins
from tests.chaos.notes import CALM, FOLDER, LUCK, answer_census, note
from tests.support.processes import queues

MODEST_STEPS = 16
MEET_SECONDS = 20
"""How long a task of a burst waits for the others before it says that they do not run beside it."""

LEASE = float(os.environ.get("CHAOS_LEASE", "3"))
RUNNER = os.environ.get("CHAOS_RUNNER", "threads")

if "CHAOS_NO_FENCE" in os.environ:  # the planted fault: anyone may write, and nobody notices that another went on
    attempt_changes._check_holder = lambda task, attempt: None
    flusher.Flusher._heed = lambda self, running, task: None
    flusher.Flusher.confirm = lambda self, running: None

if "CHAOS_NO_SWEEP" in os.environ:  # the planted fault: a message that is lost is never published again
    sweep.Sweep.__call__ = lambda self: 0

app = Flask(__name__, instance_path=os.environ["CHAOS_STORE"])
if "CHAOS_BROKER" in os.environ:  # its workers look here for what they work for
    workers = app.extensions[RUNNER] = queues.make(RUNNER, os.environ["CHAOS_BROKER"], os.environ["CHAOS_QUEUE"])
bgtasks = BackgroundTasks()
store = plugins.plug_in(app, bgtasks, LEASE)
patient = {"retries": 8, "backoff": Backoff(first=0.05, longest=0.3), "max_attempts": 60}


@bgtasks.owner_loader
def owner():
    return request.headers.get("X-Owner")


class ByChance(Exception):
    """The app's own failure."""


def work(key, value, longest=0.06):
    """One checkpointed step: what a checkpoint runs. Emits by its value, so that what has to be emitted is known."""
    who = (current_task.request_id, key, current_task.attempt, os.getpid())
    note("steps.log", "begin", *who)
    if value % 2 == 0:
        current_task.emit(f"{key} ")
    if (FOLDER / "hold").exists() and key == "S3" and current_task.attempt == 1:
        while not (FOLDER / "go").exists():
            time.sleep(0.01)
    time.sleep(0 if CALM else LUCK.uniform(longest / 4, longest))
    if not CALM and LUCK.random() < 0.01:
        raise ByChance(key)
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


@app.post("/modest")
@bgtasks.background(retries=8, backoff=Backoff(first=0.05, longest=0.3))
def modest():
    """A long one that may lose its process as often as any task may: what others do to it must not count."""
    n = request.get_json()["n"]
    steps = [checkpoint(f"S{p}", work, f"S{p}", n + p, longest=0.4) for p in range(1, MODEST_STEPS + 1)]
    return {"n": n, "values": steps}


class Unspeakable:
    def __str__(self):
        raise ValueError("it cannot be said")


@app.post("/odd")
@bgtasks.background(**patient)
def odd():
    """Reports what cannot be stored, or changes it afterwards. What is refused is refused where it is reported.

    Then it works on for longer than a lease: what cannot be stored must not keep the lease from being renewed.
    """
    changed = {"n": 1}
    for report in (
        lambda: current_task.update(details=Unspeakable()),
        lambda: current_task.update(fraction=decimal.Decimal("0.5")),
        lambda: current_task.update(fraction=float("nan")),
        lambda: current_task.emit({"amount": decimal.Decimal("1.5")}),
        lambda: current_task.emit({1: {2: object()}}),
    ):
        with contextlib.suppress(Exception):
            report()
    with contextlib.suppress(Exception):
        current_task.emit(changed)
        changed["n"] = object()
    hold_on(0 if CALM else 1.3 * LEASE)
    return pipeline(request.get_json()["n"])


@app.post("/poison")
@bgtasks.background(max_attempts=2)
def poison():
    """Kills its process, and with it its neighbours'."""
    note("steps.log", "begin", current_task.request_id, "poison", current_task.attempt, os.getpid())
    time.sleep(0 if CALM else LUCK.uniform(0, 0.3))
    if LUCK.random() < 0.5:
        os._exit(9)
    os.kill(os.getpid(), signal.SIGKILL)


@bgtasks.task
def meet(burst, wanted, hold=0.0):
    """Waits until so many tasks of a burst run at once, and holds on for so long, reporting.

    That they do is what free threads are for; that it keeps its lease is what the flusher is for.
    """
    folder = FOLDER / f"burst-{burst}"
    patiently((folder / current_task.request_id).touch)
    give_up = time.monotonic() + MEET_SECONDS
    while (here := len(patiently(os.listdir, folder))) < wanted:
        if time.monotonic() > give_up:
            note("bursts.log", burst, wanted, here)
            break
        time.sleep(0.02)
    hold_on(hold)
    return wanted


def patiently(act, *arguments):
    """Do what takes a descriptor, of which the driver starves processes: what the app's own code lacks is no news."""
    while True:
        try:
            return act(*arguments)
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            time.sleep(0.05)


def hold_on(seconds):
    """Report for so long, without a checkpoint."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        current_task.update(details="holding on")
        time.sleep(0.1)


@app.post("/burst")
def burst():
    """Submit many tasks at once, in one process."""
    asked, name = request.get_json(), uuid4().hex
    (FOLDER / f"burst-{name}").mkdir()
    arguments = (name, asked["wanted"], asked["hold"])
    return [meet.submit(*arguments, owner="burst").request_id for _ in range(asked["count"])]


@app.post("/doubles")
def doubles():
    """Publish further messages for tasks that have had theirs."""
    for request_id in request.get_json():
        app.extensions["bgtasks"].runner.publish(request_id, "default")
    return {}


if "CHAOS_OLD" in os.environ:  # a version of the app with a task that the next version does not have

    @app.post("/removed")
    @bgtasks.background
    def removed():
        note("steps.log", "begin", current_task.request_id, "removed", current_task.attempt, os.getpid())
        time.sleep(600)


bgtasks.init_app(
    app,
    endpoints=["plain"],
    runner=RUNNER,
    workers=int(os.environ.get("CHAOS_WORKERS", "4")),
    lease_seconds=LEASE,
    shutdown_grace=1,
    max_queued_per_owner=10_000,
    **store,
)
plugins.be_hostile(app, LEASE)
answer_census()
if RUNNER == "celery":
    from celery.signals import worker_process_init

    worker_process_init.connect(lambda **_: answer_census(), weak=False)
