"""The store protocol as one class, and the rules that its adapters share.

A store is the one authority on tasks: it accepts a change or refuses it, atomically. It reads a task, lets
:mod:`flask_bgtasks.core.transitions` decide the outcome of a change, and writes that, all in one transaction. An
adapter adds only its own way of reading and writing.
"""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ..core.model import Task
from ..core.transitions.outside import Reopen
from ..core.transitions.transition import Change
from .protocols.apps import Apps
from .protocols.attempts import Attempts
from .protocols.change_feed import ChangeFeed
from .protocols.contacts import Contacts
from .protocols.durations import StepDurations
from .protocols.leases import Leases
from .protocols.marks import Marks
from .protocols.outbox import Outbox
from .protocols.queries import Queries
from .tables import Tables

PRIVATE = "private"
"""The key of the part of a task's input that is kept apart, and erased when the task ends: it identifies somebody."""

DEATH_KEPT = timedelta(days=7)
"""How long a store remembers that several tasks ran in a process that died: until all of them are claimed again."""


class Store(Attempts, Leases, Queries, ChangeFeed, Outbox, Contacts, Marks, StepDurations, Apps):
    """One authority on tasks. Every method is atomic and may be called from any thread.

    Its parts are in :mod:`flask_bgtasks.stores.protocols`, one per file: ``attempts`` (and in it ``tasks``),
    ``leases``, ``queries``, ``change_feed``, ``outbox``, ``contacts``, ``marks``, ``durations``, ``apps``.

    A store is opened for one app. Several apps may keep their tasks in one database; each sees, counts, runs, delivers
    and notifies only its own tasks; another app's task does not exist for it. Only :meth:`purge` and
    :meth:`prune_devices` erase expired data of all apps.
    """

    def apps(self) -> dict[str, int]:
        return {self.app_id: sum(self.stats().by_status.values())}

    def adopt(self, app_id: str) -> int:
        """A store of a single app has nothing to adopt."""
        return 0

    @property
    def tables(self) -> Tables | None:
        """What upgrades the tables of the store; None if it has none that a release could change."""
        return None

    def sync(self) -> None:
        """Bring to disk what was stored without waiting for it. Costs next to nothing where there is nothing.

        :raises StoreUnavailable: it cannot be brought there.
        """

    @abstractmethod
    def check(self) -> None:
        """Open the store and read from it. :raises ConfigurationError: says what is wrong and how to fix it."""

    @abstractmethod
    def close(self) -> None:
        """Close connections; the next call opens them again."""


def in_turn(change: Change, before: Task, now: datetime, count: Callable[[], int]) -> Change:
    """A change that has its task wait as a new one would: behind the waiting tasks of the same owner, if there is room.

    :param count: how many of the owner's tasks wait. :raises LimitReached: by ``count``, where as many wait as may.
    :raises TransitionRefused: the task cannot be opened again, whatever waits.
    """
    if not isinstance(change, Reopen):
        return change
    change.apply(before, now)
    return replace(change, turn=count())


def parted(input: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any]:
    """An input without its private part, and that part; None where there is none."""
    private = input.get(PRIVATE)
    if not private:
        return input, None
    return {key: value for key, value in input.items() if key != PRIVATE}, private


def joined(input: Mapping[str, Any], private: Any) -> Mapping[str, Any]:
    """The opposite of :func:`parted`."""
    return input if private is None else {**input, PRIVATE: private}


def new_token() -> int:
    """The token of a new lease: random, so that no lease is taken for another one, not even of a reused id."""
    return secrets.randbits(62)


def lost_holder(task: Task, now: datetime) -> str | None:
    """The process that held a task until its lease ran out; None if none did, or one still does."""
    return task.worker if task.held and not task.leased(now) else None


def death_of(worker: str) -> str:
    """The key of the mark that a process died while several tasks ran in it.

    The first of these tasks to be claimed again finds the others; the last finds only the mark.
    """
    return f"died:{worker}"
