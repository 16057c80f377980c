"""Runs nothing: tasks are stored here, and run by ``flask bgtasks worker`` processes on the same store."""

from __future__ import annotations

from ..errors import ShuttingDown
from .base import QueuelessRunner


class ExternalRunner(QueuelessRunner):
    """``BGTASKS_RUNNER = "external"``: what is submitted waits in the store for a worker process."""

    def submit(self, request_id: str, *, delay: float = 0.0, priority: int = 0, queue: str = "default") -> None:
        if self._stopped:
            raise ShuttingDown()
