"""One worker for each sink: when it gets its deliveries, how many at once, and how it is paused while unreachable.

Deliveries of a task come in order. Progress is never stored, and the latest value wins: a mailbox with one place per
task. A sink that hangs holds up only its own worker. Knows no store: it takes and settles through given functions.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..core.backoff import rng
from ..core.model import Progress, Task
from ..core.text.clean import text_of
from ..errors import BackgroundTasksError
from ..runtime.background_thread import BackgroundThread
from ..runtime.log_lines import Recurring
from ..stores.types import Delivery
from .circuit_breaker import MAX_PAUSE, CircuitBreaker, Reply

log = logging.getLogger("flask_bgtasks")

LOOK_SECONDS = 5.0
"""How often, on average, a worker looks for deliveries that other processes left, and for retries that fall due."""

MIN_SHARE, MAX_SHARE = 4, 128
QUICK_SECONDS, SLOW_SECONDS = 1.0, 10.0
"""How much a worker takes at once: more while it is quick, less when it is slow, so that it never holds what it will
not come to within its lease, and another process would make as well."""

MAX_SECONDS = 30.0
"""After which a worker begins nothing more of what it took, half of its lease: the rest is looked for again."""


class Deliverer(Protocol):
    """What a worker asks and tells."""

    def due(self, sink: str, limit: int) -> Sequence[Delivery]:
        """The due deliveries of this sink, at most ``limit``."""

    def deliver(self, delivery: Delivery, *, taken: float | None = None, max_wait: float | None = None) -> Reply | None:
        """Try once, and settle; None if the sink was not called."""

    def put_off(self, deliveries: Sequence[Delivery], seconds: float) -> None:
        """Settle what was taken and is not tried now."""

    def out_of_reach(self, sink: str, error: str | None) -> None:
        """The sink's service does not answer any more."""

    def tell_progress(self, sink: str, task: Task, progress: Progress) -> None:
        """Hand a sink the newest progress."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """A delivery that the worker has taken, and when, by ``time.monotonic``: before its lease is over it is settled."""

    delivery: Delivery
    at: float


class SinkWorker:
    """One sink's thread, made on first need. Deliveries and progress of a task pass through it in order.

    :param concurrency: how many deliveries are made at once, each by a thread of its own: one that takes long holds up
        none of the others. Those that are under way together are never of one task and channel, so that their order
        does not matter; and never beside progress, which has none.
    """

    def __init__(self, deliveries: Deliverer, sink: str, *, concurrency: int = 1) -> None:
        self._deliveries = deliveries
        self._sink = sink
        self._concurrency = concurrency
        # _lock protects _progress, _stopped, _idle and, while several threads deliver, _outage, _left and _helpers;
        # never held during a delivery. _woken wakes the thread while it has nothing to do, _went_on while it waits for
        # its helpers, and who waits until nothing is due.
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._went_on = threading.Condition(self._lock)
        self._left: deque[_Taken] = deque()
        self._helpers = 0
        self._progress: dict[str, tuple[Task, Progress]] = {}
        self._share = MIN_SHARE  # how much is taken at once
        self._outage = CircuitBreaker()
        self.thread = BackgroundThread(f"bgtasks-sink-{sink}", lambda closed: self._serve())
        self._stopped = False
        self._idle = False  # whether its last look found nothing due
        self._no_outbox = Recurring(log)

    def wake(self) -> None:
        self._woken.set()
        if not self._stopped:
            self.thread.start()

    def offer(self, task: Task, progress: Progress) -> None:
        with self._lock:
            known = self._progress.get(task.request_id)
            if known is None or known[0].seq <= task.seq:  # not what a thread that slept stored before it
                self._progress[task.request_id] = (task, progress)
        self.wake()

    def withdraw(self, request_id: str) -> None:
        with self._lock:
            self._progress.pop(request_id, None)

    def catch_up(self, deadline: float) -> bool:
        """Deliver what is due by now, and wait for that; whether it was in time.

        What fails, or belongs to a sink that is unreachable, is due later, and not waited for.

        :param deadline: by ``time.monotonic``.
        """
        self.wake()
        with self._went_on:
            return self._went_on.wait_for(
                lambda: self._stopped or (self._idle and self._helpers == 0 and not self._woken.is_set()),
                max(0.0, deadline - time.monotonic()),
            )

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            self._went_on.notify_all()
        self._woken.set()

    def join(self, timeout: float) -> None:
        self.thread.join(timeout)

    def _serve(self) -> None:
        while True:
            with self._lock:  # in one, for who waits until there is nothing to do
                self._idle = False
                self._woken.clear()
            stopping = self._stopped  # seen before the look: what is due by now is still delivered
            try:
                busy = self._deliver_due()
                busy = self._tell_progress() or busy
                self._no_outbox.over("sink %r: the outbox is back", self._sink)
            except BackgroundTasksError as error:
                self._no_outbox.note("sink %r: the outbox is unreachable: %s", self._sink, error)
                busy = False
            except BaseException:  # of a plugin or a teardown function: SystemExit too
                log.exception("the worker of sink %r failed", self._sink)
                busy = False
            helpers = self._helpers
            if stopping and not busy:
                if helpers == 0:
                    return
                self._wait_for_helpers(max_running=helpers - 1)  # what they do may add deliveries
            elif not busy:
                with self._lock:
                    self._idle = True
                    self._went_on.notify_all()
                self._woken.wait(min(LOOK_SECONDS * rng.uniform(0.5, 1.5), self._outage.left or LOOK_SECONDS * 2))

    def _deliver_due(self) -> bool:
        """Take what is due and have it delivered; whether to look again at once."""
        if self._outage.down:
            self._wait_for_helpers(max_running=0)  # one try at a time
        if self._outage.left:
            return False
        share = 1 if self._outage.down else self._share
        begun, due = time.monotonic(), self._deliveries.due(self._sink, share)
        with self._lock:
            self._left.extend(_Taken(delivery, begun) for delivery in due)
        if self._concurrency == 1:
            while (taken := self._next()) is not None:
                self._deliver(taken)
        else:
            self._have_delivered()
        took = time.monotonic() - begun
        self._put_off()
        if self._outage.left:
            self._share = MIN_SHARE  # who comes back after a rest does not come with everything at once
            return False
        if took < QUICK_SECONDS and len(due) == self._share:
            self._share = min(MAX_SHARE, self._share * 2)
        elif took > SLOW_SECONDS:
            self._share = max(MIN_SHARE, self._share // 4)
        return bool(due)

    def _have_delivered(self) -> None:
        """Hand everything that was taken to helpers, and wait until one of them is free for more."""
        with self._lock:
            for _ in range(min(self._concurrency - self._helpers, len(self._left))):
                try:
                    threading.Thread(target=self._help, name=f"bgtasks-sink-{self._sink}", daemon=True).start()
                except RuntimeError:  # the system gives no more threads
                    break
                self._helpers += 1
            alone = self._helpers == 0
        while alone and (taken := self._next()) is not None:
            self._deliver(taken)
        self._wait_for_helpers(max_running=self._concurrency - 1)

    def _wait_for_helpers(self, *, max_running: int) -> None:
        """Wait until they take nothing more of what there is, and at most so many are still at it."""

        def free() -> bool:
            over = not self._left or self._is_over(self._left[0])
            return self._helpers == 0 or (self._helpers <= max_running and over)

        with self._went_on:
            self._went_on.wait_for(free)

    def _help(self) -> None:
        signed_off = False
        try:
            while (taken := self._next(helping=True)) is not None:
                try:
                    self._deliver(taken)
                except BaseException:
                    log.exception("the worker of sink %r failed", self._sink)
            signed_off = True  # by _next
        finally:
            if not signed_off:  # or the worker would wait for it for ever
                with self._went_on:
                    self._helpers -= 1
                    self._went_on.notify_all()
        self._woken.set()  # what comes after a delivery of the same task may be due now

    def _next(self, *, helping: bool = False) -> _Taken | None:
        """One of what was taken, as long as there are any, and the sink is not to be left alone."""
        with self._went_on:
            taken = None
            if self._left and not self._is_over(self._left[0]):
                taken = self._left.popleft()
            elif helping:  # retires under the same lock, so that no delivery is left to a helper that has gone
                self._woken.set()  # what comes after a delivery of the same task may be due now
                self._helpers -= 1
            if taken is None or not self._left:
                self._went_on.notify_all()
            return taken

    def _put_off(self) -> None:
        """Give back what was taken, and is not delivered now after all."""
        with self._lock:
            left = [taken.delivery for taken in self._left]
            self._left.clear()
        if left:
            self._deliveries.put_off(left, self._outage.left)

    def _is_over(self, taken: _Taken) -> bool:
        """Whether nothing more is begun of what was taken then."""
        return self._outage.left > 0 or time.monotonic() - taken.at > MAX_SECONDS

    def _deliver(self, taken: _Taken) -> None:
        """Make one delivery, and see what it says about the sink. Of several threads."""
        with self._lock:
            before = self._outage.down
        try:
            max_wait = MAX_PAUSE if before else None
            reply = self._deliveries.deliver(taken.delivery, taken=taken.at, max_wait=max_wait)
        except BaseException as error:  # the outbox itself: the delivery's lease runs out
            log.warning("sink %r: a delivery could not be settled: %s", self._sink, error)
            reply = Reply(error=text_of(error))
        if reply is None:
            return
        with self._lock:
            before = self._outage.down
            self._outage.note(reply)
            after = self._outage.down
        if after and not before:
            log.warning("sink %r is unreachable; deliveries are kept and retried with back-off", self._sink)
            self._deliveries.out_of_reach(self._sink, reply.error)
        elif before and not after:
            log.info("sink %r is back", self._sink)

    def _tell_progress(self) -> bool:
        told = False
        while True:
            with self._lock:
                if not self._progress:
                    return told
            self._wait_for_helpers(max_running=0)  # told beside a task's end, it might come after it
            with self._lock:
                if not self._progress:
                    return told
                _, (task, progress) = self._progress.popitem()
            self._deliveries.tell_progress(self._sink, task, progress)
            told = True
