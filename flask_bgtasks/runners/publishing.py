"""What the runners have in common that have a queue beside the store: Celery's, RQ's, Dramatiq's, Huey's.

The store stays the queue. A message of such a runner is a wake-up call: it says that something waits, and whoever gets
it runs what stands first in the store's queue. So priorities, fair shares and ``max_concurrency`` hold whatever the
other queue can do, and a message that comes twice, late or never does no harm: the look-out publishes what nobody
begins again (:mod:`flask_bgtasks.execution.finding.sweep`).
"""

from __future__ import annotations

import contextvars
import time
from abc import abstractmethod

from ..errors import ShuttingDown
from .base import QueuelessRunner, Wake

AWAY_SECONDS = 30.0
"""For how long nothing is published on a request's own thread after it failed, unless the look-out succeeds before."""


class PublishingRunner(QueuelessRunner):
    """Publishes wake-up calls; processes that get them call :meth:`arrived`.

    :param wake: as ``bgtasks_make_runner`` is given it.
    """

    def __init__(self, wake: Wake) -> None:
        super().__init__()
        self._wake = wake
        # By time.monotonic. After a failure: no request waits for what is away, but the look-out of the process.
        self._away_until = 0.0
        self._passed_on: set[str] = set()  # by this process while it stops; each step on it is one

    @abstractmethod
    def publish(self, request_id: str, queue: str) -> None:
        """Have a process that serves this queue call :meth:`arrived` with the same two.

        :raises Exception: it cannot be reached. That is in the log, and tried again.
        """

    def arrived(self, request_id: str, queue: str) -> None:
        """A wake-up call has come: run what stands first in its queue, in this thread.

        In a process that stops it is passed on, to one that does not; once, since it may come here again.
        """
        if self._stopped:
            if request_id not in self._passed_on:
                self._passed_on.add(request_id)
                self.publish(request_id, queue)
        else:
            # A fresh context: nothing of what the other queue's library has in its own reaches a task.
            contextvars.Context().run(self._wake, request_id, queue)

    def submit(self, request_id: str, *, delay: float = 0.0, priority: int = 0, queue: str = "default") -> None:
        if self._stopped:
            raise ShuttingDown()
        if delay > 0:
            return  # the look-out does it, when the store's time says so
        if time.monotonic() < self._away_until:
            raise ConnectionError("it was away a moment ago; the look-out tries again")
        try:
            self.publish(request_id, queue)
        except Exception:
            self._away_until = time.monotonic() + AWAY_SECONDS
            raise

    def submit_again(self, request_id: str, *, priority: int = 0, queue: str = "default") -> None:
        if self._stopped:
            raise ShuttingDown()
        self.publish(request_id, queue)
        self._away_until = 0.0

    @property
    def publishes(self) -> bool:
        return True
