"""The outbox on Firestore: deliveries recorded with the changes, taken under a lease, settled."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ...errors import StoreUnavailable
from ...firebase.firestore.client import ONCE, bulk_batch, field, refused
from ..protocols.outbox import MAX_LEASES_SEEN
from ..types import Delivery, NewDelivery, Settlement
from . import rows
from .database import DELIVERIES, MAX_WRITES, FirestorePart

SCANNED, MIN_SCANNED = 1000, 40
"""Deliveries that are looked at for those that may be made, and how many at once: many may be due and have to wait for
an older one of the same task that is not, after an outage of a sink say."""

CHANGED = (5, 9)
"""How a write is refused whose document is gone, or was written meanwhile: NOT_FOUND and FAILED_PRECONDITION
(google.rpc.Code)."""

NOT_LEASED = {"worker": None, "leased_until": None}

TASKS_PER_QUERY = 30  # values that an `in` takes (firebase.google.com/docs/firestore/query-data/queries)


class FirestoreOutbox(FirestorePart):
    """The deliveries of the store."""

    def add_delivery(self, delivery: NewDelivery, *, request_id: str | None = None) -> None:
        with self._calls():
            batch = self._firestore.client.batch()
            self._add_delivery(batch, delivery, request_id, 0)
            batch.commit(**ONCE)

    def due_deliveries(self, sink: str, *, worker: str, lease: timedelta, limit: int = 100) -> list[Delivery]:
        due = (
            self._own(DELIVERIES)
            .where(filter=field("sink", "==", sink))
            .where(filter=field("dead", "==", False))
            .order_by("due_at")
            .order_by("id")
        )
        with self._calls():
            now = self.now()
            due, free = due.where(filter=field("due_at", "<=", now)), list[tuple[Any, Delivery]]()
            for page in _pages(due, max(MIN_SCANNED, 2 * limit)):
                found = [one for one in page if _is_free(one.to_dict(), now)]
                oldest = self._oldest(sink, {one.get("request_id") for one in found} - {None})
                made = [(one, rows.delivery(one.to_dict())) for one in found]
                free += [pair for pair in made if _is_first(pair[1], oldest)]
                if len(free) >= limit:
                    break
            del free[limit:]
            if not free:
                return []
            batch = bulk_batch(self._firestore.client)
            leased = {"worker": worker, "leased_until": now + lease}
            for snapshot, _ in free:
                option = self._firestore.client.write_option(last_update_time=snapshot.update_time)
                batch.update(snapshot.reference, leased, option=option)
            answer = batch.commit(**ONCE)
        # Refused: another process was quicker.
        written = zip(free, answer.status, answer.write_results, strict=True)
        return [replace(made, lease=result.update_time) for (_, made), status, result in written if status.code == 0]

    def _oldest(self, sink: str, request_ids: Collection[str]) -> dict[tuple[str, str], int]:
        """The first delivery of each of these tasks' channels: what comes after it waits, due or not."""
        ids, oldest = sorted(request_ids), dict[tuple[str, str], int]()
        for begin in range(0, len(ids), TASKS_PER_QUERY):
            pending = (
                self._collection(DELIVERIES)
                .where(filter=field("request_id", "in", ids[begin : begin + TASKS_PER_QUERY]))
                .where(filter=field("sink", "==", sink))
                .where(filter=field("dead", "==", False))
            )
            for snapshot in pending.stream(**ONCE):
                found = snapshot.to_dict()
                channel = (found["request_id"], found.get("channel", ""))
                oldest[channel] = min(found["id"], oldest.get(channel, found["id"]))
        return oldest

    def renew_deliveries(self, deliveries: Sequence[Delivery], *, lease: timedelta) -> dict[int, Delivery]:
        with self._calls():
            until = {"leased_until": self.now() + lease}
            written = self._write_unchanged({delivery.id: delivery.lease for delivery in deliveries}, until)
        return {one.id: replace(one, lease=written[one.id]) for one in deliveries if one.id in written}

    def delivery_leases(self, sink: str) -> dict[int, Hashable]:
        with self._calls():
            leased = self._own(DELIVERIES).where(filter=field("worker", ">", "")).select(["id", "sink", "leased_until"])
            found = [(one.to_dict(), one.update_time) for one in leased.stream(**ONCE)]
        mine = [(one["leased_until"], one["id"], at) for one, at in found if one["sink"] == sink]
        mine.sort(key=lambda one: one[:2])
        return {number: at for _, number, at in mine[:MAX_LEASES_SEEN]}

    def end_delivery_leases(self, sink: str, leases: Mapping[int, Hashable]) -> int:
        with self._calls():
            return len(self._write_unchanged(leases, NOT_LEASED))

    def _write_unchanged(self, seen: Mapping[int, Any], values: Mapping[str, Any]) -> dict[int, Any]:
        """Write deliveries that nobody has written since these times; when those were written, by id.

        What was written since it was leased was written by someone else: the time is the token of the lease.
        """
        at, collection = dict[int, Any](), self._collection(DELIVERIES)
        for begin in range(0, len(seen), MAX_WRITES):
            batch, some = bulk_batch(self._firestore.client), list(seen.items())[begin : begin + MAX_WRITES]
            for number, since in some:
                option = self._firestore.client.write_option(last_update_time=since)
                batch.update(collection.document(str(number)), dict(values), option=option)
            answer = batch.commit(**ONCE)
            for (number, _), status, result in zip(some, answer.status, answer.write_results, strict=True):
                if status.code == 0:
                    at[number] = result.update_time
                elif status.code not in CHANGED:
                    raise StoreUnavailable(f"the task store cannot be used right now: {status.message}")
        return at

    def settle_delivery(self, delivery: Delivery, settlement: Settlement) -> None:
        if delivery.lease is None:
            return
        reference = self._collection(DELIVERIES).document(str(delivery.id))
        with self._calls():
            if settlement.due_at is None and not settlement.dead:
                self._replace(reference, delivery, settlement.replaced_by)
                return
            values = {
                "tries": delivery.tries + (settlement.error is not None),
                "due_at": settlement.due_at or delivery.due_at,
                "dead": settlement.dead,
                "error": settlement.error or delivery.error,
                **NOT_LEASED,
            }
            self._write_unchanged({delivery.id: delivery.lease}, values)

    def _replace(self, reference: Any, delivery: Delivery, replacements: Sequence[NewDelivery]) -> None:
        """Erase a delivery, and record the deliveries in its place; nothing, if it is gone, or somebody else's."""
        since = delivery.lease
        for begin in range(
            0, max(1, len(replacements)), MAX_WRITES
        ):  # more than one commit for hundreds of devices only
            batch = self._firestore.client.batch()
            last = begin + MAX_WRITES >= len(replacements)
            held = self._firestore.client.write_option(last_update_time=since)
            if last:
                batch.delete(reference, option=held)
            else:
                batch.update(reference, {"error": None}, option=held)
            for new in replacements[begin : begin + MAX_WRITES]:
                self._add_delivery(batch, new, delivery.request_id, delivery.seq)
            try:
                since = batch.commit(**ONCE)[0].update_time
            except Exception as error:
                if type(error).__name__ != "NotFound" and not refused(error):
                    raise
                return

    def dead_deliveries(self, *, sink: str | None = None, limit: int = 100) -> list[Delivery]:
        dead = self._own(DELIVERIES).where(filter=field("dead", "==", True))
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
                found = (snapshot.to_dict() or {}) if snapshot.exists else {}
                if found.get("dead") and found.get("app", "") == self.app_id:
                    snapshot.reference.update(fresh, **ONCE)
                    replayed += 1
        return replayed


def _pages(query: Any, size: int) -> Iterator[list[Any]]:
    """A query's documents, so many at once, :data:`SCANNED` in all."""
    page = list(query.limit(size).stream(**ONCE))
    scanned = len(page)
    yield page
    while len(page) == size and scanned < SCANNED:
        page = list(query.start_after(page[-1]).limit(size).stream(**ONCE))
        scanned += len(page)
        yield page


def _is_first(delivery: Delivery, oldest: Mapping[tuple[str, str], int]) -> bool:
    """Whether nothing of the same task and channel has to come before."""
    return delivery.request_id is None or oldest.get((delivery.request_id, delivery.channel)) == delivery.id


def _is_free(found: dict[str, Any], now: datetime) -> bool:
    return found["due_at"] <= now and found["worker"] is None
