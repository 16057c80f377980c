"""What all parts of the store protocol share: the app that the store is opened for, and its time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime


class StorePart(ABC):
    """A part of the protocol. Every method is atomic and may be called from any thread."""

    app_id: str = ""
    """The id of the app that the store is opened for. A plugin may leave it empty: the extension sets it before the
    first call. Also empty for a store that is used without an app."""

    @abstractmethod
    def now(self) -> datetime:
        """The store's time, which decides about leases and expiry."""
