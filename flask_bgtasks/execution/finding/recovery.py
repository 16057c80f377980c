"""Finds waiting work, and work that dead processes left behind, and hands it to the runner, without any request.

One thread in every process that runs tasks. It reads leases and the queue at random intervals, seldom while the other
processes announce what they do (:mod:`.look_times`). The runner gets as many tasks as it has places for, and the
store's compare-and-set decides which process wins. Also erases expired data, and notices when its server is told to
stop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from ...announcements.announcement import Announcement
from ...announcements.exchange import due_after
from ...core.backoff import rng
from ...core.devices import UNSEEN_DAYS
from ...core.model import Event, Task
from ...errors import BackgroundTasksError, ShuttingDown
from ...runners.base import Runner
from ...runners.isolation import seconds_alone
from ...runtime import processes
from ...runtime.background_thread import BackgroundThread, Contained
from ...runtime.fork import after_fork_in_child
from ...runtime.log_lines import Recurring
from ...runtime.server import Server
from ...stores.base import Store
from ...wording import counted
from .fetcher import Fetcher
from .look_times import LookTimes
from .sweep import Sweep

log = logging.getLogger("flask_bgtasks")

LOOK_SECONDS = 0.6
"""Mean time between two looks: another process's task goes on within a second. A worker process looks more often."""

READY_SECONDS = 0.02
"""How often it is asked whether the app is complete."""

PURGE_SECONDS = 60.0
PURGE_PAUSE_SECONDS = 0.2  # between two batches, so that others can write

ROUND_PURGE_SECONDS = 10.0
"""For how long one :meth:`Recovery.round` goes on with erasing; what is left is for the next."""

CLOSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Round:
    """What one look-out came to.

    :ivar begun: tasks that were begun, or published again. :ivar abandoned: that were ended, as nobody can run them.
    :ivar erased: what had expired.
    """

    begun: int
    abandoned: int
    erased: int


class Recovery:
    """The look-out of one app in this process.

    :param sweep: publishes again what nobody was told of, where the runner publishes.
    :param complete: finishes the app's set-up, once it is complete: some of what it can run may be found then only.
    :param wake_deliveries: another process may have left deliveries.
    :param mend: begins again what threads of the app have died.
    :param abandon: ends tasks that nobody can run; how many.
    :param holds: whether what other processes announce is heard.
    :param look_seconds: the mean time between two looks, where it is not.
    """

    def __init__(
        self,
        store: Store,
        runner: Runner,
        fetcher: Fetcher,
        *,
        sweep: Sweep,
        complete: Callable[[], None],
        wake_deliveries: Callable[[], None],
        mend: Callable[[], object],
        abandon: Callable[[], int],
        holds: Callable[[], bool],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._store = store
        self._runner = runner
        self._fetcher = fetcher
        self._sweep = sweep
        self._complete = complete
        self._wake_deliveries = wake_deliveries
        self._mend = mend
        self._abandon = abandon
        self._look_seconds = look_seconds
        self._times = LookTimes(holds)
        self._reset()
        store.on_commit(self._committed)
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self._times.reset()
        self._outage = Recurring(log)
        self._begun = self._looking = False  # the latter once the app is complete
        self._server: Server | None = None
        self.thread = BackgroundThread("bgtasks-recovery", self._serve)

    def start(self, server: Server | None = None) -> None:
        """Begin looking out, if that has not begun.

        :param server: whom to wait for, until the app is complete; None to begin at once.
        """
        if self._begun:
            return
        self._begun, self._server = True, server
        self.thread.start()

    def close(self) -> None:
        """Have the thread end."""
        self._begun = self._looking = False
        self.thread.close(timeout=CLOSE_SECONDS)

    def heard(self, said: Announcement) -> None:
        """Another process announced something. In the exchange's thread: quick, and without a query."""
        self._times.heard(said)
        if not (said.work or said.everything) or not self._looking:
            return
        if self._runner.fetches:
            self._runner.look()  # a thread of it fetches, as soon as one is free
        elif self._runner.publishes:
            self._times.look_within(0)

    def _committed(self, task: Task, events: Sequence[Event]) -> None:
        """This process changed a task: one that pauses here may begin elsewhere, if this look-out publishes it."""
        pause = due_after(task)
        if pause is not None:
            self._times.look_within(pause)

    def look(self) -> int:
        """Look once: end the leases of processes that are dead, and begin what may begin here; how many those were.

        :raises StoreUnavailable: the store is unreachable.
        """
        workers = self._store.workers()
        begun = self._look(workers)
        self._times.looked(workers, self._store.next_due)
        return begun

    def _look(self, workers: Sequence[str]) -> int:
        for worker in workers:
            if processes.alive(worker) is False:
                held = self._store.expire_leases(worker)
                log.warning("process %s died with %s; recovering", worker, counted(held, "task"))
                self._wake_deliveries()
        if self._runner.publishes:
            return self._sweep()
        begun = 0
        free = self._runner.free
        if free > 0:
            for task in self._fetcher(free):
                if seconds := seconds_alone(task):
                    self._runner.isolate(task.request_id, seconds=seconds, priority=task.priority, queue=task.queue)
                else:
                    self._runner.submit(task.request_id, priority=task.priority, queue=task.queue)
                begun += 1
            if begun == free:  # there may be more: a thread that is done looks again at once, not at the next look
                self._runner.look()
        return begun

    def round(self) -> Round:
        """All that the thread does, once, on the caller's: where a process has no CPU while no request is answered.

        :raises StoreUnavailable: the store is unreachable. :raises ShuttingDown: this process stops.
        """
        if self._runner.draining:
            raise ShuttingDown()
        with Contained("the app's views cannot be examined"):
            self._complete()
        begun, abandoned, erased = self.look(), self._abandon(), 0
        deadline = time.monotonic() + ROUND_PURGE_SECONDS
        while (some := self._purge()) and time.monotonic() < deadline:
            erased += some
        self._mend()
        return Round(begun, abandoned, erased + some)

    def _serve(self, closed: threading.Event) -> None:
        server = self._server
        while server is not None and not server.ready():
            if closed.wait(READY_SECONDS):
                return
        try:
            self._complete()
        except BaseException:  # a view that cannot even be looked at must not keep the others' tasks from running
            log.exception("the app's views cannot be examined")
        self._wake_deliveries()
        self._looking = True
        next_look, next_purge = 0.0, time.monotonic() + rng.uniform(0, PURGE_SECONDS)
        while not self._runner.draining:
            now = time.monotonic()
            if now >= next_look:
                if self._times.is_time():
                    self._guarded(self.look)
                self._mend()
                next_look = now + self._look_seconds * rng.uniform(0.5, 1.5)
            if now >= next_purge:
                self._guarded(self._abandon)
                erased = self._guarded(self._purge)
                next_purge = now + (PURGE_PAUSE_SECONDS if erased else PURGE_SECONDS * rng.uniform(0.5, 1.5))
            if closed.wait(max(0.001, min(next_look, next_purge) - time.monotonic())):
                return

    def _purge(self) -> int:
        """Erase some of what is over: tasks, and devices that nobody has seen for long."""
        return self._store.purge() + self._store.prune_devices(unseen_for=timedelta(days=UNSEEN_DAYS))

    def _guarded(self, act: Callable[[], int]) -> int:
        try:
            done = act()
            self._outage.over("lost work can be looked for again")
            return done
        except ShuttingDown:
            log.debug("stopping: no more tasks start here")
        except BackgroundTasksError as error:
            self._outage.note("cannot look for lost work: %s", error)
            self._times.look_within(0)
        except BaseException:  # a receiver's SystemExit, say
            self._outage.note("looking for lost work failed", level=logging.ERROR, exc_info=True)
        return 0
