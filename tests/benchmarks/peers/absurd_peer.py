"""Absurd (earendil-works/absurd) on PostgreSQL; its worker with four threads, as its Python SDK has them.

A result is looked for every other millisecond, not in its own steps of 50 ms and more: what is measured is when it is
there. Tasks are looked for as its worker does by default.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
from absurd_sdk import Absurd

from ..subject import MAX_WAIT_SECONDS, Subject, worker

DATABASE = "absurd"
NOBODYS = "nobodys"  # a queue without a worker
LOOK_SECONDS = 0.002
CONCURRENCY = 4

server = os.environ["BENCH_POSTGRESQL"]


def connect() -> Absurd:
    """A client, with the task that does nothing."""
    app = Absurd(f"{server}/{DATABASE}", queue_name="bench")
    app.register_task(name="noop")(lambda params, ctx: 1)
    return app


class Measured(Subject):
    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        from absurdctl import BUNDLED_SCHEMA_SQL  # the schema, of its own version

        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        with psycopg.connect(f"{server}/{DATABASE}", autocommit=True) as connection:
            connection.execute(BUNDLED_SCHEMA_SQL)
        self._app = connect()
        for queue in ("bench", NOBODYS):
            self._app.create_queue(queue)
        self._stack = contextlib.ExitStack()
        self._stack.callback(self._app.close)
        self._stack.enter_context(worker("-m", __name__))

    def versions(self) -> str:
        return f"Absurd {version('absurd-sdk')}"

    def close(self) -> None:
        self._stack.close()

    def submit_one(self) -> Any:
        return self._app.spawn("noop", {})["task_id"]

    def wait_for(self, handle: Any) -> None:
        stop = time.monotonic() + MAX_WAIT_SECONDS
        while True:
            found = self._app.fetch_task_result(handle)
            if found is not None and found.state == "completed":
                return
            if time.monotonic() > stop:
                raise TimeoutError("no end")
            time.sleep(LOOK_SECONDS)

    def submit_idle(self) -> Any:
        self._app.spawn("nobody", {}, queue=NOBODYS)


if __name__ == "__main__":
    sys.exit(connect().start_worker(concurrency=CONCURRENCY))
