"""Runs each task at once, in the thread that submits it: for tests and scripts.

The task goes through the same stages as with threads (store, serialisation, events), in its own context, so that
nothing of the submitting request leaks into it.
"""

from __future__ import annotations

import contextvars

from ..errors import ShuttingDown
from .base import QueuelessRunner, Run


class InlineRunner(QueuelessRunner):
    """``BGTASKS_RUNNER = "inline"``. Ignores ``delay``: there is nobody to wait."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def submit(self, request_id: str, *, delay: float = 0.0, priority: int = 0, queue: str = "default") -> None:
        if self._stopped:
            raise ShuttingDown()
        contextvars.Context().run(self._run, request_id)

    @property
    def can_wait(self) -> bool:
        return False

    @property
    def looks_out(self) -> bool:
        return False  # a test or a script, which is over soon
