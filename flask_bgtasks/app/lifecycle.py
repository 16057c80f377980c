"""The lifecycle of an app's parts in one process: when it starts to look for work, and how it shuts down.

Knows the parts by their protocols. :mod:`..runtime.server` and :mod:`..runtime.shutdown` tell it when the process
serves, and when it stops.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable

from ..announcements.announcement import Announcement
from ..announcements.exchange import Exchange
from ..delivery.dispatcher import Dispatcher
from ..execution.engine import Engine
from ..execution.finding.fetcher import Fetcher
from ..execution.finding.recovery import LOOK_SECONDS, Recovery
from ..execution.finding.sweep import Sweep
from ..runners.base import Runner
from ..runtime import server
from ..runtime.background_thread import BackgroundThread, ended_within
from ..runtime.fork import after_fork_in_child
from ..runtime.shutdown import Sigterm, StopWatch, before_exit
from ..stores.base import Store
from ..wording import counted
from .watcher import Watcher

log = logging.getLogger("flask_bgtasks")

LAST_DELIVERIES_SECONDS = 5.0
"""What sinks get to take what is due when a process ends; the next process delivers the rest."""

RELEASE_SECONDS = 5.0
"""What the store gets to take back the leases of what still runs; as long as the sinks have."""

IDLE_LOOK_SECONDS = 0.05


class Lifecycle:
    """Starts, drains and closes.

    :param complete: finishes the app's set-up, when all its views are registered.
    :param abandon: ends tasks that nobody can run.
    :param grace: seconds that running tasks get to finish when the process ends.
    :param look_seconds: the mean time between two looks for work.
    """

    def __init__(
        self,
        *,
        store: Store,
        runner: Runner,
        engine: Engine,
        deliveries: Dispatcher,
        watcher: Watcher,
        exchange: Exchange,
        fetcher: Fetcher,
        sweep: Sweep,
        complete: Callable[[], None],
        abandon: Callable[[], int],
        grace: float,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._store = store
        self._runner = runner
        self._engine = engine
        self._deliveries = deliveries
        self._watcher = watcher
        self._exchange = exchange
        self._grace = grace
        self.recovery = Recovery(
            store,
            runner,
            fetcher,
            sweep=sweep,
            complete=complete,
            wake_deliveries=deliveries.wake,
            mend=self.mend,
            abandon=abandon,
            holds=exchange.holds,
            look_seconds=look_seconds,
        )
        exchange.hear(watcher.announced)
        exchange.hear(self.recovery.heard)
        exchange.hear(self._heard)
        self._stop_watch = StopWatch(self._told_to_stop)
        self._sigterm = Sigterm(self.stop)
        self._reset()
        after_fork_in_child(self._forked)
        this = weakref.ref(self)

        def close_at_exit() -> None:
            alive = this()
            if alive is not None:
                alive.close()

        before_exit(close_at_exit)

    def _reset(self) -> None:
        self._draining = threading.Lock()  # held by the one who drains; others wait for it
        self._drained = False

    def _forked(self) -> None:
        self._reset()
        self._stop_watch.reset()
        served_by = server.server_of_fork()
        if served_by is not None:
            self.start(served_by)

    def loaded(self) -> None:
        """The app is being made: if a server makes it, to serve it in this process, begin when it is complete."""
        served_by = server.server()
        if served_by is None or not self._runner.looks_out:
            return
        if not served_by.own_signals:
            self._sigterm.install(told_last=served_by.told_last)
        self.start(served_by)

    def start(self, served_by: server.Server | None = None, *, stopping: Callable[[], bool] | None = None) -> None:
        """Begin looking out in this process: for work, where its runner runs any. Called again it changes nothing.

        :param stopping: asked whether the process was told to stop, where no server of a known kind can be.
        """
        if not self._runner.draining:
            self._exchange.listen()
        if not self._runner.looks_out:
            self._deliveries.wake()  # another process may have left deliveries
        elif not self._runner.draining:
            self._stop_watch.start(stopping if served_by is None else served_by.stopping)
            self.recovery.start(served_by)

    def _heard(self, said: Announcement) -> None:
        if said.deliveries:
            self._deliveries.wake()

    def stop(self) -> None:
        """Have the process drained, by a thread of its own. Safe in a signal handler."""
        self._stop_watch.tell()

    @property
    def missing(self) -> list[str]:
        """The names of the threads that should be there, and have died."""
        return [thread.name for thread in self._threads() if thread.missing] + list(self._runner.missing)

    def mend(self) -> list[str]:
        """Begin the threads again that have died, whatever it was of; their names."""
        missing = self.missing
        if missing:
            log.error("threads have died and are started again: %s", ", ".join(missing))
            for thread in self._threads():
                if thread.missing:
                    thread.start()
            self._runner.mend()
        return missing

    def _threads(self) -> list[BackgroundThread]:
        own = (self.recovery.thread, self._stop_watch.thread, self._watcher.thread, self._exchange.thread)
        return [*own, *self._engine.threads, *self._deliveries.threads]

    def _told_to_stop(self) -> None:
        try:
            self.drain()
            self._deliveries.stop(LAST_DELIVERIES_SECONDS)
        finally:  # whatever a receiver raises meanwhile: the process was told to end
            self._sigterm.go()

    def drain(self, grace: float | None = None) -> None:
        """Take no more work, let what runs finish for ``grace`` seconds, give back the leases of what does not.

        Whoever else calls this waits until it is done.
        """
        deadline = time.monotonic() + (self._grace if grace is None else grace)
        with self._draining:
            if self._drained:
                return
            try:
                self._wait(deadline)
            finally:  # a second Ctrl-C comes here too
                self._release()
                self._drained = True

    def _release(self) -> None:
        """Give back what still runs here. Nobody waits for a store that says nothing: then the leases run out."""
        ended: list[int] = []
        # Beside this thread, which must end the process in time: the store, or the flusher that holds what is to be
        # given back, may wait for a silent server.
        ended_within(RELEASE_SECONDS, lambda: ended.append(self._engine.release()), name="bgtasks-release")
        if not ended:
            log.warning("the store does not answer: tasks that were not given back resume when their leases expire")
        elif ended[0]:
            log.warning("the grace period is over: %s given back for other processes to run", counted(ended[0], "task"))

    def _wait(self, deadline: float) -> None:
        if self._engine.running:
            running = counted(self._engine.running, "task")
            log.info("stopping: %s running, %.0f s left to finish", running, deadline - time.monotonic())
        self._runner.stop(max(0.0, deadline - time.monotonic()))  # from now on it begins nothing
        left = deadline - time.monotonic()
        if left > 0:  # else it is given back with what runs: not beside that, by a thread that nobody waits for
            ended_within(left, self._engine.give_back_waiting, name="bgtasks-release")
        while self._engine.running and time.monotonic() < deadline:  # in requests' own threads
            time.sleep(IDLE_LOOK_SECONDS)

    def close(self, grace: float | None = None) -> None:
        """Drain, let the sinks take what is due, close them and the store. Called again it changes nothing."""
        grace = self._grace if grace is None else grace
        try:
            self.drain(grace)
        finally:
            self._stop_watch.close()
            self.recovery.close()
            self._deliveries.close(min(grace, LAST_DELIVERIES_SECONDS))
            self._watcher.close()
            self._engine.close()
            self._exchange.close()  # last but the store: what ended until now is announced
            self._store.close()
