"""Finds waiting tasks for which no function is registered: it was renamed or removed.

That is not an error yet: another process may know the name, such as a worker with other modules, or a deploy may bring
it back. So these tasks are shown to operators after a minute, and fail after a week
(`BGTASKS_UNKNOWN_TASK_SECONDS`). They can be cancelled at once, since no attempt holds them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Sequence
from datetime import datetime, timedelta

from ..core.model import Task, TaskKind
from ..core.transitions.outside import Abandon
from ..core.transitions.transition import Change
from ..errors import TransitionRefused
from ..stores.protocols.leases import Leases

GRACE = timedelta(seconds=60)
"""Our choice: a process that knows the name looks for work every second, and a deploy takes less than a minute."""

MAX_LOOKED_AT = 1000
"""The front of the queue. What nobody takes comes to stand there, as all that is before it is taken."""


def stuck_tasks(store: Leases, names: Container[str], *, after: timedelta = GRACE) -> list[Task]:
    """Tasks that could have begun so long ago, of a name that is not among these; at most :data:`MAX_LOOKED_AT`.

    :param names: the names that this process knows. :raises StoreUnavailable: the store is unreachable.
    """
    found = [task for task in store.runnable(limit=MAX_LOOKED_AT) if task.name not in names]
    if not found:
        return []
    now = store.now()
    return [task for task in found if task.kind is not TaskKind.TRACKED and now - _free_since(task) >= after]


def counted_names(tasks: Sequence[Task]) -> str:
    """The names of tasks, each with how many there are: ``'draw' (3), 'write' (1)``."""
    return ", ".join(f"{name!r} ({count})" for name, count in sorted(Counter(task.name for task in tasks).items()))


def abandon(store: Leases, names: Container[str], *, after: timedelta, change: Callable[[Task, Change], object]) -> int:
    """Have those fail that are stuck for so long; how many were.

    :param change: makes a change of a task, with its deliveries. :raises StoreUnavailable: the store is unreachable.
    """
    ended = 0
    for task in stuck_tasks(store, names, after=after):
        try:
            change(task, Abandon(after))
        except TransitionRefused:  # somebody has it, or has ended it, meanwhile
            continue
        ended += 1
    return ended


def _free_since(task: Task) -> datetime:
    return task.updated_at if task.lease_until is None else max(task.updated_at, task.lease_until)
