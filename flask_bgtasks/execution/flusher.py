"""Writes what running attempts report into the store: one thread per process.

Reads the attempts' values (:class:`~flask_bgtasks.pipeline.attempt.RunningAttempt`), knows the store's protocol. The
thread is made on first need, and sleeps while nothing runs here. Leases are renewed by another one, in
:mod:`.heartbeat`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from datetime import timedelta

from ..core.model import Checkpoint, Entry, Progress, Task
from ..core.steps import StepNode
from ..errors import (
    BackgroundTasksError,
    CancelRequested,
    LeaseLost,
    NotStorable,
    OutcomeUnknown,
    StoreUnavailable,
    TaskNotFound,
)
from ..pipeline.attempt import CHECKPOINT, RunningAttempt
from ..runtime.background_thread import BackgroundThread, ticks
from ..runtime.fork import after_fork_in_child
from ..runtime.log_lines import Recurring
from ..stores.base import Store
from .heartbeat import Heartbeat

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
"""How long a checkpoint is tried again while the store is unreachable: a full disk, a database that restarts."""

CLOSE_SECONDS = 2.0  # that close() waits for the thread, so that nobody asks a closed store

FOREIGN_LOOK_SECONDS = 1.0
"""How often a store without a change token is asked whether another process cancelled a task that runs here."""


class Flusher:
    """Stores the newest progress of each running attempt at most every ``interval`` seconds.

    :param lease: how long a renewed claim holds.
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
        self._heartbeat = Heartbeat(
            store,
            lease=lease,
            running=lambda: [running for running in self.all() if running.stopped not in OVER],
            heed=self._heed,
            lost=self.lose,
        )
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self._heartbeat.reset()
        self._thread = BackgroundThread("bgtasks-flusher", self._serve)
        self._awake = threading.Event()
        self._outage = Recurring(log)
        self._sync_outage = Recurring(log)
        self._running: dict[str, RunningAttempt] = {}  # by id; each step on it is one, so it needs no lock
        self._token: Hashable | None = None
        self._looked = 0.0

    def add(self, running: RunningAttempt) -> None:
        """An attempt begins here."""
        self._running[running.request_id] = running
        self._heartbeat.add(running)
        self.look_again()
        self._thread.start()

    def remove(self, running: RunningAttempt) -> None:
        """An attempt ended; nothing of it is written after this."""
        if self._running.get(running.request_id) is running:
            self._running.pop(running.request_id, None)

    def look_again(self) -> None:
        """There is something to look for: an attempt, or what was stored last of one, which is to be on disk."""
        if not self._awake.is_set():
            self._awake.set()

    def get(self, request_id: str) -> RunningAttempt | None:
        """The attempt of this task that runs here, if one does."""
        return self._running.get(request_id)

    def all(self) -> list[RunningAttempt]:
        """The attempts that run here."""
        return list(self._running.values())

    def stop_running(self, request_id: str, why: str = CANCELLED) -> None:
        """Tell the attempt, if it runs here, to stop at its next report."""
        running = self._running.get(request_id)
        if running is not None:
            running.stop(why)

    @property
    def threads(self) -> Sequence[BackgroundThread]:
        """This one's, and the one that renews leases."""
        return (self._thread, self._heartbeat.thread)

    def close(self) -> None:
        """Have the threads end; the next attempt starts others."""
        self._heartbeat.close()
        self._thread.close(wake=self._awake.set, timeout=CLOSE_SECONDS)

    def _serve(self, closed: threading.Event) -> None:
        for attempts in ticks(closed, self._awake, self._interval, self._look):
            for running in attempts:
                if running.stopped not in OVER:
                    self._serve_one(running)
            self._look_for_cancellations()

    def _look(self) -> list[RunningAttempt]:
        """What runs here. Whatever was stored since the last look, also of what has ended, is on disk after this."""
        try:
            self._store.sync()
            self._sync_outage.over("what was stored is on disk")
        except BackgroundTasksError as error:
            self._sync_outage.note("what was stored cannot be brought to disk yet: %s", error)
        return self.all()

    def _serve_one(self, running: RunningAttempt) -> None:
        try:
            if running.begin_by is not None and time.monotonic() >= running.begin_by and running.late is not None:
                running.late()
                return
            if running.deadline is not None and time.monotonic() >= running.deadline:
                running.stop(TIMED_OUT)
                late = time.monotonic() >= running.deadline + OVERDUE_SECONDS
                if late and running.stopped == TIMED_OUT and running.overdue is not None:
                    running.overdue()
                    return
            if self.flush(running):
                self._outage.over("progress is stored again")
        except (LeaseLost, TaskNotFound):
            self.lose(running)
        except BackgroundTasksError as error:  # the store is unreachable: what was taken went back, and is tried again
            self._outage.note("progress of task %s is not stored yet: %s", running.request_id, error)
        except BaseException:  # whatever it is, the others' reports are stored
            log.exception("storing the progress of task %s failed", running.request_id)

    def lose(self, running: RunningAttempt) -> None:
        """Another attempt has taken over: this one writes nothing more, and nobody waits for it."""
        running.stop(SUPERSEDED)
        self.remove(running)

    def confirm(self, running: RunningAttempt) -> None:
        """Make sure that the attempt holds its task, before it begins what is to run once.

        Asks the store only if the lease was not renewed for as long as it holds: this process slept.

        :raises CancelRequested: another attempt has taken over.
        """
        if time.monotonic() < running.leased_at + self._lease.total_seconds():
            return
        try:
            self._heartbeat.renew(running)
        except (LeaseLost, TaskNotFound):
            self.lose(running)
            raise CancelRequested(SUPERSEDED) from None
        except BackgroundTasksError as error:  # the flusher asks again, and what is begun is fenced
            log.warning("cannot tell whether task %s is still held: %s", running.request_id, error)

    def flush(self, running: RunningAttempt) -> bool:
        """Store what the attempt reported since the last time; whether there was anything.

        :raises LeaseLost: the attempt no longer holds its task.
        """
        if not running.flush_lock.acquire(blocking=False):
            return False  # its end, or a checkpoint, is on its way, which may take a minute: others do not wait for it
        try:
            if self._running.get(running.request_id) is not running:
                return False  # it ended while we were on the way here
            self._forget_stored(running)
            entries, progress = running.take()
            if not entries and progress is None:
                return False
            before = running.seq
            try:
                task = self._save(running, entries, progress)
            except (LeaseLost, TaskNotFound):
                raise
            except Exception as error:
                if isinstance(error, BackgroundTasksError) and not isinstance(error, NotStorable):
                    self._put_back(running, entries, error, before)
                    raise
                # Not storable, an error of the driver's, or of a value that turned up where it was taken for clean.
                task = self._save_apart(running, entries, progress, before)
            if progress is not None and task.progress is not None:
                self._offer(task, task.progress)
        finally:
            running.flush_lock.release()
        self._heed(running, task)
        if progress is not None and task.progress is not None:
            self._flushed(task, task.progress)
        return True

    def _save(self, running: RunningAttempt, entries: Sequence[Entry], progress: Progress | None = None) -> Task:
        task = self._store.save_progress(
            running.request_id, attempt=running.attempt, progress=progress, entries=entries, known=running.task
        )
        running.task = task
        return task

    def _save_apart(
        self, running: RunningAttempt, entries: Sequence[Entry], progress: Progress | None, before: int
    ) -> Task:
        """Store one by one what cannot be stored together: what is refused is lost, and nothing beside it."""
        refused: Exception | None = None
        task, lost = None, 0
        parts: list[tuple[Sequence[Entry], Progress | None]] = [((entry,), None) for entry in entries]
        for number, (one, newest) in enumerate([*parts, ((), progress)]):
            try:
                task = self._save(running, one, newest)
            except (LeaseLost, TaskNotFound):
                raise
            except StoreUnavailable as error:
                self._put_back(running, tuple(entries[number:]), error, before)
                raise
            except Exception as error:  # however often it is tried: the task goes on without it
                refused, lost = error, lost + 1
        log.error(
            "task %s: %d of its reports cannot be stored and are lost", running.request_id, lost, exc_info=refused
        )
        return task or self._store.get(running.request_id)

    def flush_ahead(self, running: RunningAttempt) -> None:
        """Store what is more than one write holds, so that the rest can go with something else. Under `flush_lock`.

        :raises BackgroundTasksError: some of it is not stored, and can be tried again.
        """
        self._forget_stored(running)
        while entries := running.take_ahead():
            before = running.seq
            try:
                self._save(running, entries)
            except Exception as error:
                self._put_back(running, entries, error, before)
                raise

    def _put_back(self, running: RunningAttempt, entries: tuple[Entry, ...], error: Exception, before: int) -> None:
        """What could not be stored is tried again; of an outcome that is not known, first looked for.

        :param before: the newest event that was known before the write.
        """
        running.put_back(entries)
        if isinstance(error, OutcomeUnknown) and running.unsure_since is None:
            running.unsure_since = before

    def _forget_stored(self, running: RunningAttempt) -> None:
        """Have nothing stored twice after a write of which it is not known whether it was made. Under `flush_lock`."""
        after = running.unsure_since
        if after is None:
            return
        while events := self._store.events(running.request_id, after=after):
            running.forget_stored(events)
            after = events[-1].seq
        running.unsure_since = None

    def save_checkpoint(self, running: RunningAttempt, node: StepNode, checkpoint: Checkpoint) -> None:
        """End a step and store its value, with everything that was reported until then, in one transaction.

        :raises CancelRequested: another attempt has taken over; nothing was stored.
        :raises NotStorable: the store cannot keep the value.
        :raises StoreUnavailable: the store was unreachable for a minute.
        """
        with running.flush_lock:
            try:
                running.close_step(node, more={CHECKPOINT: True})
                task, progress = self._save_checkpoint(running, node, checkpoint)
            except BaseException:
                # Its value is not stored. The end of its step may be, with that of the attempt.
                running.unmark(node, CHECKPOINT)
                raise
            if progress is not None and task.progress is not None:
                self._offer(task, task.progress)
        self._heed(running, task)

    def _save_checkpoint(
        self, running: RunningAttempt, node: StepNode, checkpoint: Checkpoint
    ) -> tuple[Task, Progress | None]:
        """The part of :meth:`save_checkpoint` that tries it again and again. Under `flush_lock`."""
        deadline, pause = time.monotonic() + SAVE_PATIENCE_SECONDS, 0.05
        while True:
            if self._running.get(running.request_id) is not running:
                running.stop(SUPERSEDED)  # ended by hand, or given back
                raise CancelRequested(running.stopped)
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
                    known=running.task,
                )
                return task, progress
            except (LeaseLost, TaskNotFound):
                self.lose(running)
                raise CancelRequested(running.stopped) from None
            except NotStorable:
                running.put_back(entries)
                raise
            except StoreUnavailable as error:
                self._put_back(running, entries, error, before)
                if time.monotonic() + pause > deadline:
                    running.gave_up = True
                    raise
                log.warning("checkpoint %r of task %s cannot be stored yet: %s", node.name, running.request_id, error)
                time.sleep(pause)
                pause = min(5.0, pause * 2)

    def _heed(self, running: RunningAttempt, task: Task) -> None:
        running.task = task
        if task.attempt > running.attempt:
            self.lose(running)
        if task.cancel_requested_at is not None:
            running.stop(CANCELLED)

    def _look_for_cancellations(self) -> None:
        """Another process may have cancelled a task that runs here: its history is longer than we know."""
        try:
            token = self._store.change_token()
            if token is None:
                if time.monotonic() - self._looked < FOREIGN_LOOK_SECONDS:
                    return
            elif token == self._token:
                return
            for request_id, seq in self._store.versions(list(self._running)).items():
                running = self._running.get(request_id)
                if running is not None and seq > running.seq:
                    self._heed(running, self._store.get(request_id))
            self._token, self._looked = token, time.monotonic()
        except BackgroundTasksError as error:
            self._outage.note("cannot look for cancelled tasks: %s", error)
