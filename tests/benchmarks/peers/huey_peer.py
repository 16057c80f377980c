"""Huey on SQLite; a consumer of four threads in its own process.

A result is looked for every millisecond, not in Huey's own steps of a tenth of a second: what is measured is when it is
there. Tasks are looked for as the consumer does by default.
"""

from __future__ import annotations

import contextlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huey import SqliteHuey

from ..subject import MAX_WAIT_SECONDS, Subject, worker

LOOK_SECONDS = 0.001

folder = Path(os.environ["BENCH_FOLDER"])
huey = SqliteHuey("bench", filename=str(folder / "huey.sqlite3"))


@huey.task()
def noop() -> int:
    """Does nothing."""
    return 1


class Measured(Subject):
    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        nobodys = SqliteHuey("nobodys", filename=str(folder / "nobodys.sqlite3"))  # without a consumer
        self._idle = nobodys.task()(noop.func)
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(
            worker(
                "-m", "huey.bin.huey_consumer", f"{__name__}.huey", "--workers", "4", "--worker-type", "thread", "-q"
            )
        )

    def versions(self) -> str:
        return f"Huey {version('huey')}"

    def close(self) -> None:
        self._stack.close()

    def submit_one(self) -> Any:
        return noop()

    def wait_for(self, handle: Any) -> None:
        handle.get(blocking=True, timeout=MAX_WAIT_SECONDS, backoff=1, max_delay=LOOK_SECONDS)

    def submit_idle(self) -> Any:
        self._idle()
