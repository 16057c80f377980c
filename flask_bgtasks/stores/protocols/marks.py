"""The part of the store protocol about marks: keys that processes take for a time, to agree on who does something."""

from __future__ import annotations

from abc import abstractmethod
from datetime import timedelta

from .part import StorePart


class Marks(StorePart):
    """Keys that processes share, each taken until a time."""

    @abstractmethod
    def take_mark(self, key: str, span: timedelta) -> bool:
        """Take a key for this long; False if it is already taken.

        Processes use this to agree on who does something, and how often.
        """

    @abstractmethod
    def set_mark(self, key: str, span: timedelta) -> None:
        """Take a key from now on for this long, even if it is already taken; a span of 0 releases it."""
