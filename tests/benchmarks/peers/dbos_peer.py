"""DBOS with its system database in SQLite: workflows started in the threads of this process, durable as ours are."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSClient

from ..subject import REPORTS, Subject


@DBOS.workflow()
def noop() -> int:
    """Does nothing."""
    return 1


@DBOS.workflow()
def report(calls: int) -> float:
    """Report ``calls`` times; the seconds that it took."""
    begun = time.perf_counter()
    for i in range(calls):
        details, fraction = REPORTS[i % len(REPORTS)]
        DBOS.set_event("progress", {"details": details, "fraction": fraction})
    return time.perf_counter() - begun


class Measured(Subject):
    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        url = f"sqlite:///{folder / 'dbos.sqlite3'}"
        DBOS(config={"name": "bench", "system_database_url": url, "log_level": "WARNING", "max_executor_threads": 4})
        DBOS.launch()
        self._client = DBOSClient(system_database_url=url)

    def versions(self) -> str:
        return f"DBOS {version('dbos')}"

    def close(self) -> None:
        self._client.destroy()
        DBOS.destroy()

    def submit_one(self) -> Any:
        return DBOS.start_workflow(noop)

    def wait_for(self, handle: Any) -> None:
        handle.get_result()

    def submit_idle(self) -> Any:
        self._client.enqueue({"workflow_name": noop.__qualname__, "queue_name": "nobodys"})

    def report(self, calls: int) -> float:
        return float(DBOS.start_workflow(report, calls).get_result())
