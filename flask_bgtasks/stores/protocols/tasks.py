"""The part of the store protocol about one task: its creation, its changes, its result, its erasure."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from ...core.model import Result, Task
from ...core.transitions.attempt import Claim
from ...core.transitions.transition import Change, Durability, Transition
from ..types import Created, Limits, NewDeliveries, NewDelivery
from .part import StorePart


class Tasks(StorePart):
    """One authority on each task: accepts a change or refuses it."""

    @abstractmethod
    def create(
        self,
        task: Task,
        *,
        input: Mapping[str, Any],
        deliveries: NewDeliveries = (),
        limits: Limits | None = None,
        claim: Claim | None = None,
        most_running: Mapping[str, int] = {},
        durability: Durability = Durability.DISK,
    ) -> Created:
        """Store a new task, its first event and its deliveries; with ``claim``, begin its first attempt as well.

        Both are one transaction: nobody finds the task waiting that its creator is about to run.

        :param task: in status ``started``, ``seq`` 0; the store sets its ``app``, ``created_at`` and ``updated_at``.
        :param input: its input, JSON. The value under :data:`~flask_bgtasks.stores.base.PRIVATE` is erased when
            the task ends.
        :param limits: refuse the task if this many are waiting already; None for no limit.
        :param claim: by whom the task is begun at once; None where it waits for somebody.
        :param most_running: as in :meth:`~flask_bgtasks.stores.protocols.attempts.Attempts.claim`: where as many run
            already, the task is stored and waits.
        :param durability: what the task survives once this returns: by default a power cut.
        :returns: the stored task, or an existing one with the same ``idempotency_scope`` and ``fingerprint``, which is
            not claimed. The input of the attempt is ``input`` itself.
        :raises IdempotencyConflict: the scope is taken by a task with another fingerprint.
        :raises QueueFull: as many tasks are waiting as the limit allows.
        :raises OwnerQueueFull: the owner has as many tasks waiting as the limit allows.
        :raises AnonymousQueueFull: as many tasks without an owner are waiting as their share allows.
        """

    @abstractmethod
    def get(self, request_id: str) -> Task:
        """:raises TaskNotFound: no such task of this app."""

    @abstractmethod
    def transition(
        self,
        request_id: str,
        change: Change,
        *,
        deliveries: NewDeliveries = (),
        limits: Limits | None = None,
        known: Task | None = None,
    ) -> Transition:
        """Apply a change; store the task, its new events, its result and its deliveries in one transaction.

        ``deliveries`` are recorded only when the change has an event for sinks (:attr:`Transition.sink_event`). Once
        it returns, the change survives what its :attr:`Change.durability` says.

        :param limits: for a task that is opened again: refuse it if too many tasks are waiting, as :meth:`create` does,
            and put it behind the waiting tasks of its owner (:func:`~flask_bgtasks.stores.base.in_turn`); None for no
            limit.
        :param known: the task as it was last stored, as far as the caller knows: where it is still so, a store need not
            read it. What is decided is the same.
        :raises LimitReached: as many tasks are waiting as a limit allows.
        :raises TaskNotFound: no such task.
        :raises TransitionRefused: the task's status does not allow the change.
        :raises LeaseLost: the attempt does not hold the task.
        """

    @abstractmethod
    def load_result(self, request_id: str) -> Result | None:
        """The task's result; None while there is none. :raises TaskNotFound: no such task."""

    @abstractmethod
    def delete(self, request_id: str, *, deliveries: Sequence[NewDelivery] = ()) -> None:
        """Erase the task with its input, result, history and deliveries, and record ``deliveries`` of the erasure.

        :raises TaskNotFound: no such task. :raises TransitionRefused: it is not in a terminal state.
        """

    @abstractmethod
    def purge(self, *, limit: int = 100) -> int:
        """Erase at most ``limit`` tasks whose expiry is as long ago as they were kept before it; return how many.

        Covers all apps: each task has its own expiry, and the tasks of a removed app must be erased too.
        """
