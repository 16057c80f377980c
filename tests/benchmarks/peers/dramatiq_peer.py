"""Dramatiq with Redis as broker and result backend; its worker as it comes: a process per core, eight threads each.

On two cores that is more than twice as fast as one process of four threads, so anything else would flatter us.
"""

from __future__ import annotations

import contextlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from ..subject import MAX_WAIT_SECONDS, Subject, worker

NOBODYS = "nobodys"  # a queue without a worker: declared here only, not in the worker's process
URL = os.environ["BENCH_REDIS"] + "/3"

broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop() -> int:
    """Does nothing."""
    return 1


class Measured(Subject):
    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        broker.declare_queue(NOBODYS)
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(worker("-m", "dramatiq", __name__))

    def versions(self) -> str:
        return f"Dramatiq {version('dramatiq')}"

    def close(self) -> None:
        self._stack.close()

    def submit_one(self) -> Any:
        return noop.send()

    def wait_for(self, handle: Any) -> None:
        handle.get_result(block=True, timeout=int(MAX_WAIT_SECONDS * 1000))

    def submit_idle(self) -> Any:
        broker.enqueue(noop.message().copy(queue_name=NOBODYS))
