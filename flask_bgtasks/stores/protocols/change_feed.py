"""The part of the store protocol for readers that follow tasks: histories, versions, and what this process changed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Hashable

from ...core.model import Event, Task
from ...core.transitions.transition import Transition
from ...runtime.background_thread import Contained
from .part import StorePart

CommitListener = Callable[[Task, "tuple[Event, ...]"], None]


class ChangeFeed(StorePart):
    """How readers learn that a task changed.

    Listeners given to :meth:`on_commit` are called after the commit, in the thread that asked for the change, outside
    every lock of the store.
    """

    def __init__(self) -> None:
        super().__init__()
        self._listeners: list[CommitListener] = []

    @abstractmethod
    def events(self, request_id: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """The history above ``after``, oldest first. The first may be above ``after + 1``: older rows are trimmed.

        :raises TaskNotFound: no such task.
        """

    @abstractmethod
    def versions(self, request_ids: Collection[str]) -> dict[str, int]:
        """The newest ``seq`` of each of these tasks, in one query; tasks that are gone are left out."""

    @abstractmethod
    def change_token(self) -> Hashable | None:
        """A value that differs when anything in the store may have changed since the last call.

        Costs microseconds. None where the store has no such value, and a reader has to ask :meth:`versions`.
        """

    def on_commit(self, listener: CommitListener, *, first: bool = False) -> None:
        """Have ``listener(task, events)`` called after every change that this process makes.

        :param first: before the other listeners: for caches, which must know before a waiting reader is woken.
        """
        self._listeners.insert(0 if first else len(self._listeners), listener)

    def _committed(self, outcome: Transition) -> None:
        for listener in self._listeners:
            # The change is stored: a listener must not make it look refused.
            with Contained("a listener failed after the commit of task %s", outcome.task.request_id):
                listener(outcome.task, outcome.events)
