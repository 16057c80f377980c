"""``flask bgtasks …``: a look at the work from the shell. Runs no tasks."""

from __future__ import annotations

import click
from flask.cli import AppGroup

from . import documents
from .errors import TaskNotFound
from .model import Status, Task
from .state import AppState
from .stores.base import TaskQuery


def register(state: AppState) -> None:
    """Add the command group to the app, and what plugins bring for it."""
    group = AppGroup("bgtasks", help="The background tasks of this app.")

    @group.command("list")
    @click.option("--status", type=click.Choice([s.value for s in Status]), help="Only tasks in this state.")
    @click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="At most so many.")
    def list_tasks(status: str | None, limit: int) -> None:
        """List tasks, newest first."""
        statuses = None if status is None else [Status(status)]
        for task in state.store.find(TaskQuery(statuses=statuses, limit=limit)).tasks:
            click.echo(_line(task))

    @group.command()
    @click.argument("request_id")
    def show(request_id: str) -> None:
        """Show one task and its history."""
        try:
            task = state.access.any_task(request_id)
        except TaskNotFound as error:
            raise click.ClickException(str(error)) from None
        click.echo(_line(task))
        if task.error_message:
            click.echo(f"  error: {task.error_message}")
        for event in state.store.events(request_id):
            data = " ".join(f"{k}={v}" for k, v in event.data.items() if v is not None)
            click.echo(f"  {event.seq:>5}  {documents.rfc3339(event.at)}  {event.type.value:<16} {data}"[:200])

    @group.command()
    def stats() -> None:
        """Count tasks and deliveries."""
        figures = state.store.stats()
        for status in Status:
            click.echo(f"{status.value:<12} {figures.by_status.get(status.value, 0)}")
        click.echo(f"{'owed':<12} {figures.deliveries_owed}")
        click.echo(f"{'dead':<12} {figures.deliveries_dead}")

    state.plugins.hook.bgtasks_register_commands(group=group)
    state.app.cli.add_command(group)


def _line(task: Task) -> str:
    percentage = task.progress.percentage if task.progress else 0
    created = documents.rfc3339(task.created_at)
    return f"{task.request_id}  {task.status.value:<10} {percentage:>5.1f}%  {created}  {task.name}"
