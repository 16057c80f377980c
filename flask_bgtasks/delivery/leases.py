"""The leases on deliveries: renewed while a sink's call lives, and ended when their holder is gone.

A lease is judged by this process's own monotonic clock, never by comparing the clocks of two processes: a process whose
clock is an hour ahead would take over deliveries that another one is making, out of order. Knows the store's protocol;
calls no sink.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from ..errors import BackgroundTasksError
from ..runtime.background_thread import BackgroundThread, ticks
from ..runtime.fork import after_fork_in_child
from ..runtime.log_lines import Recurring
from ..stores.protocols.outbox import Outbox
from ..stores.types import Delivery
from ..wording import counted

log = logging.getLogger("flask_bgtasks")

LEASE = timedelta(seconds=60)
"""How long a lease on a delivery holds without being renewed. Renewed at a third of it, as a task's."""

RENEW_LOOK_SECONDS = 5.0
"""How often it is looked for calls whose lease is due to be renewed: a call begins with half of its lease at least
(:data:`.sink_worker.MAX_SECONDS`)."""

WATCH_LOOK_SECONDS = 5.0
"""How often, at most, a sink's leases are looked at for those whose holder is gone."""

MAX_WATCHED = 1 / 4
"""Of a lease's length: what counts at most, of the time between two looks, as time in which it was watched. A process
that slept has watched nothing, and the holder may have slept with it."""


class LeaseOver(Exception):
    """A delivery is not made: its lease ran out before the sink was called, and another process may have made it."""


class DeliveryCall:
    """A delivery that is being made, and its lease."""

    def __init__(self, delivery: Delivery, now: float, taken: float) -> None:
        self.delivery = delivery
        self.taken = taken
        self.begun = now
        self.renewed = float("-inf")  # when it was last asked to be renewed
        self.lost = False
        self.warned = False
        # Held while the lease is renewed: the delivery is not settled in between, under a lease that is just replaced.
        self.lock = threading.Lock()


class LeaseKeeper:
    """Renews the leases of the deliveries that are being made in this process, for as long as the calls live.

    One thread, made when a call begins, which sleeps while there are none.

    :param lease: how long a renewed lease holds.
    """

    def __init__(self, store: Outbox, *, lease: timedelta) -> None:
        self._store = store
        self._lease = lease.total_seconds()
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()  # protects _calls and _closed
        self._calls: set[DeliveryCall] = set()
        self._closed = False
        self._outage = Recurring(log)
        self._awake = threading.Event()  # set while there may be calls
        self.thread = BackgroundThread("bgtasks-delivery-leases", self._serve)

    @contextmanager
    def kept(self, delivery: Delivery, taken: float | None = None) -> Iterator[DeliveryCall]:
        """Keep the lease while the block runs; :attr:`DeliveryCall.delivery` is then as it is to be settled.

        :param taken: when the delivery was asked for, by ``time.monotonic``: its lease holds from then on at least.
        """
        now = time.monotonic()
        call = DeliveryCall(delivery, now, now if taken is None else taken)
        with self._lock:
            self._calls.add(call)
            if not self._closed:
                self.thread.start()
        self._awake.set()
        try:
            yield call
        finally:
            with self._lock:
                self._calls.discard(call)
            with call.lock:  # a renewal that is under way is waited for
                pass

    def confirm(self, call: DeliveryCall) -> None:
        """Make sure, right before the sink is called, that nobody else was given the delivery meanwhile.

        Asks the store only if the lease was not renewed for as long as it holds: this process slept, or what it read
        for the call took that long.

        :raises LeaseOver: somebody else was, or that cannot be told.
        """
        if self._holds(call):
            return
        with call.lock:
            if not call.lost and not self._holds(call):
                try:
                    self._ask([call], time.monotonic())
                except BackgroundTasksError as error:
                    raise LeaseOver(str(error)) from error
        if call.lost:
            raise LeaseOver("another process has it")

    def _holds(self, call: DeliveryCall) -> bool:
        return not call.lost and time.monotonic() < max(call.taken, call.renewed) + self._lease

    def _ask(self, calls: Sequence[DeliveryCall], now: float) -> None:
        """Have leases renewed, under the locks of their calls; those that are not are lost."""
        renewed = self._store.renew_deliveries([call.delivery for call in calls], lease=timedelta(seconds=self._lease))
        for call in calls:
            call.renewed, call.lost = now, call.delivery.id not in renewed
            call.delivery = renewed.get(call.delivery.id, call.delivery)

    def close(self) -> None:
        """Have the thread end: what is still being delivered keeps its lease for as long as it was renewed last."""
        with self._lock:
            self._closed = True
        self.thread.close(wake=self._awake.set)

    def renew(self) -> None:
        """Renew what is due. :raises StoreUnavailable: the store is unreachable, and may be asked again."""
        now, due = time.monotonic(), list[DeliveryCall]()
        for call in self._under_way():
            self._warn(call, now)
            if not call.lost and now - max(call.begun, call.renewed) >= self._wait(call):
                due.append(call)
        for call in due:
            call.lock.acquire()
        try:
            with self._lock:
                due_now = [call for call in due if call in self._calls]  # the others are settled by now
            if not due_now:
                return
            self._ask(due_now, now)
        finally:
            for call in due:
                call.lock.release()
        for call in due_now:
            if call.lost:
                delivery = call.delivery
                log.warning("delivery %s to sink %r: its lease was lost during the call", delivery.id, delivery.sink)

    def _wait(self, call: DeliveryCall) -> float:
        """Seconds until a lease is renewed. It was taken some time before the call began: the first comes sooner."""
        return self._lease / 3 if call.renewed > call.begun else self._lease / 6

    def _warn(self, call: DeliveryCall, now: float) -> None:
        if not call.warned and now - call.begun > self._lease:
            call.warned = True
            log.warning(
                "sink %r has not returned from delivery %s for %.0f s; later deliveries wait. Give its calls a timeout",
                call.delivery.sink,
                call.delivery.id,
                now - call.begun,
            )

    def _under_way(self) -> list[DeliveryCall]:
        with self._lock:
            return list(self._calls)

    def _serve(self, closed: threading.Event) -> None:
        for _ in ticks(closed, self._awake, min(RENEW_LOOK_SECONDS, self._lease / 12), self._under_way):
            try:
                self.renew()
                self._outage.over("leases on deliveries are renewed again")
            except BackgroundTasksError as error:
                self._outage.note("leases on deliveries cannot be renewed yet: %s", error)


class LeaseWatch:
    """Ends the leases that nobody renews: seen unchanged for as long as one holds, by a clock that does not jump.

    :param lease: how long a lease holds.
    """

    def __init__(self, store: Outbox, *, lease: timedelta) -> None:
        self._store = store
        self._lease = lease.total_seconds()
        self._pause = min(WATCH_LOOK_SECONDS, self._lease / 12)
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        # By sink, and of each its worker's thread alone: no lock. When it was looked last, and for how long each lease
        # has been seen as it is.
        self._looked: dict[str, float] = {}
        self._seen: dict[str, dict[int, tuple[Hashable, float]]] = {}

    def look(self, sink: str) -> int:
        """Look at the leases on this sink's deliveries, if it is time to, and end those that are over; how many.

        :raises StoreUnavailable: the store is unreachable.
        """
        now, before = time.monotonic(), self._looked.get(sink)
        if before is not None and now - before < self._pause:
            return 0
        passed = 0.0 if before is None else min(now - before, MAX_WATCHED * self._lease)
        known, seen = self._seen.get(sink, {}), dict[int, tuple[Hashable, float]]()
        for number, lease in self._store.delivery_leases(sink).items():
            last, watched = known.get(number, (None, 0.0))
            seen[number] = (lease, watched + passed if last == lease else 0.0)
        self._looked[sink], self._seen[sink] = now, seen
        over = {number: lease for number, (lease, watched) in seen.items() if watched >= self._lease}
        if not over:
            return 0
        ended = self._store.end_delivery_leases(sink, over)
        if ended:
            left = counted(ended, "delivery", "deliveries")
            log.warning("a process that is gone left %s to sink %r; delivering here", left, sink)
        return ended
