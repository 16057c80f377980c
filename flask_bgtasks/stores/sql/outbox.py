"""The outbox on SQL: what is owed to the sinks, recorded with the changes, taken under a lease, settled."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta

import sqlalchemy as sa

from ..base import Delivery, Owed, Settlement
from . import rows
from .database import Connection
from .part import SqlPart
from .schema import deliveries


class SqlOutbox(SqlPart):
    """The deliveries of the store."""

    def owe(self, delivery: Owed, *, request_id: str | None = None) -> None:
        def operation(connection: Connection) -> None:
            self._insert_deliveries(connection, [delivery], request_id=request_id, seq=0, now=connection.now())

        self._database.write(operation, durable=True)

    def due_deliveries(self, sink: str, *, worker: str, lease: timedelta, limit: int = 100) -> list[Delivery]:
        def look(connection: Connection) -> bool:
            query = {"app": self.app_id, "sink": sink, "now": rows.micros(connection.now()), "most": 1}
            return connection.execute(self._sql.select_due, query).fetchone() is not None

        def take(connection: Connection) -> list[Delivery]:
            now = connection.now()
            query = {"app": self.app_id, "sink": sink, "now": rows.micros(now), "most": limit}
            found = connection.execute(self._sql.select_due, query).fetchall()
            until = rows.micros(now + lease)
            if found:
                connection.write_many(
                    self._sql.lease_delivery, [{"key": row[0], "by": worker, "until": until} for row in found]
                )
            return [replace(rows.delivery(row), lease=(worker, until)) for row in found]

        # A look costs no write: most looks find nothing. A lease that a power cut takes back is only taken again.
        if not self._database.read(look):
            return []
        return self._database.write(take, durable=False)

    def settle_delivery(self, delivery: Delivery, settlement: Settlement) -> None:
        def operation(connection: Connection) -> None:
            if settlement.due_at is None and not settlement.dead:
                there = connection.write(self._sql.delete_delivery, {"key": delivery.id})
                if settlement.owes and there:
                    self._insert_deliveries(
                        connection,
                        settlement.owes,
                        request_id=delivery.request_id,
                        seq=delivery.seq,
                        now=connection.now(),
                    )
                return
            due_at = settlement.due_at or delivery.due_at
            by, until = delivery.lease or (None, None)
            values = {
                "key": delivery.id,
                "by": by,
                "until": until,
                "due": rows.micros(due_at),
                "is_dead": int(settlement.dead),
                "why": settlement.error,
                "tried": int(settlement.error is not None),
            }
            connection.write(self._sql.retry_delivery, values)

        # What a power cut takes back is delivered once more: at least once is what is promised.
        self._database.write(operation, durable=settlement.dead)

    def dead_deliveries(self, *, sink: str | None = None, limit: int = 100) -> list[Delivery]:
        columns = [deliveries.c[name] for name in rows.DELIVERY_FIELDS]
        dead = (deliveries.c.dead == sa.literal_column("1"), deliveries.c.app == self.app_id)
        statement = sa.select(*columns).where(*dead).order_by(deliveries.c.id.desc())
        if sink is not None:
            statement = statement.where(deliveries.c.sink == sink)

        def operation(connection: Connection) -> list[Delivery]:
            found = connection.execute(*self._sql.cold(statement.limit(limit))).fetchall()
            return [rows.delivery(row) for row in found]

        return self._database.read(operation)

    def replay_deliveries(self, ids: Collection[int]) -> int:
        def operation(connection: Connection) -> int:
            now = rows.micros(connection.now())
            own = (deliveries.c.id.in_(list(ids)), deliveries.c.app == self.app_id)
            statement = deliveries.update().where(*own, deliveries.c.dead == 1)
            fresh = {"dead": 0, "tries": 0, "due_at": now, "error": None, "worker": None, "leased_until": None}
            return connection.write(*self._sql.cold(statement.values(fresh)))

        return self._database.write(operation, durable=True)
