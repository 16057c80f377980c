"""The part of the store protocol for readers that follow tasks: histories, versions, and change listeners."""

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
        """The events numbered above ``after``, oldest first. Some may be missing at the start: old rows are trimmed.

        :raises TaskNotFound: no such task.
        """

    @abstractmethod
    def versions(self, request_ids: Collection[str]) -> dict[str, int]:
        """The newest ``seq`` of each of these tasks, in one query; missing tasks are left out."""

    @abstractmethod
    def change_token(self) -> Hashable | None:
        """A value that changes whenever anything in the store may have changed.

        Costs microseconds. None if the store has no such value; readers then ask :meth:`versions`.
        """

    def on_commit(self, listener: CommitListener, *, first: bool = False) -> None:
        """Call ``listener(task, events)`` after every change that this process makes.

        :param first: call it before the other listeners: for caches, which must know before waiting readers wake.
        """
        self._listeners.insert(0 if first else len(self._listeners), listener)

    def _committed(self, outcome: Transition) -> None:
        for listener in self._listeners:
            # The change is stored: a listener must not make it look refused.
            with Contained("a listener failed after the commit of task %s", outcome.task.request_id):
                listener(outcome.task, outcome.events)
