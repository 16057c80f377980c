"""The runner protocol. Only the id travels through a runner; the store holds the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

Run = Callable[[str], Any]


class Runner(ABC):
    """Makes ``run(request_id)`` happen somewhere, at least once. Called from any thread."""

    @abstractmethod
    def submit(self, request_id: str, *, delay: float = 0.0, priority: int = 0, queue: str = "default") -> None:
        """Have the task run.

        :param delay: seconds to wait first.
        :param priority: higher ones first.
        :param queue: for runners that serve several; one that does not runs the task all the same.
        :raises ShuttingDown: this process takes no more work.
        """

    @abstractmethod
    def cancel(self, request_id: str) -> bool:
        """Forget a task that has not begun; whether it was still here. One that runs is left alone."""

    @abstractmethod
    def start(self) -> None:
        """Start what runs tasks here, if it is not running. Called on first need, in the process that needs it."""

    @abstractmethod
    def stop(self, grace: float) -> bool:
        """Take no more work, let what runs finish for ``grace`` seconds; whether all of it did."""

    @property
    @abstractmethod
    def draining(self) -> bool:
        """Whether it was stopped, and refuses work."""

    @property
    @abstractmethod
    def waiting(self) -> int:
        """How many tasks wait in this process."""
