"""Decides from the outcomes of deliveries whether a sink's service is unreachable, and when to try it again.

For a service that receives all of a sink's deliveries; a single addressee that does not answer gets a cooldown
(:mod:`..sinks.cooldown`). Knows neither sinks nor the store; the caller does the locking.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..core.backoff import Backoff, rng

IN_A_ROW = 3
"""Deliveries that fail one after the other, after which the sink itself counts as unreachable."""

MAX_PAUSE = 15.0
PAUSES = Backoff(first=1.0, longest=MAX_PAUSE)
"""Between two tries while a sink is unreachable. Each tries one delivery, however many are pending: a service that is
down is not stormed, and its return is noticed within seconds."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How a delivery went.

    :param answered: whether the sink's service answered, be it that it refuses.
    :param pause: seconds for which it asks for nothing more at all.
    :param error: what went wrong.
    :param tried: whether it was tried at all. If not, it says nothing about the sink.
    """

    answered: bool = True
    pause: float = 0.0
    error: str | None = None
    tried: bool = True


class CircuitBreaker:
    """Whether a sink seems unreachable, and until when it is left alone."""

    def __init__(self) -> None:
        self._failures = 0
        self._until = 0.0  # the next try at a service that does not answer
        self._pause_until = 0.0  # the end of the pause that it asked for: an answer from before shortens nothing

    @property
    def down(self) -> bool:
        """Whether so many failed in a row that the sink counts as unreachable."""
        return self._failures >= IN_A_ROW

    @property
    def left(self) -> float:
        """Seconds until the next try, 0 if it may be now."""
        return max(0.0, max(self._until, self._pause_until) - time.monotonic())

    def note(self, reply: Reply) -> None:
        """How a delivery went."""
        if not reply.tried:
            return
        if reply.pause:
            self._pause_until = max(self._pause_until, time.monotonic() + reply.pause)
        if reply.answered:
            self._failures = 0
            self._until = 0.0
            return
        self._failures += 1
        if self.down:
            tries = self._failures - IN_A_ROW + 1
            self._until = time.monotonic() + PAUSES.ceiling(tries) * rng.uniform(0.5, 1.0)
