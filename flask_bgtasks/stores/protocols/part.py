"""What every part of the store protocol has: the app that it is opened for, and the store's time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime


class StorePart(ABC):
    """A part of the protocol. Every method is atomic and may be called from any thread."""

    app_id: str = ""
    """The app that the store is opened for. Whoever opens the store may leave this to the extension, which sets it
    before the first call. Empty for a store that is used without an app."""

    @abstractmethod
    def now(self) -> datetime:
        """The store's time, by which leases and expiry are judged."""
