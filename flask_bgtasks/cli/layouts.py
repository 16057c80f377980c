"""What operators are told of the layout of the store's tables: a word, and a line that says what to do. Pure."""

from __future__ import annotations

from ..stores.tables import Layout

NO_TABLES, OLDER, CURRENT, INCOMPLETE, NEWER, TOO_NEW = "empty", "older", "current", "incomplete", "newer", "too new"


def state_of(layout: Layout) -> str:
    """The word for how a layout stands to the one of this version."""
    if layout.found is None:
        return NO_TABLES
    if layout.older:
        return OLDER
    if layout.newer:
        return NEWER if layout.leaves_room else TOO_NEW
    return INCOMPLETE if layout.missing else CURRENT


def described(layout: Layout) -> str:
    """A line for an operator: how it is, and what to do."""
    lacks = ", ".join(layout.missing)
    return {
        NO_TABLES: "the database has no tables yet: run `flask bgtasks db upgrade`",
        OLDER: f"the tables are of layout {layout.found}, this version needs layout {layout.known}: "
        "run `flask bgtasks db upgrade`",
        CURRENT: f"the tables are of layout {layout.found}, as this version needs them",
        INCOMPLETE: f"the tables say layout {layout.found}, but lack {lacks}: run `flask bgtasks db upgrade`, which "
        "makes tables and indexes; columns have to come from a backup",
        NEWER: f"the tables are of layout {layout.found}, made by a newer version; this one (layout {layout.known}) "
        "may use them",
        TOO_NEW: f"the tables are of layout {layout.found}, made by a newer version, and this one (layout "
        f"{layout.known}) cannot use them: install that version, or restore the backup of before its upgrade",
    }[state_of(layout)]
