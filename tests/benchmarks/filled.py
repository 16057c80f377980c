"""Fills a store with copies of one of its tasks, by SQL: a hundred thousand take seconds.

For SQLite and PostgreSQL. A copy has a number, an id, an owner and a time of its own, and its original's history and
payloads.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import sqlalchemy as sa

from flask_bgtasks.core.model import Entry, Result, Task
from flask_bgtasks.core.transitions.attempt import Complete
from flask_bgtasks.stores.sql import SqlStore

LEASE = timedelta(seconds=30)
APART = 1_000_000  # microseconds between the creation of one copy and the next

_IDS = {
    "sqlite": "printf('%08x-{series}-4000-8000-000000000000', n)",
    "postgresql": "lpad(to_hex(n), 8, '0') || '-{series}-4000-8000-000000000000'",
}


def end(store: SqlStore, url: str, task: Task, *, count: int, owners: int, entries: Sequence[Entry] = ()) -> None:
    """Have the task created, claimed and completed, and copy it.

    :param entries: of its history, beside those of every task. :param owners: among whom the copies are spread.
    """
    request_id = store.create(task, input={"args": ["a text"], "kwargs": {}}).task.request_id
    attempt = store.claim(request_id, worker="bench", lease=LEASE)
    store.transition(request_id, Complete(attempt.task.attempt, Result(b'{"blocks": []}'), entries=tuple(entries)))
    copy(url, request_id, count=count, owners=owners, series="0000")


def copy(url: str, request_id: str, *, count: int, owners: int, series: str) -> None:
    """Add copies of a task as it is now, newest first.

    :param series: four hexadecimal digits of the copies' ids, the same in no other call.
    """
    engine = sa.create_engine(url)
    made_id = _IDS[engine.dialect.name].format(series=series)
    owner = f"'owner-' || (n - n / {owners} * {owners})" if owners else "copied.owner"
    with engine.begin() as db:
        number, above = db.execute(
            sa.text("SELECT number, (SELECT max(number) FROM bgtasks_tasks) FROM bgtasks_tasks WHERE request_id = :id"),
            {"id": request_id},
        ).one()
        made = (
            "WITH RECURSIVE counted(n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM counted "
            f"WHERE n < {count}), made AS (SELECT {above} + n AS number, {made_id} AS id, {owner} AS owner, "
            f"copied.created_at - n * {APART} AS at FROM counted, bgtasks_tasks copied WHERE copied.number = {number}) "
        )
        for table, key in (("bgtasks_tasks", "number"), ("bgtasks_events", "task"), ("bgtasks_payloads", "task")):
            names = [column["name"] for column in sa.inspect(db).get_columns(table)]
            taken = {key: "made.number"}
            if key == "number":
                taken |= {"request_id": "made.id", "owner": "made.owner", "created_at": "made.at"}
            chosen = ", ".join(taken.get(name, f"copied.{name}") for name in names)
            db.exec_driver_sql(
                f"{made} INSERT INTO {table} ({', '.join(names)}) "
                f"SELECT {chosen} FROM made, {table} copied WHERE copied.{key} = {number}"
            )
        if engine.dialect.name == "postgresql":
            db.exec_driver_sql(
                "SELECT setval(pg_get_serial_sequence('bgtasks_tasks', 'number'), "
                "(SELECT max(number) FROM bgtasks_tasks))"
            )
    engine.dispose()
