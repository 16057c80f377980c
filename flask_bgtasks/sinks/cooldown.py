"""Cooldowns of a sink's addressees: one that does not answer, or asks for a pause, gets nothing for a while.

Kept in the memory of one process, for sinks whose addressees are independent of each other. For a service that receives
all deliveries of a sink there is :mod:`..delivery.circuit_breaker`. Thread-safe.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from ..core.backoff import Backoff, rng
from ..errors import RetryLater
from ..runtime.fork import after_fork_in_child

REMEMBERED = 10_000  # addressees; the one that was heard of longest ago is forgotten first

PROBE_SECONDS = 15.0
"""How long a probe, which finds out whether an addressee answers again, has it to itself: longer than any call takes.
It ends by itself, so that none is lost with an exception on the way."""


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
        self._lock = threading.Lock()  # protects _cooldowns and what is in it
        self._cooldowns: OrderedDict[str, _Cooldown] = OrderedDict()

    def begin(self, who: str, shown: str) -> Probe:
        """Begin a try. :raises RetryLater: ``who`` is left alone, and nothing is to be tried.

        :param shown: names the addressee in the message.
        """
        now = time.monotonic()
        with self._lock:
            cooldown = self._cooldowns.get(who)
            if cooldown is not None:
                left = cooldown.until - now
                if left <= 0 and cooldown.probe_until > now:
                    # Spread, since mostly it is over in a moment, and then all of them may go.
                    left = (cooldown.probe_until - now) * rng.uniform(0.1, 1.0)
                if left > 0:
                    raise RetryLater(f"{shown} is left alone for now", after=left, tried=False)
                cooldown.probe_until = now + PROBE_SECONDS
        return Probe(self, who, now)

    def left(self, who: str) -> float:
        """Seconds until a try at ``who`` may begin, 0 if it may now. Begins none, and so keeps nobody from it."""
        now = time.monotonic()
        with self._lock:
            cooldown = self._cooldowns.get(who)
            return 0.0 if cooldown is None else max(0.0, cooldown.until - now, cooldown.probe_until - now)

    def _refused(self, who: str, begun: float, after: float | None) -> float:
        now = time.monotonic()
        with self._lock:
            cooldown = self._cooldowns.setdefault(who, _Cooldown())
            self._cooldowns.move_to_end(who)
            if len(self._cooldowns) > REMEMBERED:
                self._cooldowns.popitem(last=False)
            if begun >= cooldown.since:  # those that were under way together are one refusal
                cooldown.since, cooldown.probe_until = now, 0.0
                cooldown.refusals += 1
            if after is None:
                after = self._pauses.ceiling(cooldown.refusals) * rng.uniform(0.5, 1.0)
            cooldown.until = max(cooldown.until, now + after)
            return cooldown.until - now

    def _answered(self, who: str, begun: float) -> None:
        with self._lock:
            cooldown = self._cooldowns.get(who)
            if cooldown is not None and begun >= cooldown.since:  # who began before the refusal says nothing about it
                del self._cooldowns[who]


class Probe:
    """One try at one addressee, and how it went. Without a word of either it has changed nothing."""

    def __init__(self, cooldowns: Cooldowns, who: str, begun: float) -> None:
        self._cooldowns = cooldowns
        self._who = who
        self._begun = begun

    def refused(self, after: float | None = None) -> float:
        """It did not answer, or wants a pause; how many seconds it is left alone.

        :param after: for which it has asked; by default ever longer pauses.
        """
        return self._cooldowns._refused(self._who, self._begun, after)

    def answered(self) -> None:
        """It is there, and wants no pause."""
        self._cooldowns._answered(self._who, self._begun)


@dataclass(slots=True)
class _Cooldown:
    """By ``time.monotonic``: ``since`` the last refusal, ``until`` the end of the pause."""

    refusals: int = 0
    since: float = 0.0
    until: float = 0.0
    probe_until: float = 0.0
