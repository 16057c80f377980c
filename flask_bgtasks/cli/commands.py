"""``flask bgtasks …``: a look at the work from the shell, its dead letters, and the worker process.

Only ``worker`` runs tasks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click
from flask.cli import AppGroup

from ..app.state import AppState
from ..app.stuck import stuck_tasks
from ..core import documents
from ..core.model import Status, Task
from ..errors import ConfigurationError, TaskNotFound
from ..firebase.firestore import rules
from ..stores.types import TaskQuery
from ..wording import counted
from .db import make_db
from .doctor import FAIL, examine

STUCK = "  (stuck: no function of this name is registered)"


def register(state: AppState) -> None:
    """Add the command group to the app, and what plugins bring for it."""
    group = AppGroup("bgtasks", help="The background tasks of this app.")

    @group.command("list")
    @click.option("--status", type=click.Choice([s.value for s in Status]), help="Only tasks with this status.")
    @click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="At most so many.")
    def list_tasks(status: str | None, limit: int) -> None:
        """List tasks, newest first."""
        statuses = None if status is None else [Status(status)]
        stuck = _stuck(state)
        for task in state.store.find(TaskQuery(statuses=statuses, limit=limit)).tasks:
            click.echo(_line(task, stuck=task.request_id in stuck))

    @group.command()
    @click.argument("request_id")
    def show(request_id: str) -> None:
        """Show one task and its history."""
        with _found():
            task = state.access.any_task(request_id)
        click.echo(_line(task, stuck=request_id in _stuck(state)))
        if task.error_message:
            click.echo(f"  error: {task.error_message}")
        for event in state.store.events(request_id):
            data = " ".join(f"{k}={v}" for k, v in event.data.items() if v is not None)
            click.echo(f"  {event.seq:>5}  {documents.rfc3339(event.at)}  {event.type.value:<16} {data}"[:200])

    @group.command()
    @click.argument("request_id")
    def cancel(request_id: str) -> None:
        """Cancel a task: at once if nobody runs it, else at its next report."""
        with _found():
            task = state.cancel(state.access.any_task(request_id).request_id).task
        click.echo(_line(task))

    @group.command()
    @click.option(
        "--workers", type=click.IntRange(1), help="Threads that run tasks; by default the BGTASKS_WORKERS setting."
    )
    @click.option("--queue", "queues", multiple=True, help="Only tasks of this queue; can be repeated. Default: all.")
    def worker(workers: int | None, queues: tuple[str, ...]) -> None:
        """Run tasks in this process until it is told to stop.

        On SIGTERM or Ctrl-C running tasks get BGTASKS_SHUTDOWN_GRACE seconds to finish; what does not is given back,
        and goes on elsewhere. A second signal ends the process at once.
        """
        from .worker import serve

        try:
            serve(state.app, workers=workers, queues=queues or None, say=click.echo)
        except ConfigurationError as error:
            raise click.ClickException(str(error)) from None

    @group.command()
    @click.option("--sink", help="Only dead letters of this sink.")
    @click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="At most so many.")
    def dead(sink: str | None, limit: int) -> None:
        """List dead letters, newest first: deliveries that a sink can never take."""
        for letter in state.store.dead_deliveries(sink=sink, limit=limit):
            about = f"task {letter.request_id} event {letter.seq}" if letter.request_id else letter.kind
            click.echo(
                f"{letter.id:>8}  {documents.rfc3339(letter.created_at)}  {letter.sink}  {about}: {letter.error}"
            )

    @group.command()
    @click.argument("ids", nargs=-1, type=int)
    @click.option("--sink", help="All dead letters of this sink.")
    @click.option("--all", "everything", is_flag=True, help="All letters.")
    def replay(ids: tuple[int, ...], sink: str | None, everything: bool) -> None:
        """Have dead letters delivered after all: by their numbers, as `dead` lists them, or all of a sink."""
        if not ids and not sink and not everything:
            raise click.UsageError("Say which ones: numbers as `flask bgtasks dead` lists them, --sink NAME, or --all.")
        replayed = state.store.replay_deliveries(ids) if ids else 0
        while not ids:
            letters = state.store.dead_deliveries(sink=sink, limit=1000)
            if not letters:
                break
            replayed += state.store.replay_deliveries([letter.id for letter in letters])
        click.echo(
            f"replayed {counted(replayed, 'delivery', 'deliveries')}; the processes that serve deliver within seconds"
        )

    @group.command()
    def stats() -> None:
        """Count tasks and deliveries."""
        figures = state.store.stats()
        for status in Status:
            click.echo(f"{status.value:<12} {figures.by_status.get(status.value, 0)}")
        click.echo(f"{'rejected':<12} {figures.rejected}")
        click.echo(f"{'pending':<12} {figures.deliveries_pending}")
        click.echo(f"{'dead':<12} {figures.deliveries_dead}")

    @group.command()
    @click.argument("app_id")
    def adopt(app_id: str) -> None:
        """Take over what another app has in this store: after this one got a new name (BGTASKS_APP_ID).

        End the processes that use the old name first. Where both have the same, a device say, this app's stays.
        """
        known, mine = state.store.apps(), state.settings.app_id
        if app_id == mine or app_id not in known:
            others = ", ".join(repr(one) for one in sorted(known) if one != mine) or "none"
            raise click.ClickException(
                f"{app_id!r} is not another app in this store. This is {mine!r}; others: {others}"
            )
        click.echo(f"tasks that were of {app_id!r} and are of {mine!r} now: {state.store.adopt(app_id)}")

    @group.command("doctor")
    @click.option("--token", metavar="ADDRESS", help="A device's address: check a push to it, without sending one.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @click.pass_context
    def examine_app(context: click.Context, token: str | None, as_json: bool) -> None:
        """Check the store, the clock, the settings and every service; exit with 1 if something is wrong."""
        findings = []
        for finding in examine(state, token=token):
            findings.append(finding)
            if not as_json:
                click.echo(str(finding))
        if as_json:
            click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
        context.exit(1 if any(finding.level == FAIL for finding in findings) else 0)

    @group.command()
    def vapid() -> None:
        """Make a key pair for Web Push without Firebase."""
        from ..sinks.webpush import make_keys

        try:
            private, public = make_keys()
        except ModuleNotFoundError as error:
            raise click.ClickException(
                f"{error.name!r} is not installed: pip install 'flask-bgtasks[webpush]'"
            ) from None
        click.echo(f"BGTASKS_VAPID_PRIVATE_KEY={private}")
        click.echo(f"The public key, with which browsers subscribe (also in GET /tasks/devices): {public}")

    group.add_command(make_db(state))
    group.add_command(_firestore(state))
    state.plugins.hook.bgtasks_register_commands(group=group)
    state.app.cli.add_command(group)


def _firestore(state: AppState) -> click.Group:
    names = {"tasks": state.settings.firestore_tasks, "progress": state.settings.firestore_progress}

    @click.group("firestore", help="Print the files to deploy to a Firebase project.")
    def group() -> None:
        pass

    @group.command("rules")
    def print_rules() -> None:
        """Print firestore.rules: an owner reads their own tasks, and nobody writes from a client."""
        click.echo(rules.security_rules(**names), nl=False)

    @group.command("indexes")
    @click.option("--ttl", is_flag=True, help="Print only the commands that make expired documents be erased.")
    def print_indexes(ttl: bool) -> None:
        """Print firestore.indexes.json: the index of an owner's list, exemptions, and what is to expire."""
        text = "\n".join(rules.ttl_commands(**names)) + "\n" if ttl else rules.indexes(**names)
        click.echo(text, nl=False)

    return group


@contextmanager
def _found() -> Iterator[None]:
    """Around what asks for a task: one that is not there is said in a line."""
    try:
        yield
    except TaskNotFound as error:
        raise click.ClickException(str(error)) from None


def _stuck(state: AppState) -> set[str]:
    """The ids of tasks that no function here is registered for."""
    state.completion.complete()
    return {task.request_id for task in stuck_tasks(state.store, state.registry)}


def _line(task: Task, *, stuck: bool = False) -> str:
    percentage = task.progress.percentage if task.progress else 0
    created = documents.rfc3339(task.created_at)
    line = f"{task.request_id}  {task.status.value:<10} {percentage:>5.1f}%  {created}  {task.name}"
    return line + STUCK if stuck else line
