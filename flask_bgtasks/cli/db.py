"""``flask bgtasks db …``: the layout of the store's tables, for whoever deploys: looked at, checked, upgraded.

Knows the store by its protocol. Only ``upgrade`` changes anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ..app.state import AppState
from ..core.text.redaction import redact
from ..errors import BackgroundTasksError
from ..stores.tables import Layout, Tables
from .layouts import INCOMPLETE, described, state_of


def make_db(state: AppState) -> click.Group:
    """The group of commands."""

    @click.group("db", help="Look at, check and upgrade the tables of the store.")
    def group() -> None:
        pass

    @group.command()
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    def current(as_json: bool) -> None:
        """Show the layout that the database has, beside the one of this version."""
        tables = state.store.tables
        if tables is None:
            click.echo(json.dumps({"state": "no tables"}) if as_json else _without_tables(state))
            return
        with _said():
            layout = tables.layout()
        if as_json:
            numbers = {"database": layout.found, "version": layout.known, "oldest": layout.oldest}
            click.echo(json.dumps({"state": state_of(layout), **numbers, "missing": layout.missing}))
            return
        click.echo(f"database:      {'no tables' if layout.found is None else f'layout {layout.found}'}")
        click.echo(f"this version:  layout {layout.known}")
        click.echo(described(layout))

    @group.command()
    @click.pass_context
    def check(context: click.Context) -> None:
        """Exit with 0 if this version can serve on the database as it is, else with 1. Changes nothing."""
        tables = state.store.tables
        if tables is None:
            click.echo(_without_tables(state))
            return
        with _said():
            layout = tables.layout()
        click.echo(described(layout), err=not layout.usable)
        context.exit(0 if layout.usable else 1)

    @group.command()
    @click.option("--sql", is_flag=True, help="Print the statements, to be executed by hand; change nothing.")
    def upgrade(sql: bool) -> None:
        """Make the tables, or bring them up to date, in one transaction."""
        tables = state.store.tables
        if tables is None:
            click.echo(_without_tables(state), err=sql)
            return
        with _said():
            if sql:
                _print(tables)
                return
            before = tables.upgrade()
            after = tables.layout()
        if not after.usable:
            raise click.ClickException(described(after))
        click.echo(_done(before))

    return group


def _done(before: Layout) -> str:
    if before.found is None:
        return f"made the tables: layout {before.known}"
    if before.older:
        return f"upgraded the tables from layout {before.found} to layout {before.known}"
    if state_of(before) == INCOMPLETE:
        return f"made what was missing: {', '.join(before.missing)}"
    return f"nothing to do: {described(before)}"


def _print(tables: Tables) -> None:
    statements = tables.statements()
    for statement in statements:
        click.echo(f"{statement};")
    if not statements:
        click.echo("nothing to do: the tables are as this version needs them", err=True)


def _without_tables(state: AppState) -> str:
    return f"the store {redact(state.settings.store)} has no tables to upgrade: nothing to do"


@contextmanager
def _said() -> Iterator[None]:
    """Around what asks the database: what is wrong with it is said in a line, with exit code 1."""
    try:
        yield
    except BackgroundTasksError as error:
        raise click.ClickException(redact(str(error))) from None
