"""The visible brake of the demo: a wait after each unit of work, so that there is progress to watch.

The offline pipeline is quick; a real one, with a language model and an image model, is not. The wait reports while it
waits, so a cancelled task stops within a tenth of a second.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from flask_bgtasks import current_task

SLICE = 0.1  # seconds between two reports of a waiting task


@dataclass(frozen=True, slots=True)
class Pace:
    """Waits ``seconds`` per unit of work; 0 does not wait at all."""

    seconds: float = 0.0

    def wait(self, units: float = 1.0) -> None:
        """Wait for a unit of work, or for a part of one. :raises CancelRequested: the task was cancelled meanwhile."""
        end = time.monotonic() + self.seconds * units
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, SLICE))
            current_task.update()
