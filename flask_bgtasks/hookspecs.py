"""The whole plugin API on one page: pluggy hook specifications.

A plugin is any object or module with functions marked ``@flask_bgtasks.hookimpl``. It is found by the entry point
group ``flask_bgtasks``, listed in ``BGTASKS_SINKS``, or given to ``bgtasks.register(plugin)``. A hook implementation
takes only the arguments that it needs.

Every hook of a sink can take ``context``, a :class:`~flask_bgtasks.SinkContext`. It gives access to what a sink may
use of the app, such as its settings, and look-ups of tasks and devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click
    from flask import Flask, Request

    from .core.devices import Device
    from .core.model import Event, Progress, Result, Task
    from .core.notifications import Message, Notification
    from .core.webhooks import WebhookTarget
    from .runners.base import Fetch, Run, Runner, Wake, WorkerProcess
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
    """Called when a task has changed.

    In order per task, at least once, on the plugin's own thread, in the app's context. ``task`` is its current state,
    which may be later than ``event``. ``load_result()`` reads its result; ``load_devices()`` reads the devices that are
    registered for this task alone (Live Activities).

    May be slow: that delays this plugin only, and no other process makes the delivery meanwhile. Give every call a
    timeout. Raise :class:`~flask_bgtasks.RetryLater` to be called again, :class:`~flask_bgtasks.Undeliverable` to make
    the delivery a dead letter at once, or :class:`~flask_bgtasks.Overloaded` to pause all deliveries to this plugin.
    After any other exception the delivery is retried with back-off.

    A plugin with several addressees returns a :class:`~flask_bgtasks.Message` for each. They are stored in place of
    this delivery and passed to :func:`bgtasks_deliver_message` one by one, so that a failing one holds up no other.

    ``context`` is the :class:`~flask_bgtasks.SinkContext` of the app.
    """


@hookspec
def bgtasks_task_erased(request_id: str, context: SinkContext) -> None:
    """A task was erased (``DELETE /tasks/{id}``): erase what this plugin has stored about it.

    Called at least once, after all other deliveries about the task. Thread, context and exceptions as in
    :func:`bgtasks_task_event`. Not called for tasks that expire: copies elsewhere should expire by themselves.
    """


@hookspec
def bgtasks_task_progress(
    task: Task, progress: Progress, load_devices: Callable[[], list[Device]], context: SinkContext
) -> None:
    """Called with a running task's newest progress.

    Values may be skipped; they never go back, and none comes after the end of the task. On the plugin's own thread, in
    the app's context. ``load_devices()`` reads the devices that are registered for this task alone, and its owner's.
    Exceptions are logged, and the value is not sent again: the next one follows.
    """


@hookspec
def bgtasks_send_notification(
    notification: Notification, load_devices: Callable[[], list[Device]], context: SinkContext
) -> Iterable[Message] | None:
    """Send this notification to the user. Called at least once, on the plugin's own thread, in the app's context.

    ``load_devices()`` reads the owner's devices and that of the request's ``user_token``, each once. Give a message to
    one of them the channel ``device:`` plus its id, so that it is dropped if the device changes hands. Exceptions and
    return value as in :func:`bgtasks_task_event`. Not called if the owner's preferences forbid the notification.
    """


@hookspec
def bgtasks_deliver_message(message: Message, context: SinkContext) -> None:
    """Send a message that this plugin made from an event or a notification.

    Called at least once, in order for each channel, in the app's context, on one of the plugin's threads (as many as
    its attribute ``concurrency`` says; 1 without it). Exceptions as in :func:`bgtasks_task_event`; in addition,
    :class:`~flask_bgtasks.DeviceGone` removes a device.
    """


@hookspec
def bgtasks_webhook_targets(task: Task) -> Iterable[WebhookTarget] | None:
    """Name further webhooks for a task, such as its owner's, besides ``BGTASKS_WEBHOOKS``. For the ``webhook`` sink.

    Called on that sink's thread, in the app's context, before each try, so that a target that is no longer named gets
    nothing more. After an exception the delivery is retried.
    """


@hookspec
def bgtasks_trouble(subject: str, text: str, context: SinkContext) -> None:
    """Something needs the developer's attention: a delivery became a dead letter, or a sink is unreachable.

    ``subject`` names the problem; the same problem has the same subject. Called on the thread of the sink in question,
    so be quick. Exceptions are logged.
    """


@hookspec
def bgtasks_close(context: SinkContext) -> None:
    """The app is being closed: end the threads and close the connections that this plugin has opened.

    Called once for each app, even if no other hook of the plugin was called; after the last deliveries, and while
    look-ups still work. On a thread of its own, in the app's context. Exceptions are logged. All plugins together get
    3 seconds; one that takes longer is not waited for. Where no thread can be started, as at the end of an interpreter
    from Python 3.12 on, it is called in the thread that ends the process, without a time limit. Another hook's call
    that hangs may still be running. Not called in a process that is killed.

    A plugin that several apps share is closed for each of them, and may be called again for the others. ``context`` is
    the same object that the other hooks of that app are given.
    """


@hookspec
def bgtasks_check(settings: Settings, token: str | None) -> Iterable[tuple[str, str | None]] | None:
    """Check the set-up for ``flask bgtasks doctor``: return pairs of what was checked and what is wrong.

    The second item of a pair says what is wrong and how to fix it; None means that all is well. ``token`` is the
    address for a test message, which must be a dry run that nobody gets to see; None means no such test.
    """


@hookspec(firstresult=True)
def bgtasks_prepare_notification(task: Task, notification: Notification) -> Notification | bool | None:
    """Change or veto a task's notification before it is sent: return another one, False for none, None for no opinion.

    Only its title, body, data and link are used; its addressees and the outcome that it reports stay the same. The
    first plugin that returns something other than None decides. Called on the sending plugin's thread. After an
    exception, or a return value of the wrong type, the notification is sent unchanged, and the fault is logged.
    """


@hookspec(firstresult=True)
def bgtasks_request_owner(app: Flask, request: Request) -> str | None:
    """Name the owner of a request; None if this plugin does not know. Called in the request, so be quick.

    An exception answers the request as it would from any view (``abort(401)``).
    """


@hookspec(firstresult=True)
def bgtasks_open_store(app: Flask, url: str, settings: Settings) -> Store | None:
    """Make the store for a ``BGTASKS_STORE`` URL whose scheme this plugin knows; else return None.

    Called in ``init_app``: do not connect yet. A store belongs to one app, ``settings.app_id``, which is filled in if
    the plugin leaves it empty. Returning the same store for two apps is an error.
    """


@hookspec(firstresult=True)
def bgtasks_make_runner(
    app: Flask, name: str, run: Run, fetch: Fetch, wake: Wake, process: WorkerProcess, settings: Settings
) -> Runner | None:
    """Make the runner that ``BGTASKS_RUNNER`` names, if this plugin knows it; else return None.

    Called in ``init_app``: start nothing yet. The runner calls ``run(request_id)``. ``fetch(limit)`` returns tasks from
    the store that may begin here, for runners without a queue of their own. ``wake(request_id, queue)`` runs what
    stands first in the store's queue, for runners whose messages say only that something waits. ``process`` is told by
    a runner whose workers are no web servers when such a process begins and stops.
    """


@hookspec
def bgtasks_register_commands(group: click.Group) -> None:
    """Add commands to ``flask bgtasks``. Called in ``init_app``."""
