"""What carries announcements from process to process: the protocol of its adapters."""

from __future__ import annotations

from abc import ABC, abstractmethod

ANSWER_SECONDS = 5.0
"""What a server gets to take a connection, to answer, or to pass a message on."""


class ChannelLost(Exception):
    """The channel's server is unreachable, or has fallen silent."""


class Channel(ABC):
    """A connection of one process to the channel of its app. Used by one thread at a time.

    Every method raises :class:`ChannelLost` where the server does not do what it is asked for.
    """

    @abstractmethod
    def connect(self) -> None:
        """Open what is needed to publish."""

    @abstractmethod
    def listen(self) -> str | None:
        """Hear the messages of all processes from now on; says why that cannot be, None where it can."""

    @abstractmethod
    def fileno(self) -> int:
        """The socket on which messages arrive, once it listens: for :mod:`selectors`."""

    @abstractmethod
    def received(self) -> list[str]:
        """The messages that have come. Does not wait."""

    @abstractmethod
    def publish(self, message: str) -> None:
        """Send a message to every process that listens, this one included."""

    @abstractmethod
    def prove(self, message: str) -> None:
        """Publish in such a way that the message comes back only to a connection that truly hears."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection. Raises nothing."""
