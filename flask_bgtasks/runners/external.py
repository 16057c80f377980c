"""Runs nothing: tasks are stored here, and run by ``flask bgtasks worker`` processes on the same store."""

from __future__ import annotations

from ..errors import ShuttingDown
from .base import Runner


class ExternalRunner(Runner):
    """``BGTASKS_RUNNER = "external"``: what is submitted waits in the store for a worker process."""

    def __init__(self) -> None:
        self._stopped = False

    def submit(self, request_id: str, *, delay: float = 0.0, priority: int = 0, queue: str = "default") -> None:
        if self._stopped:
            raise ShuttingDown()

    def cancel(self, request_id: str) -> bool:
        return False

    def stop(self, grace: float) -> bool:
        self._stopped = True
        return True

    @property
    def draining(self) -> bool:
        return self._stopped

    @property
    def waiting(self) -> int:
        return 0
