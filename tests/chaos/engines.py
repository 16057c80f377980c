"""Who runs the tasks of a run: the library's own workers, or those of Celery or RQ over a Redis of the run's own.

Each says how a worker is started and of which processes it consists, and what can be done to it besides what is done to
every process (:mod:`tests.chaos.faults`).
"""

import contextlib
import functools
import os
import signal
import sys
import threading
import time
from pathlib import Path

import httpx

from tests.backends.redis import Redis

THREADS = 4  # of each process of the library's own, for tasks
QUEUE = "chaos"

STOP_SECONDS = 30
"""How long a process may take that was told to stop: the app's grace is a second, gunicorn's six."""

ORPHAN_SECONDS = 20  # for what a worker forked that was killed: its task ends, or stops at its next report


class Own:
    """`flask bgtasks worker`, and the web processes too unless the run says that they run none."""

    name, runner = "own workers", "threads"
    places = THREADS  # tasks that one worker runs at once
    processes = 1  # of one worker, that live as long as it does and answer the census
    stop_seconds = STOP_SECONDS  # while things are wrong

    def __init__(self, folder):
        pass

    def running(self):
        return contextlib.nullcontext()

    def env(self):
        return {}

    def command(self):
        words = ["-m", "flask", "--app", "tests.chaos.app", "bgtasks", "worker", "--workers", str(THREADS)]
        return [sys.executable, *words]

    def faults(self, run, luck, later):
        """Kinds by name: how often of a hundred, and what does it. As those of a store."""
        return {}

    def heal(self):
        """Nothing was hurt."""

    def complaints(self):
        return []


class External(Own):
    """The same, and the web processes run no task."""

    runner = "external"


class _Published:
    """What runs tasks by wake-up calls that come through Redis."""

    # It waits for its children without a limit, and a child for the store: for the end of its task, up to a minute.
    stop_seconds = 2 * STOP_SECONDS

    def __init__(self, folder):
        self._folder = folder

    @contextlib.contextmanager
    def running(self):
        self.redis = Redis()
        self.redis.start()
        try:
            yield
        finally:
            for pid in self._processes():
                _signal(pid, signal.SIGKILL)
            self.redis.kill()

    def env(self):
        return {"CHAOS_BROKER": self.redis.url, "CHAOS_QUEUE": QUEUE, "C_FORCE_ROOT": "1"}

    @property
    def runner(self):
        return self.name

    def faults(self, run, luck, later):
        """Kinds by name: how often of a hundred, and what does it. As those of a store."""
        return {
            "kill child": (10, functools.partial(self._kill_child, run, luck)),
            "kill whole worker": (5, functools.partial(self._kill_whole_worker, run, luck)),
            "freeze child": (6, functools.partial(self._freeze_child, run, luck, later)),
            "kill redis": (7, functools.partial(self._kill_redis, luck)),
            "flush redis": (6, self._flush_redis),
            "freeze redis": (4, functools.partial(self._freeze_redis, luck, later)),
            "double messages": (8, functools.partial(self._double, run)),
        }

    def heal(self):
        self.redis.thaw()

    def complaints(self):
        """What a process forked ends too, however that one ended. Asked when all of them were stopped."""
        until, pause = time.monotonic() + ORPHAN_SECONDS, threading.Event()
        while (left := self._processes()) and time.monotonic() < until:
            pause.wait(0.1)
        return [f"process {pid} is still there, and all were stopped" for pid in left]

    def _processes(self):
        """The pids of this run's processes: they have its folder in their environment, whoever forked them."""
        mark, found = f"CHAOS_FOLDER={self._folder}".encode(), []
        for place in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                if mark in place.read_bytes().split(b"\0"):
                    found.append(int(place.parent.name))
        return found

    def _some_child(self, run, luck):
        """A process that a worker has forked; None if there is none at the moment."""
        children = [pid for name in run.names if name != "web" for pid in run.children(name)]
        return luck.choice(children) if children else None

    def _kill_child(self, run, luck):
        _signal(self._some_child(run, luck), signal.SIGKILL)

    def _kill_whole_worker(self, run, luck):
        """With all that it has forked, as where a container is killed."""
        name = luck.choice([name for name in run.names if name != "web"])
        for pid in [run.processes[name].pid, *run.children(name)]:
            _signal(pid, signal.SIGKILL)

    def _freeze_child(self, run, luck, later):
        """Longer than the lease: it wakes up as a zombie."""
        pid = self._some_child(run, luck)
        _signal(pid, signal.SIGSTOP)
        later(luck.uniform(3.5, 6), functools.partial(_signal, pid, signal.SIGCONT))

    def _kill_redis(self, luck):
        """It comes back without anything that it had."""
        self.redis.kill()
        threading.Event().wait(luck.uniform(0, 3))
        self.redis.start()

    def _flush_redis(self):
        self.redis.thaw()
        self.redis.empty()

    def _freeze_redis(self, luck, later):
        self.redis.freeze()
        later(luck.uniform(1, 4), self.redis.thaw)

    def _double(self, run):
        """Further messages for tasks that wait, that run, and that have ended."""
        with contextlib.suppress(httpx.HTTPError):
            httpx.post(f"{run.url}/doubles", json=run.journal.newest(30), timeout=10)


class Celery(_Published):
    """A prefork pool: its tasks run in children that last."""

    name = "celery"
    places = 2
    processes = 1 + places

    def command(self):
        words = ["celery", "--app", "tests.chaos.app:workers", "worker", "-Q", QUEUE, "--concurrency", str(self.places)]
        quiet = ["--without-mingle", "--without-gossip", "--without-heartbeat", "--loglevel", "INFO"]
        return [sys.executable, "-m", *words, *quiet]


class Rq(_Published):
    """Each job runs in a process of its own, which ends with it."""

    name = "rq"
    places = 1
    processes = 1

    def command(self):
        words = ["rq.cli", "worker", "--config", "tests.chaos.app", "--url", self.redis.url, QUEUE]
        return [sys.executable, "-m", *words]


def _signal(pid, number):
    """Send a signal, where there is somebody to get it."""
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
