"""The outbox on Firestore: what is owed to the sinks, taken under a lease, settled."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from ...firestore.client import ONCE, bulk_batch, field
from ..base import Delivery, Owed, Settlement
from . import rows
from .database import DELIVERIES, FirestorePart

SCANNED = 1000
"""Deliveries that are looked at for those that are due: each task's oldest, of which many may wait for a later try."""


class FirestoreOutbox(FirestorePart):
    """The deliveries of the store."""

    def owe(self, delivery: Owed, *, request_id: str | None = None) -> None:
        with self._calls():
            batch = self._firestore.client.batch()
            self._add_delivery(batch, delivery, request_id, 0)
            batch.commit(**ONCE)

    def due_deliveries(self, sink: str, *, worker: str, lease: timedelta, limit: int = 100) -> list[Delivery]:
        owed = (
            self._collection(DELIVERIES)
            .where(filter=field("sink", "==", sink))
            .where(filter=field("dead", "==", False))
            .order_by("id")
            .limit(SCANNED)
        )
        with self._calls():
            now, begun, free = self.now(), set(), []
            for snapshot in owed.stream(**ONCE):
                found = snapshot.to_dict()
                if found["request_id"] is not None:
                    if found["request_id"] in begun:
                        continue  # an older one of its task comes first
                    begun.add(found["request_id"])
                if _is_free(found, now):
                    free.append((snapshot, rows.delivery(found)))
                    if len(free) == limit:
                        break
            if not free:
                return []
            batch = bulk_batch(self._firestore.client)
            leased = {"worker": worker, "leased_until": now + lease}
            for snapshot, _ in free:
                option = self._firestore.client.write_option(last_update_time=snapshot.update_time)
                batch.update(snapshot.reference, leased, option=option)
            answer = batch.commit(**ONCE)
        # Refused: another process was quicker.
        return [made for (_, made), status in zip(free, answer.status, strict=True) if status.code == 0]

    def settle_delivery(self, delivery: Delivery, settlement: Settlement) -> None:
        reference = self._collection(DELIVERIES).document(str(delivery.id))
        with self._calls():
            if settlement.due_at is None and not settlement.dead:
                reference.delete(**ONCE)
                return
            values = {
                "tries": delivery.tries + 1,
                "due_at": settlement.due_at or delivery.due_at,
                "dead": settlement.dead,
                "error": settlement.error,
                "worker": None,
                "leased_until": None,
            }
            self._update_if_there(reference, values)

    def _update_if_there(self, reference: Any, values: dict[str, Any]) -> None:
        batch = bulk_batch(self._firestore.client)  # one that was erased meanwhile is refused, and not an error
        batch.update(reference, values)
        batch.commit(**ONCE)

    def dead_deliveries(self, *, sink: str | None = None, limit: int = 100) -> list[Delivery]:
        dead = self._collection(DELIVERIES).where(filter=field("dead", "==", True))
        if sink is not None:
            dead = dead.where(filter=field("sink", "==", sink))
        with self._calls():
            newest = dead.order_by("id", direction="DESCENDING").limit(limit)
            return [rows.delivery(snapshot.to_dict()) for snapshot in newest.stream(**ONCE)]

    def replay_deliveries(self, ids: Collection[int]) -> int:
        fresh = {
            "dead": False,
            "tries": 0,
            "due_at": self.now(),
            "error": None,
            "worker": None,
            "leased_until": None,
        }
        replayed = 0
        with self._calls():
            collection = self._collection(DELIVERIES)
            references = [collection.document(str(number)) for number in ids]
            for snapshot in self._firestore.client.get_all(references, **ONCE) if references else ():
                if snapshot.exists and snapshot.get("dead"):
                    snapshot.reference.update(fresh, **ONCE)
                    replayed += 1
        return replayed


def _is_free(found: dict[str, Any], now: datetime) -> bool:
    leased = found["leased_until"]
    return found["due_at"] <= now and (leased is None or leased <= now)
