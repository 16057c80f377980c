"""What is owed to the sinks, in the memory of one process: part of the memory store, under its lock."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from .base import Delivery, Owed, Settlement, Store


class MemoryOutbox(Store):
    """The deliveries. The lock is the store's."""

    _lock: threading.RLock

    def __init__(self) -> None:
        super().__init__()
        self._deliveries: dict[int, tuple[Delivery, _Lease | None]] = {}  # with the worker's lease on it
        self._delivery_ids = itertools.count(1)

    def owe(self, delivery: Owed, *, request_id: str | None = None) -> None:
        with self._lock:
            self._owe(delivery, request_id, 0)

    def _owe(self, owed: Owed, request_id: str | None, seq: int) -> None:
        now, key = self.now(), next(self._delivery_ids)
        payload = json.loads(json.dumps(owed.payload))
        made = Delivery(
            id=key,
            sink=owed.sink,
            kind=owed.kind,
            request_id=request_id,
            seq=seq,
            payload=payload,
            tries=0,
            created_at=now,
            due_at=now + owed.delay,
            channel=owed.channel,
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
                if delivery.due_at <= now and (leased is None or leased.until <= now):
                    found.append(delivery)
            taken = sorted(found, key=lambda delivery: (delivery.due_at, delivery.id))[:limit]
            given = _Lease(worker, now + lease)
            for delivery in taken:
                self._deliveries[delivery.id] = (delivery, given)
        return [replace(delivery, lease=given) for delivery in taken]

    def settle_delivery(self, delivery: Delivery, settlement: Settlement) -> None:
        with self._lock:
            if delivery.id not in self._deliveries:
                return
            kept, leased = self._deliveries[delivery.id]
            if settlement.due_at is None and not settlement.dead:
                del self._deliveries[delivery.id]
                for owed in settlement.owes:
                    self._owe(owed, delivery.request_id, delivery.seq)
                return
            if leased is None or leased != delivery.lease:
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
