"""flask-bgtasks as it comes: the SQLite store and the threads of this process."""

from __future__ import annotations

import contextlib
import platform
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flask import Flask

from flask_bgtasks import BackgroundTasks, current_task, step

from .subject import MAX_WAIT_SECONDS, REPORTS, Subject

WORKERS = 4

bgtasks = BackgroundTasks()
gate = threading.Event()  # what `hold` waits for


@bgtasks.task
def noop() -> int:
    """Does nothing."""
    return 1


@bgtasks.task
def hold() -> None:
    """Keeps a worker busy, with nothing."""
    gate.wait(MAX_WAIT_SECONDS)


@bgtasks.task
def report(calls: int) -> float:
    """Report ``calls`` times; the seconds that it took."""
    with step("Drawing"):
        begun = time.perf_counter()
        for _ in range(calls // len(REPORTS)):
            for details, fraction in REPORTS:
                current_task.update(details=details, fraction=fraction)
        return time.perf_counter() - begun


@bgtasks.task
def many_steps(steps: int) -> list[float]:
    """Begin and end so many steps; the seconds of this thread's processor time that each took."""
    times = []
    for number in range(steps):
        begun = time.thread_time()
        with step(f"Step {number}"):
            pass
        times.append(time.thread_time() - begun)
    return times


class Measured(Subject):
    """:param synchronous: ``BGTASKS_SQLITE_SYNCHRONOUS``."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.app = self._make()
        self._context = self.app.app_context()
        self._context.push()

    def _make(self) -> Flask:
        app = Flask("ours", instance_path=str(self.folder))
        app.config["BGTASKS_WORKERS"] = WORKERS
        app.config["BGTASKS_SQLITE_SYNCHRONOUS"] = self.options.get("synchronous", "FULL")
        bgtasks.init_app(app)
        return app

    def versions(self) -> str:
        return f"flask-bgtasks {version('flask-bgtasks')}, Flask {version('flask')}, Python {platform.python_version()}"

    def close(self) -> None:
        gate.set()
        self._context.pop()

    def submit_one(self) -> Any:
        return noop.submit()

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[None]:
        with self.app.app_context():
            yield

    def wait_for(self, handle: Any) -> None:
        handle.wait(timeout=MAX_WAIT_SECONDS)

    def submit_idle(self) -> Any:
        self._last = noop.submit()

    @contextlib.contextmanager
    def nobody_works(self) -> Iterator[None]:
        gate.clear()
        holding = [hold.submit() for _ in range(WORKERS)]
        stop = time.monotonic() + 5
        while any(handle.status.value == "started" for handle in holding) and time.monotonic() < stop:
            time.sleep(0.005)
        try:
            yield
        finally:
            gate.set()
            self._last.wait(timeout=MAX_WAIT_SECONDS)

    def step(self, steps: int) -> list[float]:
        times: list[float] = many_steps.submit(steps).wait(timeout=MAX_WAIT_SECONDS)
        return times

    def report(self, calls: int) -> float:
        handle = report.submit(calls)
        seconds = float(handle.wait(timeout=MAX_WAIT_SECONDS))
        progress = handle.progress
        assert progress is not None
        assert progress.details == REPORTS[-1][0], "what was reported last is not what is stored"
        return seconds
