"""The part of the store protocol about many tasks at once: finding and counting them."""

from __future__ import annotations

from abc import abstractmethod
from datetime import datetime

from ..types import Page, Stats, TaskQuery
from .part import StorePart


class Queries(StorePart):
    """Reads over the app's tasks."""

    @abstractmethod
    def find(self, query: TaskQuery) -> Page:
        """Tasks by their fields, newest first. :raises ValueError: a malformed cursor."""

    @abstractmethod
    def count_failed(self, name: str, *, since: datetime) -> int:
        """How many tasks of this name failed at ``since`` or later, and have not been opened again.

        A task whose view refused the request (:attr:`~flask_bgtasks.Task.rejected`) does not count.
        """

    @abstractmethod
    def stats(self) -> Stats:
        """Figures over the app's tasks; may cost a scan of an index."""
