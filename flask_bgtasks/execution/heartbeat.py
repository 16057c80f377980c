"""Renews the leases of the attempts that run in this process, in a thread that does nothing else.

A lease says that its process is alive. So nothing may delay its renewal: no report that cannot be stored, no receiver
that hangs, no end that is retried for a minute.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from datetime import timedelta

from ..core.model import Task
from ..errors import BackgroundTasksError, LeaseLost, TaskNotFound
from ..pipeline.attempt import RunningAttempt
from ..runtime.background_thread import BackgroundThread, ticks
from ..runtime.log_lines import Recurring
from ..stores.protocols.attempts import Attempts

log = logging.getLogger("flask_bgtasks")

RENEWED_AT = 1 / 3
"""Of a lease's length: two renewals may fail before it runs out."""

MAX_TICK_SECONDS = 0.5
"""How often it is looked which leases are due, where they are long."""

AGAIN_SECONDS = 1.0
"""After which a renewal that failed is tried again, at most: a third of what is left between two where that is less."""

CLOSE_SECONDS = 2.0  # that close() waits for the thread, so that nobody asks a closed store


class Heartbeat:
    """The renewals of one process. The thread is made on first need, and sleeps while nothing runs here.

    :param lease: how long a renewed claim holds.
    :param running: the attempts that run here and still hold their task.
    :param heed: called with an attempt and its task, as it is found when its lease is renewed: must be quick.
    :param lost: called with an attempt that holds its task no longer.
    """

    def __init__(
        self,
        store: Attempts,
        *,
        lease: timedelta,
        running: Callable[[], Collection[RunningAttempt]],
        heed: Callable[[RunningAttempt, Task], None],
        lost: Callable[[RunningAttempt], None],
    ) -> None:
        self._store = store
        self._lease = lease
        self._running = running
        self._heed = heed
        self._lost = lost
        self._span = lease.total_seconds() * RENEWED_AT
        self._tick = min(MAX_TICK_SECONDS, self._span / 5)
        self.reset()

    def reset(self) -> None:
        """Forget the thread: it is the parent's, in a child of fork."""
        self._awake = threading.Event()  # set while anything runs here
        self._outage = Recurring(log)
        self.thread = BackgroundThread("bgtasks-heartbeat", self._serve)

    def add(self, running: RunningAttempt) -> None:
        """An attempt begins; its lease is fresh."""
        running.renew_at = running.leased_at + self._span
        if not self._awake.is_set():
            self._awake.set()
        self.thread.start()

    def close(self) -> None:
        """Have the thread end; the next attempt begins another."""
        self.thread.close(wake=self._awake.set, timeout=CLOSE_SECONDS)

    def _serve(self, closed: threading.Event) -> None:
        for attempts in ticks(closed, self._awake, self._tick, self._running):
            now = time.monotonic()
            for running in attempts:
                if now >= running.renew_at:
                    self._beat(running)

    def renew(self, running: RunningAttempt) -> None:
        """Renew a lease now.

        :raises LeaseLost: the attempt no longer holds its task.
        """
        asked = time.monotonic()
        task = self._store.renew(running.request_id, attempt=running.attempt, lease=self._lease)
        running.leased_at, running.renew_at = asked, asked + self._span
        self._heed(running, task)

    def _beat(self, running: RunningAttempt) -> None:
        try:
            self.renew(running)
        except (LeaseLost, TaskNotFound):
            self._lost(running)
            return
        except BackgroundTasksError as error:
            self._outage.note("the lease of task %s cannot be renewed yet: %s", running.request_id, error)
        except BaseException:
            self._outage.note("the lease of task %s cannot be renewed yet", running.request_id, exc_info=True)
        else:
            self._outage.over("leases are renewed again")
            return
        running.renew_at = time.monotonic() + min(AGAIN_SECONDS, self._span / 3)
