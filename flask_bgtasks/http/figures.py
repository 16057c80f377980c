"""Keeps the newest figures: counting may scan an index, so it is done once a second at most, whoever asks."""

from __future__ import annotations

import threading
import time

from ..stores.base import Stats, Store

FRESH_SECONDS = 1.0


class Figures:
    """The figures of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
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
