"""The part of the store protocol about the apps that share a database."""

from __future__ import annotations

from abc import abstractmethod

from .part import StorePart


class Apps(StorePart):
    """The apps that share the store, as seen by one of them."""

    @abstractmethod
    def apps(self) -> dict[str, int]:
        """The apps that keep their tasks here, with their numbers of tasks, as far as this store can tell."""

    @abstractmethod
    def adopt(self, app_id: str) -> int:
        """Take over everything of another app, for an app whose id has changed; return how many tasks.

        What this app already has, such as a device or an average, stays unchanged.
        """
