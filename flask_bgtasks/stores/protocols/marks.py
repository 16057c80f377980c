"""The part of the store protocol about marks: keys that processes take for a time, to agree on who does something."""

from __future__ import annotations

from abc import abstractmethod
from datetime import timedelta

from .part import StorePart


class Marks(StorePart):
    """Keys that processes share, each taken until a time."""

    @abstractmethod
    def take_mark(self, key: str, span: timedelta) -> bool:
        """Take a key for this long; False while somebody has it.

        Processes agree by it on who does something, and how often it is done.
        """

    @abstractmethod
    def set_mark(self, key: str, span: timedelta) -> None:
        """Take a key from now for this long, whoever has it; a span of 0 gives it back."""
