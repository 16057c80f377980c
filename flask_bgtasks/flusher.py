"""Writes what running attempts report into the store, and keeps their leases alive: one thread per process.

Reads the attempts' values (:class:`~flask_bgtasks.pipeline.Running`), knows the store's protocol. The thread is made on
first need, and sleeps while nothing runs here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from datetime import timedelta

from .errors import (
    BackgroundTasksError,
    LeaseLost,
    NotStorable,
    OutcomeUnknown,
    StoreUnavailable,
    TaskCancelled,
    TaskNotFound,
)
from .forks import after_fork_in_child
from .model import Checkpoint, Entry, Progress, Task
from .plan import Node
from .running import Running
from .stores.base import Store

log = logging.getLogger("flask_bgtasks")

Flushed = Callable[[Task, Progress], None]

CANCELLED = "the task was cancelled"
SUPERSEDED = "another attempt took over"
RELEASED = "this process is stopping; another one goes on with the task"
TIMED_OUT = "the attempt took longer than its timeout"

OVER = (SUPERSEDED, RELEASED)
"""Why an attempt has nothing more to write."""

OVERDUE_SECONDS = 10.0
"""How long after its timeout an attempt that reports nothing may go on before it is ended without its doing."""

SAVE_PATIENCE_SECONDS = 60.0
"""How long a checkpoint is tried again while the store is out of reach: a full disk, a database that restarts."""

CLOSE_SECONDS = 2.0  # that close() waits for the thread, so that nobody asks a closed store

FOREIGN_LOOK_SECONDS = 1.0
"""How often a store without a change token is asked whether another process cancelled a task that runs here."""


class Flusher:
    """Stores the newest progress of each running attempt at most every ``interval`` seconds.

    :param lease: how long a renewed claim holds; renewed at a third of it.
    :param offer: called with the task and its progress after each write, before the task can end: must be quick.
    :param flushed: called likewise, but the task may have ended meanwhile.
    """

    def __init__(
        self,
        store: Store,
        *,
        interval: float,
        lease: timedelta,
        offer: Flushed,
        flushed: Flushed,
    ) -> None:
        self._store = store
        self._interval = interval
        self._lease = lease
        self._offer = offer
        self._flushed = flushed
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()  # protects _thread's creation
        self._thread: threading.Thread | None = None
        self._awake = threading.Event()
        self._closed = threading.Event()  # of the thread that runs; set when it has to end
        self._running: dict[str, Running] = {}  # by id; each step on it is one, so it needs no lock
        self._token: Hashable | None = None
        self._looked = 0.0

    def add(self, running: Running) -> None:
        """An attempt begins here."""
        running.renew_at = time.monotonic() + self._lease.total_seconds() / 3
        self._running[running.request_id] = running
        if not self._awake.is_set():
            self._awake.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._serve, args=(self._closed,), name="bgtasks-flusher", daemon=True
                    )
                    self._thread.start()

    def remove(self, running: Running) -> None:
        """An attempt ended; nothing of it is written after this."""
        if self._running.get(running.request_id) is running:
            self._running.pop(running.request_id, None)

    def get(self, request_id: str) -> Running | None:
        """The attempt of this task that runs here, if one does."""
        return self._running.get(request_id)

    def all(self) -> list[Running]:
        """The attempts that run here."""
        return list(self._running.values())

    def stop_running(self, request_id: str, why: str = CANCELLED) -> None:
        """Tell the attempt, if it runs here, to stop at its next report."""
        running = self._running.get(request_id)
        if running is not None:
            running.stop(why)

    def close(self) -> None:
        """Have the thread end; the next attempt starts another."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._closed.set()
            self._closed = threading.Event()
        self._awake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_SECONDS)

    def _serve(self, closed: threading.Event) -> None:
        while not closed.is_set():
            self._awake.wait()
            if closed.wait(self._interval):
                return
            if not self._running:
                self._awake.clear()
                if self._running:  # one came between the look and the clearing
                    self._awake.set()
                continue
            for running in list(self._running.values()):
                if running.stopped not in OVER:
                    self._serve_one(running)
            self._look_for_cancellations()

    def _serve_one(self, running: Running) -> None:
        try:
            if running.deadline is not None and time.monotonic() >= running.deadline:
                running.stop(TIMED_OUT)
                late = time.monotonic() >= running.deadline + OVERDUE_SECONDS
                if late and running.stopped == TIMED_OUT and running.overdue is not None:
                    running.overdue()
                    return
            self.flush(running)
            if time.monotonic() >= running.renew_at:
                task = self._store.renew(running.request_id, attempt=running.attempt, lease=self._lease)
                running.renew_at = time.monotonic() + self._lease.total_seconds() / 3
                self._heed(running, task)
        except (LeaseLost, TaskNotFound):
            running.stop(SUPERSEDED)
        except BackgroundTasksError as error:  # the store is out of reach: what was taken went back, and is tried again
            log.warning("progress of task %s is not stored yet: %s", running.request_id, error)
        except Exception:
            log.exception("storing the progress of task %s failed", running.request_id)

    def flush(self, running: Running) -> None:
        """Store what the attempt reported since the last time.

        :raises LeaseLost: the attempt no longer holds its task.
        """
        if not running.flush_lock.acquire(blocking=False):
            return  # its end, or a checkpoint, is on its way, which may take a minute: the others do not wait for it
        try:
            if self._running.get(running.request_id) is not running:
                return  # it ended while we were on the way here
            self._forget_stored(running)
            entries, progress = running.take()
            if not entries and progress is None:
                return
            before = running.seq
            try:
                task = self._store.save_progress(
                    running.request_id, attempt=running.attempt, progress=progress, entries=entries
                )
            except (LeaseLost, TaskNotFound):
                raise
            except NotStorable:  # however often it is tried: the task goes on without them
                log.exception("%d entries of the history of task %s are lost", len(entries), running.request_id)
                return
            except Exception as error:
                self._put_back(running, entries, error, before)
                raise
            if progress is not None and task.progress is not None:
                self._offer(task, task.progress)
        finally:
            running.flush_lock.release()
        self._heed(running, task)
        if progress is not None and task.progress is not None:
            self._flushed(task, task.progress)

    def flush_ahead(self, running: Running) -> None:
        """Store what is more than one write holds, so that the rest can go with something else. Under `flush_lock`.

        :raises BackgroundTasksError: some of it is not stored, and can be tried again.
        """
        self._forget_stored(running)
        while entries := running.take_ahead():
            before = running.seq
            try:
                self._store.save_progress(running.request_id, attempt=running.attempt, progress=None, entries=entries)
            except Exception as error:
                self._put_back(running, entries, error, before)
                raise

    def _put_back(self, running: Running, entries: tuple[Entry, ...], error: Exception, before: int) -> None:
        """What could not be stored is tried again; of an outcome that is not known, first looked for.

        :param before: the newest event that was known before the write.
        """
        running.put_back(entries)
        if isinstance(error, OutcomeUnknown) and running.unsure_since is None:
            running.unsure_since = before

    def _forget_stored(self, running: Running) -> None:
        """Have nothing stored twice after a write of which it is not known whether it was made. Under `flush_lock`."""
        after = running.unsure_since
        if after is None:
            return
        while events := self._store.events(running.request_id, after=after):
            running.forget_stored(events)
            after = events[-1].seq
        running.unsure_since = None

    def save_checkpoint(self, running: Running, node: Node, checkpoint: Checkpoint) -> None:
        """End a step and store its value, with everything that was reported until then, in one transaction.

        :raises TaskCancelled: another attempt has taken over; nothing was stored.
        :raises NotStorable: the store cannot keep the value.
        :raises StoreUnavailable: the store was out of reach for a minute.
        """
        deadline, pause = time.monotonic() + SAVE_PATIENCE_SECONDS, 0.05
        with running.flush_lock:
            running.close_step(node, more={"checkpoint": True})
            while True:
                if self._running.get(running.request_id) is not running:
                    running.stop(SUPERSEDED)  # ended by hand, or given back
                    raise TaskCancelled(running.stopped)
                entries: tuple[Entry, ...] = ()
                before = running.seq
                try:
                    self.flush_ahead(running)
                    entries, progress = running.take()
                    task = self._store.save_checkpoint(
                        running.request_id,
                        attempt=running.attempt,
                        checkpoint=checkpoint,
                        progress=progress,
                        entries=entries,
                    )
                    break
                except (LeaseLost, TaskNotFound):
                    running.stop(SUPERSEDED)
                    raise TaskCancelled(running.stopped) from None
                except NotStorable:
                    running.put_back(entries)
                    raise
                except StoreUnavailable as error:
                    self._put_back(running, entries, error, before)
                    if time.monotonic() + pause > deadline:
                        running.gave_up = True
                        raise
                    log.warning(
                        "checkpoint %r of task %s cannot be stored yet: %s", node.name, running.request_id, error
                    )
                    time.sleep(pause)
                    pause = min(5.0, pause * 2)
            if progress is not None and task.progress is not None:
                self._offer(task, task.progress)
        self._heed(running, task)

    def _heed(self, running: Running, task: Task) -> None:
        running.seq = task.seq
        if task.cancel_requested_at is not None:
            running.stop(CANCELLED)

    def _look_for_cancellations(self) -> None:
        """Another process may have cancelled a task that runs here: its history is longer than we know."""
        token = self._store.change_token()
        if token is None:
            if time.monotonic() - self._looked < FOREIGN_LOOK_SECONDS:
                return
        elif token == self._token:
            return
        self._token, self._looked = token, time.monotonic()
        try:
            for request_id, seq in self._store.versions(list(self._running)).items():
                running = self._running.get(request_id)
                if running is not None and seq > running.seq:
                    self._heed(running, self._store.get(request_id))
        except BackgroundTasksError as error:
            log.warning("cannot look for cancelled tasks: %s", error)
