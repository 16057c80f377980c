"""The whole plugin API on one page: pluggy hook specifications.

A plugin is any object or module with functions marked ``@flask_bgtasks.hookimpl``. It is found by the entry point
group ``flask_bgtasks``, listed in ``BGTASKS_SINKS``, or given to ``bgtasks.register(plugin)``. A hook implementation
takes only the arguments that it wants.

Every hook of a sink can take ``context``, a :class:`~flask_bgtasks.SinkContext`: what a sink may use of the app, such
as its settings, and look-ups of tasks and devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click
    from flask import Flask, Request

    from .core.devices import Device
    from .core.model import Event, Progress, Result, Task
    from .core.notifications import Message, Notification
    from .core.webhooks import WebhookTarget
    from .runners.base import Fetch, Runner
    from .settings import Settings
    from .sink_context import SinkContext
    from .stores.base import Store

PROJECT = "flask_bgtasks"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def bgtasks_task_event(
    task: Task,
    event: Event,
    load_result: Callable[[], Result | None],
    load_devices: Callable[[], list[Device]],
    context: SinkContext,
) -> Iterable[Message] | None:
    """A task changed. In order per task, at least once, on the plugin's own thread, in the app's context.

    ``task`` is as it stands now, which may be later than ``event``; ``load_result()`` reads what it answered,
    ``load_devices()`` which devices are registered for this task alone (Live Activities). May be slow: it delays this
    plugin only, and no other process makes the delivery meanwhile; give every call a timeout. Raise
    :class:`~flask_bgtasks.RetryLater` to be asked again; any other exception is retried with backoff;
    :class:`~flask_bgtasks.Undeliverable` makes it a dead letter at once; :class:`~flask_bgtasks.Overloaded` has
    everything wait for this plugin.

    A plugin that has several addressees returns a :class:`~flask_bgtasks.Message` for each: they are stored in place of
    this delivery, and given to :func:`bgtasks_deliver_message` one by one, so that one that fails holds up no other.

    ``context`` is what a sink may use of the app: :class:`~flask_bgtasks.SinkContext`.
    """


@hookspec
def bgtasks_task_erased(request_id: str, context: SinkContext) -> None:
    """A task was erased (``DELETE /tasks/{id}``): erase what this plugin keeps of it.

    At least once, after everything else that was told of the task. Thread, context and exceptions as in
    :func:`bgtasks_task_event`. Not called for tasks whose time is over: what is kept elsewhere should expire by itself.
    """


@hookspec
def bgtasks_task_progress(
    task: Task, progress: Progress, load_devices: Callable[[], list[Device]], context: SinkContext
) -> None:
    """A running task's newest progress. Values may be skipped; never goes back, never comes after the end.

    ``load_devices()`` reads the devices that are registered for this task alone, and its owner's. On the plugin's own
    thread, in the app's context. What is raised is logged and forgotten: the next value follows.
    """


@hookspec
def bgtasks_send_notification(
    notification: Notification, load_devices: Callable[[], list[Device]], context: SinkContext
) -> Iterable[Message] | None:
    """Send this to the user. At least once, on the plugin's own thread, in the app's context.

    ``load_devices()`` reads its owner's devices and the one of the request's ``user_token``, each once. A message to
    one of them has the channel ``device:`` and its id, so that it is dropped if it changes hands. Exceptions and what
    is returned as in :func:`bgtasks_task_event`. Not called where the owner's preferences are against it.
    """


@hookspec
def bgtasks_deliver_message(message: Message, context: SinkContext) -> None:
    """Send a message that this plugin made of an event or a notification. At least once, in order for each channel.

    On one of the plugin's threads (its ``concurrency``, 1 if it has no such attribute), in the app's context.
    Exceptions as in :func:`bgtasks_task_event`; and :class:`~flask_bgtasks.DeviceGone` has a device forgotten.
    """


@hookspec
def bgtasks_webhook_targets(task: Task) -> Iterable[WebhookTarget] | None:
    """Name webhooks for a task besides those of ``BGTASKS_WEBHOOKS``: its owner's, say. For the ``webhook`` sink.

    On that sink's thread, in the app's context; asked again before each try, so that what is no longer named gets
    nothing more. What is raised has the delivery tried again.
    """


@hookspec
def bgtasks_trouble(subject: str, text: str, context: SinkContext) -> None:
    """Something needs the developer: a delivery ended as a dead letter, or a sink is out of reach.

    ``subject`` names it, the same for what is the same. On the thread of the sink in question: be quick. What is raised
    is logged.
    """


@hookspec
def bgtasks_close(context: SinkContext) -> None:
    """The app is being closed: end the threads and close the connections that this plugin has opened.

    Called once for each app, also if no other hook of the plugin was called; after the last deliveries, and while
    look-ups still work. On a thread of its own, in the app's context. Exceptions are logged. All plugins together get
    3 seconds; one that takes longer is not waited for. Where no thread can be begun, as at the end of an interpreter
    from Python 3.12 on, it is called in the thread that ends the process, without a limit. Another hook's call that
    hangs may still be under way. Not called in a process that is killed.

    A plugin that several apps share is closed for each of them, and may be called again for the others: ``context`` is
    the object that the other hooks of that app were given.
    """


@hookspec
def bgtasks_check(settings: Settings, token: str | None) -> Iterable[tuple[str, str | None]] | None:
    """For ``flask bgtasks doctor``: what was looked at, each with what is wrong and how to mend it, None if nothing.

    ``token`` is the address that a test message may go to (never to be shown: a dry run), None for no such test.
    """


@hookspec(firstresult=True)
def bgtasks_prepare_notification(task: Task, notification: Notification) -> Notification | bool | None:
    """Shape or veto a task's notification before it is sent: return another one, False for none, None for no opinion.

    Its title, body, data and link count; to whom it goes, and of which outcome it tells, stays as it was. The first
    plugin with an opinion decides. On the sending plugin's thread; what is raised is logged, and so is what is of the
    wrong kind, and the notification is sent as it was.
    """


@hookspec(firstresult=True)
def bgtasks_request_owner(app: Flask, request: Request) -> str | None:
    """Name the owner of a request, None if this plugin does not know. In the request, so be quick.

    What is raised answers the request as it would from any view (``abort(401)``).
    """


@hookspec(firstresult=True)
def bgtasks_open_store(app: Flask, url: str, settings: Settings) -> Store | None:
    """Make the store for a ``BGTASKS_STORE`` whose scheme this plugin knows. In ``init_app``: connect to nothing.

    A store is of one app, ``settings.app_id``. One that is made without an app gets this one; the same store for two
    apps is refused.
    """


@hookspec(firstresult=True)
def bgtasks_make_runner(
    app: Flask, name: str, run: Callable[[str], Any], fetch: Fetch, settings: Settings
) -> Runner | None:
    """Make the runner that ``BGTASKS_RUNNER`` names; it calls ``run(request_id)``. In ``init_app``: start nothing.

    ``fetch(limit)`` asks the store for tasks that may begin here, for runners that have no queue of their own.
    """


@hookspec
def bgtasks_register_commands(group: click.Group) -> None:
    """Add commands to ``flask bgtasks``. At ``init_app``."""
