"""The layout of a database's tables: which one it has, whether this version can use it, and what brings it up to date.

A database keeps the number of its layout, and that of the oldest layout whose processes may use it
(:data:`..schema.OLDEST`). An older one is upgraded by whoever opens it first, or only by ``flask bgtasks db upgrade``
(``BGTASKS_AUTO_UPGRADE``). A newer one is left alone: used where it leaves room for this version, else refused.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import Dialect

from ....errors import StoreUnusable
from ...tables import Layout
from .. import schema

log = logging.getLogger("flask_bgtasks")

READ = "SELECT key, value FROM bgtasks_meta WHERE key IN ('version', 'oldest')"
"""The rows that :func:`of_rows` takes."""

LOOK_SECONDS = 2.0
"""How often a process that serves looks whether the tables are still of a layout that it can use: a newer release may
upgrade them meanwhile. One statement of one operation, which costs PostgreSQL a round trip."""

TABLES: Mapping[str, frozenset[str]] = {
    table.name: frozenset(column.name for column in table.columns) for table in schema.metadata.sorted_tables
}
"""The columns of each table of this layout."""

INDEXES: Mapping[str, str] = {
    str(index.name): table.name for table in schema.metadata.sorted_tables for index in table.indexes
}
"""The table of each index of this layout."""


def of_rows(rows: Collection[Any], missing: tuple[str, ...] = ()) -> Layout:
    """The layout that the rows of :data:`READ` tell. Without an `oldest` no older process can use it."""
    found = {row[0]: int(row[1]) for row in rows}
    version = found.get("version")
    return Layout(version, schema.VERSION, found.get("oldest", version), missing)


def missing(columns: Mapping[str, Collection[str]], indexes: Collection[str]) -> tuple[str, ...]:
    """What a database lacks of this layout, that has these columns of these tables, and these indexes."""
    absent: list[str] = []
    for table, expected in TABLES.items():
        if table not in columns:
            absent.append(table)
            continue
        absent += sorted(f"{table}.{column}" for column in expected - set(columns[table]))
        absent += sorted(index for index, owner in INDEXES.items() if owner == table and index not in indexes)
    return tuple(absent)


def statements(found: int | None, dialect: Dialect) -> Iterator[str]:
    """What makes the tables that are not there, and brings those of an older layout up to date.

    :param found: the number of the layout that the database has; None if it has no tables.
    """
    for table in schema.metadata.sorted_tables:
        yield str(sa.schema.CreateTable(table, if_not_exists=True).compile(dialect=dialect)).strip()
    if found is None:
        yield f"INSERT INTO bgtasks_meta (key, value) VALUES ('version', '{schema.VERSION}')"
        yield from _room_for_older()
    elif found < schema.VERSION:
        for version in range(found + 1, schema.VERSION + 1):
            yield from schema.upgrade(version, dialect.name)
        yield f"UPDATE bgtasks_meta SET value = '{schema.VERSION}' WHERE key = 'version'"
        yield "DELETE FROM bgtasks_meta WHERE key = 'oldest'"
        yield from _room_for_older()
    for table in schema.metadata.sorted_tables:
        for index in table.indexes:
            yield str(sa.schema.CreateIndex(index, if_not_exists=True).compile(dialect=dialect))


def _room_for_older() -> Iterator[str]:
    if schema.OLDEST < schema.VERSION:
        yield f"INSERT INTO bgtasks_meta (key, value) VALUES ('oldest', '{schema.OLDEST}')"


def create(raw: Any, dialect: Dialect, found: Layout, *, upgrade: bool) -> None:
    """Make the tables that are not there, and bring older ones up to date, in the caller's transaction.

    :param found: the layout that the database has; read in the same transaction, under a lock that no other process
        that makes tables passes.
    :param upgrade: whether to; else a layout that this version cannot use is refused.
    :raises StoreUnusable: this version cannot use the tables as they are, and may not change them.
    """
    check(found)
    if found.newer:
        return
    if upgrade:
        for statement in statements(found.found, dialect):
            raw.execute(statement)
    elif found.older:
        raise StoreUnusable(_to_be_upgraded(found), "its tables have to be upgraded")


def log_upgrade(found: Layout) -> None:
    """Say in the log that the tables were upgraded, when that is committed. :param found: the layout before."""
    if found.found is not None and found.older:
        log.warning("the tables of the task store were upgraded from layout %d to %d", found.found, found.known)


def check(found: Layout) -> None:
    """See that the tables are none that a newer version made, and that leave no room for this one.

    :raises StoreUnusable: they are.
    """
    if found.newer and not found.leaves_room:
        raise StoreUnusable(
            f"BGTASKS_STORE: these tables were made by a newer flask-bgtasks (layout {found.found}, "
            f"this one knows {found.known}). Upgrade this installation, or name another database",
            "its tables were made by a newer version of flask-bgtasks",
        )


def _to_be_upgraded(found: Layout) -> str:
    has = "has no tables" if found.found is None else f"is of layout {found.found}"
    return (
        f"BGTASKS_STORE: the database {has}, this flask-bgtasks needs layout {found.known}, and BGTASKS_AUTO_UPGRADE "
        "is off. Run `flask bgtasks db upgrade`; processes that wait for it go on by themselves"
    )


class LayoutWatch:
    """Looks now and then whether the tables of an open database are still ones that this version can use.

    Used without a lock: of two threads that find a look due both may look, and both find the same.
    """

    def __init__(self) -> None:
        self._due_at = 0.0  # by time.monotonic; 0 while the last look refused them, so that each operation looks
        self._said: int | None = None  # the newer layout that was logged

    @property
    def due(self) -> bool:
        """Whether an operation has to look before it goes on."""
        return time.monotonic() >= self._due_at

    def doubt(self) -> None:
        """Have the next operation look."""
        self._due_at = 0.0

    def see(self, found: Layout) -> bool:
        """Take note of the layout, and say in the log, once, if it is a newer one.

        :returns: False if it is an older one: of a copy that was restored, which is to be upgraded like any other.
        :raises StoreUnusable: this version cannot use it.
        """
        self._due_at = 0.0
        newer = found.found if found.newer else None
        if newer != self._said:
            self._said = newer
            if newer is not None:
                self._say(found)
        check(found)
        if found.older:
            return False
        self._due_at = time.monotonic() + LOOK_SECONDS
        return True

    def _say(self, found: Layout) -> None:
        if found.leaves_room:
            log.warning(
                "the tables of the task store are of layout %d now, made by a newer flask-bgtasks; this one (layout "
                "%d) may go on using them, and leaves alone what it does not know",
                found.found,
                found.known,
            )
        else:
            log.error(
                "the tables of the task store are of layout %d now, made by a newer flask-bgtasks; this one (layout "
                "%d) cannot use them: requests for tasks get 503, and what runs here goes on in a process of the newer "
                "version. Deploy that version everywhere",
                found.found,
                found.known,
            )
