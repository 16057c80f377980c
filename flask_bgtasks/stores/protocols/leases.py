"""The part of the store protocol for processes that look for work: runnable tasks, and the holders of leases.

A lease on a task is taken by ``claim`` and prolonged by ``renew`` (see :mod:`.attempts`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping

from ...core.model import Task
from .part import StorePart


class Leases(StorePart):
    """The tasks as workers see them."""

    @abstractmethod
    def runnable(
        self,
        *,
        limit: int,
        names: Collection[str] | None = None,
        queues: Collection[str] | None = None,
        most_running: Mapping[str, int] = {},
    ) -> list[Task]:
        """The tasks that may begin now, in the order in which they should.

        First the tasks that have begun already (their lease expired or was given back, or their pause is over), then
        waiting tasks, by their place in the queue.

        :param limit: the most tasks to return.
        :param names: only tasks of these names, None for any. A tracked task whose lease has expired is returned for
            any names: no process can run it, but one has to end it.
        :param queues: only tasks of these queues, None for any.
        :param most_running: how many tasks may run at once, by name; tasks of names at their limit are left out.
        """

    def next_due(self) -> float | None:
        """In how many seconds, by the store's time, the next lease that holds now runs out, or the next pause is over.

        None where nothing is held and nothing pauses, or where the store cannot tell: whoever looks for work looks
        again after a while whatever this says. In one query, of an index.
        """
        return None

    @abstractmethod
    def workers(self) -> list[str]:
        """The processes that hold a lease, on a task or on a delivery of this app."""

    @abstractmethod
    def expire_leases(self, worker: str) -> int:
        """End this app's leases of a process that is known to be dead; return how many tasks it held."""
