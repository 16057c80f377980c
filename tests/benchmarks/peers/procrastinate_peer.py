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
        connector = procrastinate.SyncPsycopgConnector(conninfo=f"{server}/{DATABASE}")
        self._stack = contextlib.ExitStack()
        self._app = self._stack.enter_context(app.with_connector(connector).open())
        self._app.schema_manager.apply_schema()
        self._noop = self._app.tasks[noop.name]
        command = ["-m", "procrastinate", "--app", f"{__name__}.app", "worker", "--queues", "bench"]
        self._stack.enter_context(worker(*command, "--concurrency", str(CONCURRENCY)))

    def versions(self) -> str:
        return f"Procrastinate {version('procrastinate')}"

    def close(self) -> None:
        self._stack.close()

    def submit_one(self) -> Any:
        return self._noop.defer()

    def wait_for(self, handle: Any) -> None:
        stop = time.monotonic() + MAX_WAIT_SECONDS
        while self._app.job_manager.get_job_status(handle).value != "succeeded":
            if time.monotonic() > stop:
                raise TimeoutError("no end")
            time.sleep(LOOK_SECONDS)

    def submit_idle(self) -> Any:
        self._noop.configure(queue=NOBODYS).defer()
