"""Cooldowns of a sink's addressees: one that does not answer, or asks for a pause, gets nothing for a while.

Kept in the memory of one process, for sinks whose addressees are independent of each other. For a service that receives
all deliveries of a sink there is :mod:`..delivery.circuit_breaker`. Thread-safe.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from ..core.backoff import Backoff, dice
from ..errors import RetryLater
from ..runtime.fork import after_fork_in_child

REMEMBERED = 10_000  # addressees; the one that was heard of longest ago is forgotten first

TURN_SECONDS = 15.0
"""How long the one who finds out whether an addressee answers again has it to itself: longer than any call takes. A
turn ends by itself, so that none is lost with an exception on the way."""


class Cooldowns:
    """The cooldowns of one sink.

    :param pauses: between two tries at an addressee that does not answer. Deliveries that come meanwhile wait untried;
        after the pause a single delivery finds out whether the addressee answers again.
    """

    def __init__(self, pauses: Backoff) -> None:
        self._pauses = pauses
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()  # protects _rests and what is in it
        self._rests: OrderedDict[str, _Rest] = OrderedDict()

    def begin(self, who: str, shown: str) -> Probe:
        """Begin a try. :raises RetryLater: ``who`` is left alone, and nothing is to be tried.

        :param shown: names the addressee in the message.
        """
        now = time.monotonic()
        with self._lock:
            rest = self._rests.get(who)
            if rest is not None:
                left = rest.until - now
                if left <= 0 and rest.turn_until > now:
                    # Spread, since mostly it is over in a moment, and then all of them may go.
                    left = (rest.turn_until - now) * dice.uniform(0.1, 1.0)
                if left > 0:
                    raise RetryLater(f"{shown} is left alone for now", after=left, tried=False)
                rest.turn_until = now + TURN_SECONDS
        return Probe(self, who, now)

    def left(self, who: str) -> float:
        """Seconds until a try at ``who`` may begin, 0 if it may now. Begins none, and so keeps nobody from it."""
        now = time.monotonic()
        with self._lock:
            rest = self._rests.get(who)
            return 0.0 if rest is None else max(0.0, rest.until - now, rest.turn_until - now)

    def _refused(self, who: str, begun: float, after: float | None) -> float:
        now = time.monotonic()
        with self._lock:
            rest = self._rests.setdefault(who, _Rest())
            self._rests.move_to_end(who)
            if len(self._rests) > REMEMBERED:
                self._rests.popitem(last=False)
            if begun >= rest.since:  # those that were under way together are one refusal
                rest.since, rest.turn_until = now, 0.0
                rest.refusals += 1
            if after is None:
                after = self._pauses.ceiling(rest.refusals) * dice.uniform(0.5, 1.0)
            rest.until = max(rest.until, now + after)
            return rest.until - now

    def _answered(self, who: str, begun: float) -> None:
        with self._lock:
            rest = self._rests.get(who)
            if rest is not None and begun >= rest.since:  # who began before the refusal says nothing about it
                del self._rests[who]


class Probe:
    """One try at one addressee, and how it went. Without a word of either it has changed nothing."""

    def __init__(self, rests: Cooldowns, who: str, begun: float) -> None:
        self._rests = rests
        self._who = who
        self._begun = begun

    def refused(self, after: float | None = None) -> float:
        """It did not answer, or wants a pause; how many seconds it is left alone.

        :param after: for which it has asked; by default ever longer pauses.
        """
        return self._rests._refused(self._who, self._begun, after)

    def answered(self) -> None:
        """It is there, and wants no pause."""
        self._rests._answered(self._who, self._begun)


@dataclass(slots=True)
class _Rest:
    """By ``time.monotonic``: ``since`` the last refusal, ``until`` the end of the pause."""

    refusals: int = 0
    since: float = 0.0
    until: float = 0.0
    turn_until: float = 0.0
