"""The same task of twenty seconds, its machine dead at half time and back after two seconds, side by side.

Every worker, with all the processes that it has started, is ended by SIGKILL in step 5 of 8; then the same command is
started again, and nothing else is sent. What becomes of the task is read from what its steps wrote down.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .survivors.steps import STEPS, log

AWAY_SECONDS = 2.0
START_SECONDS = 60.0
PATIENCE_SECONDS = 130.0
"""After the restart. What has not gone on by then is taken for lost, or for stuck if it is recorded as under way."""

APART_SECONDS = 4.0  # between two of them, so that no two start at the same moment
INTERRUPTED = STEPS // 2 + 1


@dataclass(frozen=True)
class TaskKind:
    """One of those who are killed: its module, its worker's command, whose peer's installation it needs."""

    module: str
    worker: tuple[str, ...]
    peer: str | None
    note: str


_CELERY = ("worker", "--concurrency", "1", "--loglevel", "WARNING")
_HERE = f"{__package__}.survivors."

KINDS = {
    "ours": TaskKind(
        "ours",
        ("-m", "flask", "--app", _HERE + "ours", "bgtasks", "worker"),
        None,
        "a checkpoint for each step, `flask bgtasks worker`, SQLite",
    ),
    "DBOS": TaskKind(
        "dbos_default",
        ("-m", _HERE + "dbos_default", "work"),
        "dbos",
        "a workflow of steps, SQLite, recovered at launch",
    ),
    "Celery": TaskKind(
        "celery_default",
        ("-m", "celery", "-A", _HERE + "celery_default", *_CELERY),
        "celery",
        "as it comes: acknowledged when it begins",
    ),
    "Celery, late": TaskKind(
        "celery_late",
        ("-m", "celery", "-A", _HERE + "celery_late", *_CELERY),
        "celery",
        "acks_late, reject_on_worker_lost, a visibility_timeout of 60 s (default: 3,600)",
    ),
    "Dramatiq": TaskKind(
        "dramatiq_default",
        ("-m", "dramatiq", _HERE + "dramatiq_default", "--processes", "1", "--threads", "1"),
        "dramatiq",
        "as it comes: heartbeat_timeout of 60 s",
    ),
    "RQ": TaskKind(
        "rq_default", ("-m", "rq.cli", "worker", "--url", "{redis}/7", "--quiet", "survivor"), "rq", "as it comes"
    ),
    "Huey": TaskKind(
        "huey_default",
        ("-m", "huey.bin.huey_consumer", _HERE + "huey_default.huey", "--workers", "1", "-q"),
        "huey",
        "as it comes, SQLite",
    ),
}
NEED_REDIS = ("Celery", "Celery, late", "Dramatiq", "RQ")


@dataclass(frozen=True)
class Fate:
    """What became of a task.

    :param seconds: from the restart to the first step after it, where there was one.
    :param first_half: how often steps 1 to 4 ran, in all.
    """

    outcome: str
    seconds: float | None = None
    first_half: int = 0
    completed: bool = False

    def __str__(self) -> str:
        after = "" if self.seconds is None else f" {self.seconds:.2f} s after the restart"
        end = ", completed" if self.completed else ""
        return f"{self.outcome}{after}{end}; steps 1 to {INTERRUPTED - 1} ran {self.first_half} times in all"


def measure(folder: Path, names: list[str], *, redis: str | None) -> dict[str, Fate]:
    """The fates of these survivors, all at once: most of the time they sleep."""
    with ThreadPoolExecutor(len(names)) as pool:
        fates = {
            name: pool.submit(_fate, folder / KINDS[name].module, KINDS[name], redis, place * APART_SECONDS)
            for place, name in enumerate(names)
        }
        return {name: fate.result() for name, fate in fates.items()}


def _fate(folder: Path, kind: TaskKind, redis: str | None, delay: float) -> Fate:
    folder.mkdir(parents=True)
    time.sleep(delay)
    survivor = _Survivor(folder, kind, redis or "")
    try:
        with survivor.worker():
            survivor.submit()
            if not _wait(lambda: ("begin", INTERRUPTED) in survivor.done(), START_SECONDS):
                return Fate("not measured: it did not begin")
        time.sleep(AWAY_SECONDS)
        restart = time.monotonic()
        with survivor.worker():
            _wait(lambda: any(what == "begin" for what, _ in survivor.done(restart)), PATIENCE_SECONDS)
            again = [(number, at) for what, number, at in log(folder) if what == "begin" and at > restart]
            if not again:
                outcome = "stuck" if survivor.call("recorded") == "True" else "lost"
                return Fate(f"{outcome} (nothing within {PATIENCE_SECONDS:.0f} s)", first_half=survivor.first_half())
            first, at = again[0]
            outcome = "resumed at the step" if first == INTERRUPTED else "rerun from the start"
            completed = _wait(lambda: ("end", STEPS) in survivor.done(restart), START_SECONDS)
            return Fate(outcome, at - restart, survivor.first_half(), completed)
    except (OSError, subprocess.SubprocessError, ImportError) as error:
        return Fate(f"not measured: {error}")


class _Survivor:
    """One of them: its worker, and what is asked of it."""

    def __init__(self, folder: Path, kind: TaskKind, redis: str) -> None:
        self._folder = folder
        self._module = _HERE + kind.module
        self._command = [sys.executable, *(word.format(redis=redis) for word in kind.worker)]
        self._env = {**os.environ, "BENCH_FOLDER": str(folder), "BENCH_REDIS": redis}

    @contextlib.contextmanager
    def worker(self) -> Iterator[None]:
        """The worker, killed at the end with everything that it has started."""
        with (self._folder / "worker.log").open("ab") as out:
            process = subprocess.Popen(
                self._command, env=self._env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        try:
            yield
        finally:
            for pid in [process.pid, *_descendants(process.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()

    def submit(self) -> None:
        """Submit the task. Again, where the worker has not made its tables yet."""
        stop = time.monotonic() + START_SECONDS
        while True:
            try:
                self.call("submit")
                return
            except subprocess.CalledProcessError as error:
                if time.monotonic() > stop:
                    raise OSError((error.stderr or "it cannot be submitted").strip().splitlines()[-1]) from None
                time.sleep(0.5)

    def call(self, command: str) -> str:
        """``submit`` or ``recorded``, in a process of its own; what it printed."""
        done = subprocess.run(
            [sys.executable, "-c", f"from {self._module} import main; main({command!r})"],
            env=self._env,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=True,
        )
        return done.stdout.strip().splitlines()[-1]

    def done(self, since: float = 0.0) -> list[tuple[str, int]]:
        """What its steps wrote down after that moment."""
        return [(what, number) for what, number, at in log(self._folder) if at > since]

    def first_half(self) -> int:
        """How often the steps before the interrupted one ran."""
        return sum(what == "begin" and number < INTERRUPTED for what, number, _ in log(self._folder))


def _wait(look: Callable[[], bool], seconds: float) -> bool:
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        if look():
            return True
        time.sleep(0.02)
    return False


def _descendants(pid: int) -> list[int]:
    """All processes below one (Linux): some make groups of their own."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *_descendants(int(child))]
    return found
