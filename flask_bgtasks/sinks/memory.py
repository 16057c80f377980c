"""Records everything that it receives, in memory: for tests and demos."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from ..core.model import Event, Progress, Task
from ..core.notifications import Notification
from ..hookspecs import hookimpl

T = TypeVar("T")

KEPT = 10_000  # of each kind; a demo that runs for weeks must not fill the memory


class MemorySink:
    """``BGTASKS_SINKS = ["memory"]``. Its lists can be read from any thread."""

    name = "memory"

    def __init__(self) -> None:
        self._told = threading.Condition()  # protects the lists; notified with each addition
        self.events: list[tuple[Task, Event]] = []
        self.progress: list[tuple[Task, Progress]] = []
        self.notifications: list[Notification] = []

    @hookimpl
    def bgtasks_task_event(self, task: Task, event: Event) -> None:
        self._record(self.events, (task, event))

    @hookimpl
    def bgtasks_task_progress(self, task: Task, progress: Progress) -> None:
        self._record(self.progress, (task, progress))

    @hookimpl
    def bgtasks_send_notification(self, notification: Notification) -> None:
        self._record(self.notifications, notification)

    def wait_for(self, found: Callable[[MemorySink], T], *, timeout: float = 10) -> T:
        """Wait until ``found(sink)`` is true, and return it.

        :param timeout: seconds.
        :raises TimeoutError: it was not in time.
        """
        with self._told:
            self._told.wait_for(lambda: found(self), timeout)
            result = found(self)
        if not result:
            raise TimeoutError(f"not told within {timeout:g} s; told so far: {[e.type.value for _, e in self.events]}")
        return result

    def clear(self) -> None:
        """Forget what was recorded."""
        with self._told:
            for rows in (self.events, self.progress, self.notifications):
                rows.clear()

    def _record(self, rows: list[T], row: T) -> None:
        with self._told:
            rows.append(row)
            del rows[:-KEPT]
            self._told.notify_all()
