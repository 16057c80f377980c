"""Which way the client asks, and when: the ladder of stream, poll and monitor, with its timers. Pure.

stream
    The backend tells live. Down after three failures in a row, or when there is no stream to be had (503, say).
poll
    The backend is asked about every second, and every 30 s a stream is tried. Down when it cannot be reached.
monitor
    Firestore is asked about every 30 s, and the backend beside it, by backoff. Up when the backend answers.

Each consumer has a ladder of its own: threads share nothing here. Times are monotonic, in seconds.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum

from ...core.backoff import Backoff, rng


class Rung(str, Enum):
    """One way to ask."""

    STREAM = "stream"
    POLL = "poll"
    MONITOR = "monitor"


_STREAM_AND_SEND = Backoff(first=0.5, longest=30.0)
_PROBE = Backoff(first=1.0, longest=30.0)
_DOUBT = Backoff(first=0.5, longest=300.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The client's intervals and limits, in seconds.

    :param silence: silence of a stream after which its connection counts as dead: two and a half of the server's pings.
    :param stream_failures: failures in a row after which the stream is given up for a while.
    :param stream_again: how long until a stream is tried again.
    :param poll: between two polls; :param slowest_poll: the same when nothing changes for long, after ``unchanged``.
    :param monitor: between two reads of Firestore, and its jitter; :param slowest_monitor: the same when reads fail.
    :param probe: between two requests to an unreachable backend, first and longest.
    :param send: back-off of a submission; :param doubt: the same while something other than the backend answers.
    :param longest_wish: the longest ``Retry-After`` that is honoured.
    :param refused_again: how long headers that were answered with 401 are not tried again.
    """

    silence: float = 40.0
    stream_backoff: Backoff = _STREAM_AND_SEND
    stream_failures: int = 3
    stream_again: float = 30.0
    poll: float = 1.0
    slowest_poll: float = 5.0
    unchanged: float = 60.0
    poll_growth: float = 1.5
    poll_jitter: float = 0.2
    monitor: float = 30.0
    monitor_jitter: float = 3.0
    slowest_monitor: float = 120.0
    probe: Backoff = _PROBE
    send: Backoff = _STREAM_AND_SEND
    doubt: Backoff = _DOUBT
    longest_wish: float = 3600.0
    refused_again: float = 300.0
    poll_timeout: float = 10.0
    send_timeout: float = 30.0


class Channel:
    """Where one consumer is on the ladder.

    :param mirrored: whether there is a Firestore to ask.
    """

    def __init__(self, timing: Timing, *, mirrored: bool, random: random.Random = rng) -> None:
        self._timing = timing
        self._mirrored = mirrored
        self._random = random
        self.wake()

    def wake(self) -> None:
        """The machine slept, or somebody asks: forget how bad the network was."""
        self.rung = Rung.STREAM
        self._stream_fails = self._probe_fails = self._mirror_fails = 0
        self._retry: float | None = None
        self._stream_at = self._probe_at = self._mirror_at = 0.0
        self._changed_at: float | None = None
        self._pause = self._timing.poll

    # -- the stream ----------------------------------------------------------------------------------------------------

    def choose(self, now: float) -> Rung:
        """The rung to stand on now."""
        if self.rung is Rung.POLL and now >= self._stream_at:
            return Rung.STREAM
        return self.rung

    def stream_told(self) -> None:
        """An event came: the stream works."""
        self.rung = Rung.STREAM
        self._stream_fails = 0

    def stream_broke(self, now: float, *, retry: float | None = None) -> float:
        """It ended without a last event, was silent, or could not be opened; how long to wait before anything else.

        :param retry: the server's wish for the first wait.
        """
        if self.rung is Rung.POLL:  # the one try of a stream in 30 s
            self._stream_at = now + self._timing.stream_again
            return 0.0
        self._stream_fails += 1
        self._retry = retry if retry is not None else self._retry
        if self._stream_fails >= self._timing.stream_failures:
            self.stream_refused(now)
            return 0.0
        backoff = self._timing.stream_backoff
        first = backoff.first if self._retry is None else self._retry
        return self._drawn(min(backoff.longest, first * 2.0 ** (self._stream_fails - 1)))

    def stream_refused(self, now: float, *, retry_after: float | None = None) -> None:
        """There is no stream to be had at present: poll."""
        self.rung = Rung.POLL
        self._stream_fails = 0
        self._stream_at = now + max(self._timing.stream_again, min(retry_after or 0.0, self._timing.longest_wish))

    # -- polling -------------------------------------------------------------------------------------------------------

    def polled(self, now: float, *, changed: bool, wish: float | None, demand: float | None) -> float:
        """The backend answered a poll; how long to wait until the next one.

        :param wish: its ``poll_after_ms``, in seconds. :param demand: its ``Retry-After`` where it refused.
        """
        if changed or self._changed_at is None:
            self._changed_at, self._pause = now, self._timing.poll
        elif now - self._changed_at >= self._timing.unchanged:
            self._pause = min(self._timing.slowest_poll, self._pause * self._timing.poll_growth)
        pause = self._pause if wish is None else max(wish, self._pause if self._pause > self._timing.poll else 0.0)
        if demand is not None:
            pause = max(pause, min(demand, self._timing.longest_wish))
            return pause * self._random.uniform(1.0, 1.0 + self._timing.poll_jitter)
        return pause * self._random.uniform(1.0 - self._timing.poll_jitter, 1.0 + self._timing.poll_jitter)

    def poll_failed(self, now: float, *, demand: float | None = None) -> None:
        """The backend cannot be reached: watch for it, and ask Firestore.

        :param demand: what it, or a proxy before it, asks to wait.
        """
        if self.rung is not Rung.MONITOR:
            self.rung = Rung.MONITOR
            self._probe_fails = self._mirror_fails = 0
            self._mirror_at = now
        self._probe_fails += 1
        drawn = self._drawn(self._timing.probe.ceiling(self._probe_fails))
        self._probe_at = now + max(drawn, min(demand or 0.0, self._timing.longest_wish))

    def backend_answered(self) -> None:
        """It is back: begin again with a stream."""
        if self.rung is Rung.MONITOR:
            self.wake()

    # -- the mirror ----------------------------------------------------------------------------------------------------

    @property
    def offline(self) -> bool:
        """Whether neither the backend nor Firestore can be reached, as far as is known."""
        return self.rung is Rung.MONITOR and (not self._mirrored or self._mirror_fails > 0)

    def probe_due(self, now: float) -> bool:
        """Whether to ask the backend."""
        return now >= self._probe_at

    def mirror_due(self, now: float) -> bool:
        """Whether to ask Firestore."""
        return self._mirrored and now >= self._mirror_at

    def mirror_read(self, now: float) -> None:
        """Firestore answered."""
        self._mirror_fails = 0
        jitter = self._timing.monitor_jitter
        self._mirror_at = now + max(0.0, self._timing.monitor + self._random.uniform(-jitter, jitter))

    def mirror_failed(self, now: float) -> None:
        """Firestore cannot be reached either."""
        self._mirror_fails += 1
        wait = min(self._timing.slowest_monitor, self._timing.monitor * 2.0 ** min(self._mirror_fails, 10))
        self._mirror_at = now + wait * self._random.uniform(0.8, 1.2)

    def until_next(self, now: float) -> float:
        """How long the monitor has nothing to do."""
        due = min(self._probe_at, self._mirror_at) if self._mirrored else self._probe_at
        return max(0.0, due - now)

    def _drawn(self, ceiling: float) -> float:
        return self._random.uniform(0.0, ceiling)
