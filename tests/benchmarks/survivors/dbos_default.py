"""DBOS with SQLite: a workflow of steps, recovered when the process is launched again."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from dbos import DBOS, DBOSClient

from .steps import STEPS, run_step

URL = f"sqlite:///{Path(os.environ['BENCH_FOLDER']) / 'dbos.sqlite3'}"
QUEUE = "survivor"


@DBOS.step()
def one(number: int) -> int:
    """A step, its value kept."""
    return run_step(number)


@DBOS.workflow(name="work")
def work() -> int:
    """The steps, each run once."""
    return sum(one(number) for number in range(1, STEPS + 1))


def main(command: str) -> None:
    """Serve until killed, submit, or say whether the workflow has not ended."""
    if command == "work":
        DBOS(config={"name": "survivor", "system_database_url": URL, "log_level": "WARNING"})
        DBOS.launch()
        DBOS.register_queue(QUEUE)
        threading.Event().wait()
    client = DBOSClient(system_database_url=URL)
    if command == "submit":
        print(client.enqueue({"workflow_name": "work", "queue_name": QUEUE}))
    else:
        print(any(one.status in ("PENDING", "ENQUEUED") for one in client.list_workflows()))


if __name__ == "__main__":
    main(sys.argv[1])
