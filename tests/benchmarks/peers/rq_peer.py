"""RQ with Redis: its worker, which forks for each job; progress from a SimpleWorker, which does not."""

from __future__ import annotations

import contextlib
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from redis import Redis
from rq import Queue, get_current_job

from ..subject import MAX_WAIT_SECONDS, REPORTS, Subject, worker

URL = os.environ["BENCH_REDIS"] + "/2"


def noop() -> int:
    """Does nothing."""
    return 1


def report(calls: int) -> float:
    """Report ``calls`` times; the seconds that it took."""
    job = get_current_job()
    assert job is not None
    begun = time.perf_counter()
    for i in range(calls):
        details, fraction = REPORTS[i % len(REPORTS)]
        job.meta["details"] = details
        job.meta["fraction"] = fraction
        job.save_meta()
    return time.perf_counter() - begun


class Measured(Subject):
    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        redis = Redis.from_url(URL)
        self.forked, self.simple, self.nobodys = (
            Queue(name, connection=redis) for name in ("forked", "simple", "nobodys")
        )
        self._stack = contextlib.ExitStack()
        for queue, kind in (("forked", "rq.Worker"), ("simple", "rq.SimpleWorker")):
            self._stack.enter_context(
                worker("-m", "rq.cli", "worker", "--url", URL, "--worker-class", kind, "--quiet", queue)
            )

    def versions(self) -> str:
        return f"RQ {version('rq')}"

    def close(self) -> None:
        self._stack.close()

    def submit_one(self) -> Any:
        return self.forked.enqueue(noop)

    def wait_for(self, handle: Any) -> None:
        if handle.latest_result(timeout=int(MAX_WAIT_SECONDS)) is None:
            raise TimeoutError("no result")

    def submit_idle(self) -> Any:
        self.nobodys.enqueue(noop)

    def report(self, calls: int) -> float:
        job = self.simple.enqueue(report, calls)
        self.wait_for(job)
        return float(job.return_value(refresh=True) or 0)
