"""Mirrors tasks into Cloud Firestore, where a client reads them without the backend: two documents for each task.

What happens to a task is written at once, in order, by the outbox; its progress at most once a second for each
document, the newest value of many tasks in one call. A progress write is bound to the version of the document that it
replaces, so that one which the network delivers late cannot overtake the end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.model import Event, Progress, Result, Status, Task
from ..firebase.firestore import documents
from ..firebase.firestore.client import DEADLINE_SECONDS, ONCE, Firestore, bulk_batch, connect, told
from ..hookspecs import hookimpl
from ..runtime.background_thread import BackgroundThread
from ..runtime.fork import after_fork_in_child
from ..runtime.log_lines import Recurring
from ..wording import counted

if TYPE_CHECKING:
    from flask import Flask

    from ..settings import Settings

log = logging.getLogger("flask_bgtasks")

PROGRESS_SECONDS = 1.0
"""Between two progress writes of one document: our budget, for cost and contention, not a documented limit."""

MAX_PER_CALL = 250  # documents; a call takes 500, but has to be over within its deadline
LOOK_SECONDS = 0.1
QUIET_SECONDS = 10.0  # without progress, after which the thread ends
FORGET_SECONDS = 3600.0

ENDS = frozenset(status.value for status in Status if status.terminal)

RAMP_START, RAMP_GROWTH, RAMP_SECONDS = 500.0, 1.5, 300.0
"""Writes per second that a new process begins with, and how they may grow: the 500/50/5 rule of ramping up traffic
(cloud.google.com/firestore/docs/best-practices): 500 a second, half as many more every five minutes."""

AGAIN_SECONDS = 4.0  # later than usual, while Firestore is unreachable: it is only the newest value anyway


class FirestoreSink:
    """``BGTASKS_SINKS = ["firestore"]``.

    :param firestore: the way to the database.
    :param tasks: the collection of tasks. :param progress: the collection of their progress.
    """

    name = "firestore"

    def __init__(self, firestore: Firestore, *, tasks: str, progress: str) -> None:
        self._firestore = firestore
        self._tasks = tasks
        self._progress = progress
        self._reset()
        after_fork_in_child(self._reset)

    @classmethod
    def from_settings(cls, app: Flask, settings: Settings) -> FirestoreSink:
        """Made by its name. :raises ConfigurationError: there are no credentials, or the extra is not installed."""
        return cls(connect(app, settings), tasks=settings.firestore_tasks, progress=settings.firestore_progress)

    def _reset(self) -> None:
        self._lock = threading.Lock()  # protects what follows; never held during a call
        self._pages: dict[str, _Page] = {}  # by task, while it runs here
        self._thread = BackgroundThread("bgtasks-firestore", self._serve)
        self._ramp = Ramp()
        self._outage = Recurring(log)

    # -- what the sink is told -----------------------------------------------------------------------------------------

    @hookimpl
    def bgtasks_task_event(self, task: Task, event: Event, load_result: Callable[[], Result | None]) -> None:
        with self._lock:
            page = self._pages.pop(task.request_id, None)
        result = load_result() if task.status is Status.COMPLETED else None
        stored = documents.task_document(task, result)
        progress = documents.progress_document(task, task.progress)
        try:
            if stored.chunks:
                self._write_chunks(task, stored.chunks)
            version = self._write_both(task, stored.document, progress)
        except Exception as error:
            raise told(error) from error
        if task.done:
            return
        with self._lock:
            kept = self._pages.setdefault(task.request_id, _Page())
            kept.version, kept.written = version, time.monotonic()
            if page is not None and kept.newest is None:
                kept.newest = page.newest

    @hookimpl
    def bgtasks_task_erased(self, request_id: str) -> None:
        with self._lock:
            self._pages.pop(request_id, None)
        first, second = self._references(request_id)
        try:
            batch = self._firestore.client.batch()
            for chunk in first.collection("chunks").list_documents(**ONCE):
                batch.delete(chunk)
            batch.delete(first)
            batch.delete(second)
            batch.commit(**ONCE)
        except Exception as error:
            raise told(error) from error

    @hookimpl
    def bgtasks_task_progress(self, task: Task, progress: Progress) -> None:
        with self._lock:
            self._pages.setdefault(task.request_id, _Page()).newest = (task, progress)
            self._thread.start()

    @hookimpl
    def bgtasks_close(self) -> None:
        # Progress that is not written yet is nobody's loss: what ended was told by its event, what goes on elsewhere
        # is mirrored from there. A sink that another app has too begins its thread and its client again.
        self._thread.close(timeout=DEADLINE_SECONDS)
        self._firestore.close()

    @hookimpl
    def bgtasks_check(self) -> Iterable[tuple[str, str | None]]:
        try:
            self._firestore.client.collection(self._tasks).document("doctor").get(**ONCE)
        except Exception as error:
            return [(str(self._firestore), str(told(error)))]
        return [(str(self._firestore), None)]

    # -- events --------------------------------------------------------------------------------------------------------

    def _references(self, request_id: str) -> tuple[Any, Any]:
        client = self._firestore.client
        tasks, progress = client.collection(self._tasks), client.collection(self._progress)
        return tasks.document(request_id), progress.document(request_id)

    def _write_both(self, task: Task, document: dict[str, Any], progress: dict[str, Any]) -> Any:
        """Both documents in one commit; the progress document's version after it."""
        batch = self._firestore.client.batch()
        first, second = self._references(task.request_id)
        batch.set(first, document)
        batch.set(second, progress)
        results = batch.commit(**ONCE)
        return results[1].update_time

    def _write_chunks(self, task: Task, chunks: Sequence[bytes]) -> None:
        """Before the document says that they are there."""
        collection = self._references(task.request_id)[0].collection("chunks")
        for begin in range(0, len(chunks), documents.CHUNKS_PER_COMMIT):
            batch = self._firestore.client.batch()
            for number in range(begin, min(begin + documents.CHUNKS_PER_COMMIT, len(chunks))):
                made = documents.chunk_document(number, chunks[number], task)
                batch.set(collection.document(documents.chunk_id(number)), made)
            batch.commit(retry=None, timeout=ONCE["timeout"] * 5)  # megabytes

    # -- progress ------------------------------------------------------------------------------------------------------

    def _serve(self, closed: threading.Event) -> None:
        """The thread that writes progress, for as long as there is any."""
        quiet_since = time.monotonic()
        while not closed.is_set():
            due = self._take_due()
            if due:
                quiet_since = time.monotonic()
                self._write_progress(due)
                continue
            closed.wait(LOOK_SECONDS)
            if time.monotonic() - quiet_since > QUIET_SECONDS and self._ends():
                return

    def _ends(self) -> bool:
        """Forget what has been silent for long, and end the thread if nothing waits."""
        with self._lock:
            forgotten = time.monotonic() - FORGET_SECONDS
            for request_id, page in list(self._pages.items()):
                if page.newest is None and page.written < forgotten:
                    del self._pages[request_id]  # another process told its end
            if any(page.newest is not None for page in self._pages.values()):
                return False
            self._thread.retire()
            return True

    def _take_due(self) -> list[_Due]:
        now = time.monotonic()
        with self._lock:
            waiting = [
                _Due(request_id, page, *page.newest)
                for request_id, page in self._pages.items()
                if page.newest is not None and now - page.written >= PROGRESS_SECONDS
            ]
            waiting.sort(key=lambda due: due.page.written)
            granted = waiting[: self._ramp.grant(min(len(waiting), MAX_PER_CALL), now)]
            for due in granted:
                due.page.newest, due.page.written = None, now
        return granted

    def _write_progress(self, due: list[_Due]) -> None:
        try:
            bound = self._bind(due)
            if not bound:
                return
            client = self._firestore.client
            batch = bulk_batch(client)
            for one in bound:
                option = client.write_option(last_update_time=one.page.version)
                batch.update(self._references(one.request_id)[1], _progress(one), option=option)
            answer = batch.commit(**ONCE)
        except Exception as error:
            self._outage.note("the progress of %s is not mirrored yet: %s", counted(len(due), "task"), told(error))
            self._put_back(due)
            return
        self._outage.over("progress is mirrored again")
        for one, status, result in zip(bound, answer.status, answer.write_results, strict=True):
            # Refused: somebody else has written the document, an event or another process. It is read before the next.
            one.page.version = result.update_time if status.code == 0 else None

    def _bind(self, due: list[_Due]) -> list[_Due]:
        """Those that may be written, each with the version of the document that it replaces.

        What this process has not written itself is read first: its task may have ended, told by another process.
        """
        unknown = {one.request_id: one for one in due if one.page.version is None}
        if unknown:
            references = [self._references(request_id)[1] for request_id in unknown]
            for snapshot in self._firestore.client.get_all(references, **ONCE):
                one, found = unknown[snapshot.id], snapshot.to_dict() or {}
                if snapshot.exists and found.get("seq", 0) <= one.task.seq and found.get("status") not in ENDS:
                    one.page.version = snapshot.update_time
                elif snapshot.exists:
                    with self._lock:
                        self._pages.pop(one.request_id, None)
        # A document that is not there yet comes with the task's first event, which is delivered.
        return [one for one in due if one.page.version is not None]

    def _put_back(self, due: list[_Due]) -> None:
        """It may have been written or not: the document is read before the next try."""
        with self._lock:
            for one in due:
                one.page.version = None
                if self._pages.get(one.request_id) is one.page and one.page.newest is None:
                    one.page.newest = (one.task, one.progress)
                    one.page.written += AGAIN_SECONDS


def _progress(due: _Due) -> dict[str, Any]:
    return documents.progress_document(due.task, due.progress)


@dataclass(eq=False, slots=True)
class _Page:
    """What this process knows of one task's progress document.

    :param version: as this sink last wrote it, None where somebody else may have.
    :param written: when, by time.monotonic.
    """

    version: Any = None
    written: float = 0.0
    newest: tuple[Task, Progress] | None = None


@dataclass(frozen=True, slots=True)
class _Due:
    """A page that is to be written now, and what with."""

    request_id: str
    page: _Page
    task: Task
    progress: Progress


class Ramp:
    """How many writes may go out: a bucket that fills at a rate, which grows while it is used."""

    def __init__(self, now: float = 0.0) -> None:
        self._rate = RAMP_START
        self._grown = self._filled = now
        self._tokens = RAMP_START

    def grant(self, wanted: int, now: float) -> int:
        """So many of them may be written now."""
        if not self._grown:
            self._grown = self._filled = now
        while now - self._grown >= RAMP_SECONDS:
            self._rate *= RAMP_GROWTH
            self._grown += RAMP_SECONDS
        self._tokens = min(self._rate, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        granted = min(wanted, int(self._tokens))
        self._tokens -= granted
        return granted
