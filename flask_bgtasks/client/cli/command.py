"""``bgtasks-client``: submits, watches and lists tasks in a shell. Results go to stdout, all else to stderr.

The exit code says how it ended. Ctrl-C ends the watching, never the task.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ...errors import BackgroundTasksError, CredentialsRefused, Unreachable, WaitTimeout
from ..clients import Client, Task
from ..events import Kind, TaskEvent
from .display import Display

EXIT_CODES = {"completed": 0, "failed": 1, "cancelled": 3, "rejected": 4, "gone": 5}  # 2 is click's: a wrong command
CREDENTIALS_REFUSED, NOT_YET, INTERRUPTED = 6, 7, 130


@click.group(context_settings={"auto_envvar_prefix": "BGTASKS_CLIENT"})
@click.option("--url", default="http://127.0.0.1:5000", show_default=True, help="The address of the app.")
@click.option("--prefix", default="/tasks", show_default=True, help="The URL prefix of its tasks.")
@click.option("--token", help="Sent as Authorization: Bearer. Better set BGTASKS_CLIENT_TOKEN.")
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header to send; can be repeated.")
@click.option("--store", type=click.Path(dir_okay=False), help="File of the pending tasks. Default: one of this user.")
@click.option("--owner", default="", help="Whose tasks these are, if several users share the file.")
@click.version_option(package_name="flask-bgtasks")
@click.pass_context
def main(context: click.Context, /, headers: tuple[str, ...], token: str | None, **options: Any) -> None:
    """Submit requests and follow their tasks, whatever becomes of the network and of this process.

    Exit codes: 0 completed, 1 failed, 2 wrong usage, 3 cancelled, 4 rejected, 5 gone, 6 not authorized, 7 not in time,
    130 interrupted. Every option can be given by the environment: BGTASKS_CLIENT_URL.
    """
    sent = dict(_header(text) for text in headers)
    if token:
        sent["Authorization"] = f"Bearer {token}"
    base_url, store = options.pop("url"), options.pop("store")
    try:
        client = Client(base_url, headers=sent, store=store, **options)
    except BackgroundTasksError as error:
        raise click.ClickException(str(error)) from error
    context.obj = context.with_resource(client)


@main.command()
@click.argument("path")
@click.argument("body", default="{}")
@click.option("--key", help="The Idempotency-Key. The same key follows the same task.")
@click.option("--detach", is_flag=True, help="Do not wait: print the task's name, for `watch`.")
@click.option("--timeout", type=float, help="Seconds to wait at most.")
@click.pass_obj
def submit(client: Client, path: str, body: str, key: str | None, detach: bool, timeout: float | None) -> None:
    """Send BODY to PATH and wait for the result.

    BODY is JSON, @FILE, or - for stdin. It is kept here until the server has it.
    """
    document, key = _body(body), key or str(uuid.uuid4())
    with _told_in_words(), _kept_on(client, key):
        task = client.submit(path, json=document, key=key)
    if detach:
        click.echo(task.request_id or task.key)
        return
    _watch_one(client, task, timeout)


@main.command()
@click.argument("names", nargs=-1, metavar="[ID]...")
@click.option("--timeout", type=float, help="Seconds to wait at most.")
@click.pass_obj
def watch(client: Client, names: tuple[str, ...], timeout: float | None) -> None:
    """Follow tasks by their ids, or all that is pending here.

    Of one task the result is printed; of several, how each of them ended, and the worst is the exit code.
    """
    known = {name: task for task in client.pending() for name in (task.key, task.request_id)}
    with _told_in_words():
        tasks = [known.get(name) or client.follow(name) for name in names]
    if len(tasks) == 1:
        _watch_one(client, tasks[0], timeout)
    worst = 0
    with _told_in_words(), _kept_on(client), Display(sys.stderr, named=True) as display:
        for event in client.events(*tasks, timeout=timeout):
            if event.kind is Kind.TERMINAL:
                click.echo(f"{event.request_id or event.key}  {event.status}")
                worst = max(worst, EXIT_CODES[event.status])
            else:
                display.show(event)
    sys.exit(worst)


@main.command()
@click.option("--check", is_flag=True, help="First send what waits, and ask for the status of all tasks.")
@click.pass_obj
def pending(client: Client, check: bool) -> None:
    """List what is pending here: its id (or key, while the server does not have it), status, percentage."""
    with _told_in_words():
        if check:
            for outcome in client.check_pending():
                click.echo(f"{outcome.request_id or outcome.key}  {outcome.status}", err=True)
        for task in client.pending():
            click.echo(f"{task.request_id or task.key}  {task.status:<10} {task.percentage:5.1f}%")


def _watch_one(client: Client, task: Task, timeout: float | None) -> None:
    """Follow a task to its end, print its result, and exit as it ended."""
    last: TaskEvent | None = None
    with _told_in_words(), _kept_on(client, task.key), Display(sys.stderr) as display:
        for event in client.events(task, timeout=timeout):
            display.show(event)
            last = event
    assert last is not None  # the terminal one
    if last.status == "completed":
        _print(last.data["result"])
    else:
        why = last.data["error_message"]
        click.echo(f"{last.status}: {why}" if why else last.status, err=True)
    sys.exit(EXIT_CODES[last.status])


@contextmanager
def _kept_on(client: Client, key: str | None = None) -> Iterator[None]:
    """Say what an end of the watching means for the task, or for all of them, and how to go on."""
    try:
        yield
    except (KeyboardInterrupt, WaitTimeout) as error:
        task = next((task for task in client.pending() if task.key == key), None)
        name = "" if task is None else f" {task.request_id or task.key}"
        sent = task is None or task.request_id is not None
        state = "It goes on" if sent else "The request is stored here, but not sent yet"
        click.echo(f"\n{state}. Follow it again with: bgtasks-client watch{name}", err=True)
        sys.exit(NOT_YET if isinstance(error, WaitTimeout) else INTERRUPTED)


@contextmanager
def _told_in_words() -> Iterator[None]:
    try:
        yield
    except CredentialsRefused:
        click.echo("The server answered 401: give --token or --header. The task stays pending.", err=True)
        sys.exit(CREDENTIALS_REFUSED)
    except Unreachable as error:
        click.echo(f"The server is unreachable: {error}", err=True)
        sys.exit(NOT_YET)
    except BackgroundTasksError as error:
        raise click.ClickException(str(error)) from error


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter(f"{text!r}: expected NAME:VALUE", param_hint="--header")
    return name.strip(), value.strip()


def _body(text: str) -> Any:
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise click.BadParameter(str(error), param_hint="BODY") from error
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"no JSON: {error}", param_hint="BODY") from error


def _print(result: Any) -> None:
    if isinstance(result, bytes):
        sys.stdout.buffer.write(result)
        sys.stdout.buffer.flush()
    elif result is not None:
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
