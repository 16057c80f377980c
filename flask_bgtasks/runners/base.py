"""The runner protocol. Only the id travels through a runner; the store holds the rest, the queue too."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from ..core.model import Task

Run = Callable[[str], Any]

Fetch = Callable[[int], Sequence[Task]]
"""Asks the store for tasks that may begin here now, in the order in which they should; at most so many."""


class Runner(ABC):
    """Makes ``run(request_id)`` happen somewhere, at least once. Called from any thread.

    A task that is submitted is in the store already. A runner that has no place for it may forget it: it is picked up
    from there when there is one.
    """

    @abstractmethod
    def submit(self, request_id: str, *, delay: float = 0.0, priority: int = 0, queue: str = "default") -> None:
        """Have the task run.

        :param delay: seconds to wait first.
        :param priority: higher ones first.
        :param queue: for runners that serve several; one that does not runs the task all the same.
        :raises ShuttingDown: this process takes no more work.
        """

    def isolate(self, request_id: str, *, seconds: float, priority: int = 0, queue: str = "default") -> None:
        """Have a task run whose process died, with nothing else beginning beside it in its process.

        A runner that cannot do that runs it as any other.

        :param seconds: how long it is to be alone, and at most waits for what runs (:mod:`.isolation`).
        :raises ShuttingDown: this process takes no more work.
        """
        self.submit(request_id, priority=priority, queue=queue)

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

    @property
    def fetches(self) -> bool:
        """Whether this process is to look for work in the store: for what waits, and what dead processes left."""
        return False

    @property
    def free(self) -> int:
        """How many more tasks this process could begin right now: so many are fetched from the store for it."""
        return 0

    def look(self) -> None:  # noqa: B027 - most runners have a queue of their own
        """There may be work in the store that had to wait until now: fetch some, as soon as a place is free."""

    def give_up(self, request_id: str) -> None:  # noqa: B027 - nothing to do where a run is a process of its own
        """A run was ended and does not return: give its place to another. Its thread may return later, or never."""

    @property
    def missing(self) -> Sequence[str]:
        """The names of its threads that should be there, and have died."""
        return ()

    def mend(self) -> None:  # noqa: B027 - most runners have no threads here
        """Begin the missing ones again."""

    @property
    def can_wait(self) -> bool:
        """Whether :meth:`submit` heeds a delay. Where it does not, what failed is tried again at once."""
        return True
