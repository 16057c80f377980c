"""The part of the store protocol about deliveries: recorded with changes, leased to workers, settled."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Hashable, Mapping, Sequence
from datetime import timedelta

from ..types import Delivery, NewDelivery, Settlement
from .part import StorePart

MAX_LEASES_SEEN = 1000
"""How many leases on one sink's deliveries are read at once. One process takes 128 deliveries at once."""


class Outbox(StorePart):
    """The pending deliveries to sinks, and the dead letters."""

    @abstractmethod
    def add_delivery(self, delivery: NewDelivery, *, request_id: str | None = None) -> None:
        """Record a delivery that belongs to no change of a task (``send_push``)."""

    @abstractmethod
    def due_deliveries(self, sink: str, *, worker: str, lease: timedelta, limit: int = 100) -> list[Delivery]:
        """Take the due deliveries of this sink: only the oldest of each task and channel, to keep their order.

        The returned deliveries are leased to this worker: no other worker gets them before they are settled, or the
        lease is ended (:meth:`end_delivery_leases`, ``expire_leases``). The store ends no lease by itself: clocks
        differ.

        :param lease: how long the worker intends to hold them without :meth:`renew_deliveries`.
        """

    @abstractmethod
    def renew_deliveries(self, deliveries: Sequence[Delivery], *, lease: timedelta) -> dict[int, Delivery]:
        """Prolong the leases on deliveries by ``lease`` from now.

        :returns: the deliveries that are still held, by id, with their renewed leases; the missing ones were lost.
        """

    @abstractmethod
    def delivery_leases(self, sink: str) -> dict[int, Hashable]:
        """The leases on deliveries of this sink, by the delivery's id. Each value changes when the lease is renewed.

        At most :data:`MAX_LEASES_SEEN`: those that end first.
        """

    @abstractmethod
    def end_delivery_leases(self, sink: str, leases: Mapping[int, Hashable]) -> int:
        """End those of these leases from :meth:`delivery_leases` that are unchanged; return how many.

        The holder then no longer has the lease, and the outcome of its try does not count.
        """

    @abstractmethod
    def settle_delivery(self, delivery: Delivery, settlement: Settlement) -> None:
        """Record the outcome of a try. Done deliveries are erased; dead ones are kept for inspection and replay.

        Recorded only for the holder of the lease, whatever the outcome: otherwise a worker that has lost its lease
        would take the delivery away from the worker that tries it now.

        Deliveries that replace a done one are recorded in the same transaction.
        """

    @abstractmethod
    def dead_deliveries(self, *, sink: str | None = None, limit: int = 100) -> list[Delivery]:
        """Dead letters, newest first, of one sink or of all."""

    @abstractmethod
    def replay_deliveries(self, ids: Collection[int]) -> int:
        """Make dead letters pending again: due now, as if never tried; return how many there were."""
