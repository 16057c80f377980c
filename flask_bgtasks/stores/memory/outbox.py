"""The outbox in the memory of one process: part of the memory store, under its lock."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ..base import new_token
from ..protocols.outbox import MAX_LEASES_SEEN, Outbox
from ..types import Delivery, NewDelivery, Settlement


class MemoryOutbox(Outbox):
    """The deliveries. The lock is the store's."""

    _lock: threading.RLock

    def __init__(self) -> None:
        super().__init__()
        self._deliveries: dict[int, tuple[Delivery, _Lease | None]] = {}  # with the worker's lease on it
        self._delivery_ids = itertools.count(1)

    def add_delivery(self, delivery: NewDelivery, *, request_id: str | None = None) -> None:
        with self._lock:
            self._add_delivery(delivery, request_id, 0)

    def _add_delivery(self, new: NewDelivery, request_id: str | None, seq: int) -> None:
        now, key = self.now(), next(self._delivery_ids)
        payload = json.loads(json.dumps(new.payload))
        made = Delivery(
            id=key,
            sink=new.sink,
            kind=new.kind,
            request_id=request_id,
            seq=seq,
            payload=payload,
            tries=0,
            created_at=now,
            due_at=now + new.delay,
            channel=new.channel,
        )
        self._deliveries[key] = (made, None)

    def due_deliveries(self, sink: str, *, worker: str, lease: timedelta, limit: int = 100) -> list[Delivery]:
        with self._lock:
            now = self.now()
            begun: set[tuple[str, str]] = set()  # whose oldest delivery was met: the later ones wait for it
            found: list[Delivery] = []
            for delivery, leased in self._deliveries.values():
                if delivery.sink != sink or delivery.dead:
                    continue
                if delivery.request_id is not None:
                    place = (delivery.request_id, delivery.channel)
                    if place in begun:
                        continue
                    begun.add(place)
                if delivery.due_at <= now and leased is None:
                    found.append(delivery)
            taken = sorted(found, key=lambda delivery: (delivery.due_at, delivery.id))[:limit]
            given = _Lease(worker, now + lease, new_token())
            for delivery in taken:
                self._deliveries[delivery.id] = (delivery, given)
        return [replace(delivery, lease=given.token) for delivery in taken]

    def renew_deliveries(self, deliveries: Sequence[Delivery], *, lease: timedelta) -> dict[int, Delivery]:
        with self._lock:
            until, renewed = self.now() + lease, {}
            for delivery in deliveries:
                leased = self._lease_of(delivery)
                if leased is not None:
                    self._deliveries[delivery.id] = (self._deliveries[delivery.id][0], replace(leased, until=until))
                    renewed[delivery.id] = delivery
            return renewed

    def delivery_leases(self, sink: str) -> dict[int, Hashable]:
        with self._lock:
            leased = [
                (lease.until, delivery.id, lease)
                for delivery, lease in self._deliveries.values()
                if lease is not None and delivery.sink == sink
            ]
            leased.sort(key=lambda one: one[:2])
            return {key: lease for _, key, lease in leased[:MAX_LEASES_SEEN]}

    def end_delivery_leases(self, sink: str, leases: Mapping[int, Hashable]) -> int:
        with self._lock:
            ended = [key for key, lease in leases.items() if self._deliveries.get(key, (None, None))[1] == lease]
            for key in ended:
                self._deliveries[key] = (self._deliveries[key][0], None)
            return len(ended)

    def _lease_of(self, delivery: Delivery) -> _Lease | None:
        """The lease on a delivery, if it is the one under which it was given out."""
        leased = self._deliveries.get(delivery.id, (None, None))[1]
        return leased if leased is not None and leased.token == delivery.lease else None

    def settle_delivery(self, delivery: Delivery, settlement: Settlement) -> None:
        with self._lock:
            if self._lease_of(delivery) is None:
                return
            kept, _ = self._deliveries[delivery.id]
            if settlement.due_at is None and not settlement.dead:
                del self._deliveries[delivery.id]
                for new in settlement.replaced_by:
                    self._add_delivery(new, delivery.request_id, delivery.seq)
                return
            tries = kept.tries + (settlement.error is not None)
            due_at, error = settlement.due_at or kept.due_at, settlement.error or kept.error
            tried = replace(kept, tries=tries, due_at=due_at, dead=settlement.dead, error=error)
            self._deliveries[delivery.id] = (tried, None)

    def dead_deliveries(self, *, sink: str | None = None, limit: int = 100) -> list[Delivery]:
        with self._lock:
            dead = [delivery for delivery, _ in reversed(self._deliveries.values()) if delivery.dead]
        return [delivery for delivery in dead if sink in (None, delivery.sink)][:limit]

    def replay_deliveries(self, ids: Collection[int]) -> int:
        with self._lock:
            now = self.now()
            found = [self._deliveries[key][0] for key in ids if key in self._deliveries]
            dead = [delivery for delivery in found if delivery.dead]
            for delivery in dead:
                self._deliveries[delivery.id] = (replace(delivery, dead=False, tries=0, due_at=now, error=None), None)
            return len(dead)


@dataclass(frozen=True, slots=True)
class _Lease:
    """A worker's lease on a delivery."""

    worker: str
    until: datetime
    token: int
