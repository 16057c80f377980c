"""Group commit: threads that write at the same time share a transaction of the one connection that writes.

SQLite has one writer at a time, and a transaction costs the same for one operation as for many. So threads that write
together commit together: the first to come leads; what others queue meanwhile is run as the next transaction, by one of
them. A lone thread is its own leader, and pays no hand-over. Waits for no disk: that is the database's.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from .base import Operation
from .sqlite_connection import SqliteConnection
from .sqlite_file import unavailable

T = TypeVar("T")

MAX_PER_COMMIT = 128
"""Operations that share a commit at most: the last of them waits for all."""


class _Job(Generic[T]):
    """One thread's operation on its way through a shared transaction."""

    __slots__ = ("done", "error", "operation", "result", "woken", "wrote")

    def __init__(self, operation: Operation[T]) -> None:
        self.operation = operation
        self.done = False
        self.wrote = False
        self.result: T | None = None
        self.error: BaseException | None = None
        self.woken: threading.Lock | None = None  # of a follower: released when it is done, or has to lead

    def outcome(self) -> T:
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]


class GroupCommit:
    """The writer of one database file.

    :param path: of the file, for errors.
    :param open_writer: opens the connection that writes; called on first need.
    """

    def __init__(self, path: str, open_writer: Callable[[], SqliteConnection]) -> None:
        self.writer: SqliteConnection | None = None
        """The connection that writes; None while none is open."""
        self._path = path
        self._open_writer = open_writer
        self._queue_lock = threading.Lock()  # protects _queue and _led; held for microseconds
        self._queue: deque[_Job[Any]] = deque()
        self._led = False  # whether a thread leads
        self._committed = False  # of the transaction that failed last: whether that was after its commit. The leader's
        self._writer_lock = threading.Lock()  # protects writer: the leader against closed()

    def run(self, operation: Operation[T]) -> tuple[T, bool]:
        """Run an operation in a transaction, which others may share.

        :returns: what it returned, and whether it wrote anything.
        :raises StoreUnavailable: SQLite refused; nothing was changed. :raises Exception: the operation's own.
        """
        job = _Job(operation)
        with self._queue_lock:
            self._queue.append(job)
            leads, self._led = not self._led, True
            if not leads:
                job.woken = threading.Lock()
                job.woken.acquire()
        if job.woken is not None:
            self._wait(job, job.woken)
        if not job.done:
            try:
                self._lead(job)
            finally:
                self._pass_on()
        try:
            return job.outcome(), job.wrote
        except sqlite3.Error as error:
            raise unavailable(self._path, error) from error

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Close the connection that writes, after the transaction under way; none is opened during the block."""
        with self._writer_lock:
            writer, self.writer = self.writer, None
            if writer is not None:
                writer.raw.close()
            yield

    def _wait(self, job: _Job[Any], woken: threading.Lock) -> None:
        """Wait until another's transaction has done the operation, or this thread has to lead."""
        try:
            woken.acquire()
        except BaseException:  # Ctrl-C: nobody may wait for a leader that left
            with self._queue_lock:
                waits = job in self._queue
                if waits:
                    self._queue.remove(job)
            if waits and not woken.locked():
                self._pass_on()
            raise

    def _lead(self, mine: _Job[Any]) -> None:
        """Run what is queued, this thread's operation first, as one transaction."""
        with self._queue_lock:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_PER_COMMIT))]
        try:
            with self._writer_lock:
                if not self._run_together(batch):
                    for job in batch:  # one of them failed half-way: each on its own
                        job.result = job.error = None
                        self._run_together([job])
                        job.done = True
        except sqlite3.Error as error:
            refusal = unavailable(self._path, error)
            for job in batch:
                job.error = job.error or refusal
        except BaseException as error:
            if isinstance(error, Exception):
                for job in batch:
                    job.error = job.error or error
            elif not self._committed:  # this thread alone is being ended: another one leads the rest
                others = [job for job in batch if job is not mine and not job.done]
                batch = [job for job in batch if job not in others]
                for job in others:
                    job.result = job.error = None
                with self._queue_lock:
                    self._queue.extendleft(reversed(others))
            raise
        finally:
            for job in batch:
                job.done = True
            for job in batch:
                if job.woken is not None:
                    job.woken.release()

    def _pass_on(self) -> None:
        """Have the first that waits lead, if any does."""
        with self._queue_lock:
            self._led = bool(self._queue)
            successor = self._queue[0].woken if self._queue else None
        if successor is not None:
            successor.release()

    def _run_together(self, batch: list[_Job[Any]]) -> bool:
        """Run the jobs in one transaction. False, with nothing changed, if one failed after it had written."""
        self._committed = begun = False
        writer = self.writer or self._opened()
        raw = writer.raw
        try:
            raw.execute("BEGIN IMMEDIATE")
            begun = True
            for job in batch:
                writer.begin_operation()
                try:
                    job.result = job.operation(writer)
                    job.wrote = writer.writes > 0
                except Exception as error:
                    if isinstance(error, sqlite3.OperationalError) or (writer.writes and len(batch) > 1):
                        raise
                    job.error = error  # refused before it wrote anything: the others go on
                    if writer.writes:
                        raise
            raw.execute("COMMIT")
        except BaseException as error:  # a signal's SystemExit too: the next transaction must not find this one open
            self._committed = begun and not raw.in_transaction
            if raw.in_transaction:  # some errors end it by themselves (sqlite.org/lang_transaction.html, "automatic")
                raw.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError) or not isinstance(error, Exception):
                raise
            if len(batch) > 1:
                return False
        return True

    def _opened(self) -> SqliteConnection:
        self.writer = self._open_writer()
        return self.writer
