"""Celery with Redis as broker and result backend; a prefork worker of four."""

from __future__ import annotations

import contextlib
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from celery import Celery, Task

from ..subject import MAX_WAIT_SECONDS, REPORTS, Subject, worker

NOBODYS = "nobodys"  # a queue without a worker

url = os.environ["BENCH_REDIS"] + "/1"
app = Celery("bench", broker=url, backend=url)
app.conf.broker_connection_retry_on_startup = True


@app.task(name="noop")
def noop() -> int:
    """Does nothing."""
    return 1


@app.task(name="report", bind=True)
def report(self: Task, calls: int) -> float:
    """Report ``calls`` times; the seconds that it took."""
    begun = time.perf_counter()
    for i in range(calls):
        details, fraction = REPORTS[i % len(REPORTS)]
        self.update_state(state="PROGRESS", meta={"details": details, "fraction": fraction})
    return time.perf_counter() - begun


class Measured(Subject):
    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(
            worker("-m", "celery", "-A", __name__, "worker", "--concurrency", "4", "--loglevel", "WARNING")
        )

    def versions(self) -> str:
        return f"Celery {version('celery')}"

    def close(self) -> None:
        self._stack.close()

    def submit_one(self) -> Any:
        return noop.delay()

    def wait_for(self, handle: Any) -> None:
        handle.get(timeout=MAX_WAIT_SECONDS)

    def submit_idle(self) -> Any:
        noop.apply_async(queue=NOBODYS)

    def report(self, calls: int) -> float:
        return float(report.delay(calls).get(timeout=MAX_WAIT_SECONDS))
