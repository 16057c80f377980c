"""The outbox on SQL: deliveries recorded with the changes, taken under a lease, settled."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from operator import attrgetter, itemgetter
from typing import cast

import sqlalchemy as sa

from ..base import new_token
from ..conversions import micros
from ..protocols.outbox import MAX_LEASES_SEEN
from ..types import Delivery, NewDelivery, Settlement
from . import rows
from .base import SqlPart
from .drivers.base import Connection
from .schema import deliveries
from .statements import in_order


class SqlOutbox(SqlPart):
    """The deliveries of the store."""

    def add_delivery(self, delivery: NewDelivery, *, request_id: str | None = None) -> None:
        def operation(connection: Connection) -> None:
            self._insert_deliveries(connection, [delivery], request_id=request_id, seq=0, now=connection.now())

        self._database.write(operation, durable=True)

    def due_deliveries(self, sink: str, *, worker: str, lease: timedelta, limit: int = 100) -> list[Delivery]:
        def look(connection: Connection) -> bool:
            query = {"app": self.app_id, "sink": sink, "now": micros(connection.now()), "limit": 1}
            return connection.execute(self._sql.select_due, query).fetchone() is not None

        def take(connection: Connection) -> list[Delivery]:
            now = connection.now()
            query = {"app": self.app_id, "sink": sink, "now": micros(now), "limit": limit}
            found = connection.execute(self._sql.select_due, query).fetchall()
            token, until = new_token(), micros(now + lease)
            if found:
                leased = {"by": worker, "until": until, "token": token}
                connection.write_many(self._sql.lease_delivery, [{"key": row[0], **leased} for row in found])
            return [replace(rows.delivery(row), lease=token) for row in found]

        # A look costs no write: most looks find nothing. A lease that a power cut takes back is only taken again.
        if not self._database.read(look):
            return []
        return self._database.write(take, durable=False)

    def renew_deliveries(self, deliveries: Sequence[Delivery], *, lease: timedelta) -> dict[int, Delivery]:
        def operation(connection: Connection) -> dict[int, Delivery]:
            until, renewed = micros(connection.now() + lease), {}
            for delivery in sorted(deliveries, key=attrgetter("id")):
                values = {"key": delivery.id, "token": delivery.lease, "until": until}
                if connection.write_counted(self._sql.renew_delivery, values):
                    renewed[delivery.id] = delivery
            return renewed

        return self._database.write(operation, durable=False)

    def delivery_leases(self, sink: str) -> dict[int, Hashable]:
        def operation(connection: Connection) -> dict[int, Hashable]:
            query = {"app": self.app_id, "sink": sink, "limit": MAX_LEASES_SEEN}
            found = connection.execute(self._sql.select_delivery_leases, query).fetchall()
            return {row[0]: (row[1], row[2]) for row in found}

        return self._database.read(operation)

    def end_delivery_leases(self, sink: str, leases: Mapping[int, Hashable]) -> int:
        def operation(connection: Connection) -> int:
            ended = 0
            for key, seen in sorted(leases.items(), key=itemgetter(0)):
                token, until = cast("tuple[int | None, int]", seen)  # as delivery_leases gave it
                ended += connection.write_counted(
                    self._sql.end_delivery_lease, {"key": key, "token": token, "until": until}
                )
            return ended

        return self._database.write(operation, durable=False)

    def settle_delivery(self, delivery: Delivery, settlement: Settlement) -> None:
        held = {"key": delivery.id, "token": delivery.lease}

        def operation(connection: Connection) -> None:
            if settlement.due_at is None and not settlement.dead:
                if not settlement.replaced_by:
                    connection.write(self._sql.delete_delivery, held)
                elif connection.write_counted(self._sql.delete_delivery, held):
                    self._insert_deliveries(
                        connection,
                        settlement.replaced_by,
                        request_id=delivery.request_id,
                        seq=delivery.seq,
                        now=connection.now(),
                    )
                return
            due_at = settlement.due_at or delivery.due_at
            values = {
                **held,
                "due": micros(due_at),
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
            now = micros(connection.now())
            own = (deliveries.c.id.in_(list(ids)), deliveries.c.app == self.app_id)
            statement = deliveries.update().where(in_order(deliveries.c.id, *own, deliveries.c.dead == 1))
            fresh = {"dead": 0, "tries": 0, "due_at": now, "error": None}
            return connection.write_counted(*self._sql.cold(statement.values(fresh)))

        return self._database.write(operation, durable=True)
