"""Procrastinate on PostgreSQL; its worker with four tasks at a time, as coroutines, which is its fastest way.

It keeps no results: a task is done when its row says so, for which is looked every other millisecond.
"""

from __future__ import annotations

import contextlib
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import procrastinate
import psycopg

from ..subject import MAX_WAIT_SECONDS, Subject, worker

DATABASE = "procrastinate"
NOBODYS = "nobodys"  # a queue without a worker
LOOK_SECONDS = 0.002
CONCURRENCY = 4

server = os.environ["BENCH_POSTGRESQL"]
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=f"{server}/{DATABASE}"))


@app.task(queue="bench")
async def noop() -> int:
    """Does nothing."""
    return 1


class Measured(Subject):
    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(app.open())  # a pool for what is not a coroutine
        app.schema_manager.apply_schema()
        command = ["-m", "procrastinate", "--app", f"{__name__}.app", "worker", "--queues", "bench"]
        self._stack.enter_context(worker(*command, "--concurrency", str(CONCURRENCY)))

    def versions(self) -> str:
        return f"Procrastinate {version('procrastinate')}"

    def close(self) -> None:
        self._stack.close()

    def submit_one(self) -> Any:
        return noop.defer()

    def wait_for(self, handle: Any) -> None:
        stop = time.monotonic() + MAX_WAIT_SECONDS
        while app.job_manager.get_job_status(handle).value != "succeeded":
            if time.monotonic() > stop:
                raise TimeoutError("no end")
            time.sleep(LOOK_SECONDS)

    def submit_idle(self) -> Any:
        noop.configure(queue=NOBODYS).defer()
