"""RQ as it comes."""

from __future__ import annotations

import os

from redis import Redis
from rq import Queue
from rq.registry import StartedJobRegistry

from .steps import run_all

URL = os.environ["BENCH_REDIS"] + "/7"
queue = Queue("survivor", connection=Redis.from_url(URL))


def recorded() -> bool:
    """Whether the job waits, or is held for started."""
    return bool(len(queue) or StartedJobRegistry(queue=queue).get_job_ids(cleanup=False))


def main(command: str) -> None:
    """Submit, or say whether the task is recorded."""
    print(queue.enqueue(run_all) if command == "submit" else recorded())
