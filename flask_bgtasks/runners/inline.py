"""Runs each task at once, in the thread that submits it: for tests and scripts.

The task goes through the same stages as with threads (store, serialisation, events), in its own context, so that
nothing of the submitting request leaks into it.
"""

from __future__ import annotations

import contextvars

from ..errors import ShuttingDown
from .base import Run, Runner


class InlineRunner(Runner):
    """``BGTASKS_RUNNER = "inline"``. Ignores ``delay``: there is nobody to wait."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._stopped = False

    def submit(self, request_id: str, *, delay: float = 0.0, priority: int = 0, queue: str = "default") -> None:
        if self._stopped:
            raise ShuttingDown()
        contextvars.Context().run(self._run, request_id)

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

    @property
    def can_wait(self) -> bool:
        return False

    @property
    def looks_out(self) -> bool:
        return False  # a test or a script, which is over soon
