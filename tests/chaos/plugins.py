"""What is plugged into the chaos app: sinks that cannot be relied on, receivers that mean ill, a store whose clock can
be moved and whose disk fails, and a pool of connections that is too small.
"""

import asyncio
import errno
import functools
import os
import time
from datetime import timedelta

import sqlalchemy

from flask_bgtasks import CancelRequested, RetryLater, hookimpl, signals
from flask_bgtasks.app.builtin_plugins import sqlite_path
from flask_bgtasks.delivery import dispatcher, sink_worker
from flask_bgtasks.execution.finding import sweep
from flask_bgtasks.stores.sql import SqlStore
from flask_bgtasks.stores.types import system_clock
from tests.chaos.clock import MovedClock
from tests.chaos.notes import CALM, FOLDER, LUCK, note

HOSTILE = (
    SystemExit,
    KeyboardInterrupt,
    GeneratorExit,
    asyncio.CancelledError,
    functools.partial(CancelRequested, "no"),
)
"""What ends a thread that expects an `Exception`."""

HOSTILITY = bool(os.environ.get("CHAOS_HOSTILE"))

DELIVERY_LEASE = 3.0
"""Seconds; a twentieth of the library's, so that a sink's call can outlive it within a run."""

MESSAGE_PATIENCE = 3.0
"""Seconds; a tenth of the library's: so long a task waits for whom its message wakes, before it is published again."""

CLOCK = int(os.environ.get("CHAOS_CLOCK", "0"))  # the place of this process's own


def plug_in(app, bgtasks, lease):
    """Register the sinks and what the run's store needs; the settings that say which store that is."""
    dispatcher.LEASE = timedelta(seconds=DELIVERY_LEASE)
    sweep.PATIENCE = timedelta(seconds=MESSAGE_PATIENCE)
    sink_worker.MAX_SECONDS, sink_worker.SLOW_SECONDS = DELIVERY_LEASE / 2, DELIVERY_LEASE / 6
    bgtasks.register(FlakySink())
    bgtasks.register(HostileSink())
    if "CHAOS_POOL" in os.environ:
        _have_small_pools()
    if os.environ.get("CHAOS_URL"):
        return {"store": os.environ["CHAOS_URL"]}
    bgtasks.register(MovedClockStore())
    _have_failing_disks()
    return {}


# -- sinks and receivers -----------------------------------------------------------------------------------------------


class FlakySink:
    """Takes what it is told, sooner or later; now and then its answer comes when its delivery's lease is long over."""

    name, log = "flaky", "sink.log"

    @hookimpl
    def bgtasks_task_event(self, task, event):
        if (FOLDER / "sink-is-down").exists():
            raise RetryLater("down", after=0.3, tried=False)  # or the next failure would wait for minutes
        fate = 1.0 if CALM else LUCK.random()
        if fate < 0.02:
            raise RuntimeError("the sink failed")
        if fate < 0.04:
            raise RetryLater("the sink is busy", after=LUCK.uniform(0, 0.2))
        self.ill_will(fate)
        note(self.log, "event", task.request_id, event.seq, event.type.value, event.attempt)
        if 0.5 < fate < 0.504:
            time.sleep(LUCK.uniform(1.1, 2) * DELIVERY_LEASE)
        while (FOLDER / "sink-hangs").exists():
            time.sleep(0.05)

    @hookimpl
    def bgtasks_task_progress(self, task, progress):
        note(self.log, "progress", task.request_id, task.seq, progress.percentage, progress.attempt)
        self.ill_will(1.0 if CALM else LUCK.random())

    def ill_will(self, fate):
        """What this sink does besides."""


class HostileSink(FlakySink):
    """One that raises what no sink should."""

    name, log = "hostile", "hostile.log"

    def ill_will(self, fate):
        if HOSTILITY and 0.9 < fate < 0.93:
            raise LUCK.choice(HOSTILE)()


def be_hostile(app, lease):
    """Connect receivers that raise the same; one that keeps an attempt from what it does after its claim."""
    if CALM:
        return

    def ill_will(sender, **extra):
        if HOSTILITY and LUCK.random() < 0.002:
            raise LUCK.choice(HOSTILE)()

    def sleep(sender, event, **extra):
        if event.attempt > 1 and LUCK.random() < 0.04:
            time.sleep(1.5 * lease)

    for signal in (signals.task_started, signals.task_progress, signals.step_finished):
        signal.connect(ill_will, sender=app, weak=False)
    signals.task_started.connect(sleep, sender=app, weak=False)


# -- the store ---------------------------------------------------------------------------------------------------------


class MovedClockStore:
    """Opens the usual store with that clock."""

    name = "moved-clock"

    @hookimpl
    def bgtasks_open_store(self, app, url, settings):
        path = sqlite_path(app, url)
        return SqlStore(
            path, synchronous=settings.sqlite_synchronous, clock=MovedClock(FOLDER / "clock", CLOCK, system_clock)
        )


def _have_failing_disks():
    """While a file is there, what was written does not reach the disk. No real disk can be told to do that."""
    fsync = os.fsync

    def failing(descriptor):
        if (FOLDER / "fsync-fails").exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    os.fsync = failing


def _have_small_pools():
    """As in an app with far more threads than connections."""
    create = sqlalchemy.create_engine
    small = {"pool_size": 2, "max_overflow": 0, "pool_timeout": 0.5}
    sqlalchemy.create_engine = lambda url, **given: create(url, **{**given, **small})
