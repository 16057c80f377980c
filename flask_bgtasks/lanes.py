"""One lane for each sink: when it is given what, how much at once, and how it is left alone while it is out of reach.

Deliveries of a task come in order; progress is latest-wins and never stored: a mailbox with one place per task. A sink
that hangs holds up its own lane only. Knows no store: it asks and settles through what it is given.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .backoff import Backoff, dice
from .errors import BackgroundTasksError
from .model import Progress, Task
from .stores.base import Delivery

log = logging.getLogger("flask_bgtasks")

LOOK_SECONDS = 5.0
"""How often, on average, a lane looks for what other processes left owed, and for retries that fall due."""

FEWEST, MOST = 4, 128
QUICK_SECONDS, SLOW_SECONDS = 1.0, 10.0
"""How much a lane takes at once: more while it is quick, less when it is slow, so that it never holds what it will not
come to within its lease, and another process would make as well."""

LONGEST_SECONDS = 30.0
"""After which a lane begins nothing more of what it took, half of its lease: the rest is looked for again."""

IN_A_ROW = 3
"""Deliveries that fail one after the other, after which the sink itself is taken to be out of reach."""

LONGEST_PAUSE = 15.0
PAUSES = Backoff(first=1.0, longest=LONGEST_PAUSE)
"""Between two tries while a sink is out of reach: one delivery each, whatever it is owed; so a service that is down is
not stormed, and is noticed within seconds when it is back."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How a delivery went.

    :param answered: whether the sink's service answered, be it that it refuses.
    :param rest: seconds for which it asks for nothing more at all.
    :param error: what went wrong.
    """

    answered: bool = True
    rest: float = 0.0
    error: str | None = None


class Deliverer(Protocol):
    """What a lane asks and tells."""

    def due(self, sink: str, limit: int) -> Sequence[Delivery]:
        """What this sink is owed now, at most so many."""

    def deliver(self, delivery: Delivery, *, longest_wait: float | None = None) -> Reply:
        """Try once, and settle."""

    def put_off(self, deliveries: Sequence[Delivery], seconds: float) -> None:
        """Settle what was taken and is not tried now."""

    def out_of_reach(self, sink: str, error: str | None) -> None:
        """The sink's service does not answer any more."""

    def tell_progress(self, sink: str, task: Task, progress: Progress) -> None:
        """Hand a sink the newest progress."""


class Outage:
    """Whether a sink seems out of reach, and until when it is left alone."""

    def __init__(self) -> None:
        self._failures = 0
        self._until = 0.0

    @property
    def down(self) -> bool:
        """Whether so many failed in a row that the sink is taken to be out of reach."""
        return self._failures >= IN_A_ROW

    @property
    def left(self) -> float:
        """Seconds until the next try, 0 if it may be now."""
        return max(0.0, self._until - time.monotonic())

    def note(self, reply: Reply) -> None:
        """How a delivery went."""
        if reply.answered:
            self._failures = 0
            self._until = time.monotonic() + reply.rest if reply.rest else 0.0
            return
        self._failures += 1
        if self.down:
            tries = self._failures - IN_A_ROW + 1
            self._until = time.monotonic() + PAUSES.ceiling(tries) * dice.uniform(0.5, 1.0)


class Lane:
    """One sink's thread, made on first need. Deliveries and progress of a task pass through it in order.

    :param concurrency: how many deliveries are made at once. Those that are taken together are never of one task and
        channel, so that their order does not matter.
    """

    def __init__(self, deliveries: Deliverer, sink: str, *, concurrency: int = 1) -> None:
        self._deliveries = deliveries
        self._sink = sink
        self._concurrency = concurrency
        # _lock protects _progress, _thread, _stopped and, while several threads deliver, _outage and what is left to
        # deliver; never held during a delivery. _woken wakes the thread.
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._progress: dict[str, tuple[Task, Progress]] = {}
        self._share = FEWEST  # how much is taken at once
        self._outage = Outage()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def wake(self) -> None:
        self._woken.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._stopped:
                    self._thread = threading.Thread(target=self._serve, name=f"bgtasks-sink-{self._sink}", daemon=True)
                    self._thread.start()

    def offer(self, task: Task, progress: Progress) -> None:
        with self._lock:
            self._progress[task.request_id] = (task, progress)
        self.wake()

    def withdraw(self, request_id: str) -> None:
        with self._lock:
            self._progress.pop(request_id, None)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
        self._woken.set()

    def join(self, timeout: float) -> None:
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _serve(self) -> None:
        while True:
            self._woken.clear()
            stopping = self._stopped  # seen before the look: what is owed by now is still delivered
            try:
                busy = self._deliver_due()
                busy = self._tell_progress() or busy
            except BackgroundTasksError as error:
                log.warning("sink %r: the outbox is out of reach: %s", self._sink, error)
                busy = False
            except Exception:
                log.exception("the lane of sink %r failed", self._sink)
                busy = False
            if stopping and not busy:
                return
            if not busy:
                self._woken.wait(min(LOOK_SECONDS * dice.uniform(0.5, 1.5), self._outage.left or LOOK_SECONDS * 2))

    def _deliver_due(self) -> bool:
        if self._outage.left:
            return False
        share = 1 if self._outage.down else self._share
        begun, due = time.monotonic(), self._deliveries.due(self._sink, share)
        left = deque(due)
        helpers = [
            threading.Thread(target=self._deliver, args=(left, begun), name=f"bgtasks-sink-{self._sink}", daemon=True)
            for _ in range(min(self._concurrency, len(due)) - 1)
        ]
        for helper in helpers:
            helper.start()
        self._deliver(left, begun)
        for helper in helpers:
            helper.join()
        took = time.monotonic() - begun
        if left:
            self._deliveries.put_off(left, self._outage.left)
        if self._outage.left:
            self._share = FEWEST  # who comes back after a rest does not come with everything at once
            return False
        if took < QUICK_SECONDS and len(due) == self._share:
            self._share = min(MOST, self._share * 2)
        elif took > SLOW_SECONDS:
            self._share = max(FEWEST, self._share // 4)
        return bool(due)

    def _deliver(self, left: deque[Delivery], begun: float) -> None:
        """Make deliveries as long as there are any, and the sink is not to be left alone. Of several threads."""
        while True:
            with self._lock:
                if not left or self._outage.left or time.monotonic() - begun > LONGEST_SECONDS:
                    return
                delivery, down = left.popleft(), self._outage.down
            try:
                reply = self._deliveries.deliver(delivery, longest_wait=LONGEST_PAUSE if down else None)
            except Exception as error:  # the outbox itself: the delivery's lease runs out
                log.warning("sink %r: a delivery could not be settled: %s", self._sink, error)
                reply = Reply(error=str(error))
            with self._lock:
                before = self._outage.down
                self._outage.note(reply)
                after = self._outage.down
            if after and not before:
                log.warning(
                    "sink %r is out of reach: it is tried now and then, and what it is owed is kept", self._sink
                )
                self._deliveries.out_of_reach(self._sink, reply.error)
            elif before and not after:
                log.info("sink %r is back", self._sink)

    def _tell_progress(self) -> bool:
        told = False
        while True:
            with self._lock:
                if not self._progress:
                    return told
                _, (task, progress) = self._progress.popitem()
            self._deliveries.tell_progress(self._sink, task, progress)
            told = True
