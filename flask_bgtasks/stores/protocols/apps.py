"""The part of the store protocol about the apps that share a database."""

from __future__ import annotations

from abc import abstractmethod

from .part import StorePart


class Apps(StorePart):
    """The apps of the store, as one of them sees it."""

    @abstractmethod
    def apps(self) -> dict[str, int]:
        """The apps that keep their tasks here, each with its number of tasks; as far as this store can tell."""

    @abstractmethod
    def adopt(self, app_id: str) -> int:
        """Give this app everything that belongs to another: for an app that got another id; return how many tasks.

        What this app has already, a device or an average say, stays as it is.
        """
