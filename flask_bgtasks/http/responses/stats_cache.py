"""Keeps the newest figures: counting may scan an index, so it is done once a second at most, whoever asks.

And which tasks are stuck: that reads the front of the queue, and is looked at every ten seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Container

from ...app.stuck import counted_names, stuck_tasks
from ...errors import BackgroundTasksError
from ...stores.base import Store
from ...stores.types import Stats

FRESH_SECONDS = 1.0
STUCK_FRESH_SECONDS = 10.0


class Figures:
    """The figures of one store."""

    def __init__(self, store: Store, names: Container[str]) -> None:
        self._store = store
        self._names = names
        self._stuck = ""
        self._stuck_at = float("-inf")
        self._lock = threading.Lock()  # protects what was counted: one counts, the others wait for it
        self._at = float("-inf")
        self._stats = Stats()

    def now(self) -> Stats:
        """Figures that are at most :data:`FRESH_SECONDS` old."""
        with self._lock:
            if time.monotonic() - self._at > FRESH_SECONDS:
                self._stats = self._store.stats()
                self._at = time.monotonic()
            return self._stats

    def stuck(self) -> str:
        """The names of tasks that wait and that no function is registered for, empty if there are none."""
        with self._lock:
            if time.monotonic() - self._stuck_at > STUCK_FRESH_SECONDS:
                try:
                    self._stuck = counted_names(stuck_tasks(self._store, self._names))
                except BackgroundTasksError:  # the store's own check says what is wrong
                    return self._stuck
                self._stuck_at = time.monotonic()
            return self._stuck
