"""Calls a sink's hooks: in the app's context, with the signals about notifications, and at the close of the app.

Knows the plugins by their hooks. The dispatcher decides which hook is called, and what happens to its delivery.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from flask import Flask

from .. import signals
from ..core.notifications import Message, Notification
from ..errors import RetryLater, Undeliverable
from ..plugins import Plugins
from ..runtime.background_thread import late_after
from ..sink_context import SinkContext

log = logging.getLogger("flask_bgtasks")

CLOSE_SECONDS = 3.0
"""What all sinks together get to close when an app is closed. Our choice: a call to Firestore, which has a deadline of
2 seconds, ends in it."""


@contextmanager
def app_context(app: Flask) -> Iterator[None]:
    """The app's context, around a call of a plugin. What a teardown function raises is logged: the call was made."""
    context = app.app_context()
    context.push()
    try:
        yield
    finally:
        try:
            context.pop(sys.exc_info()[1])
        except BaseException:
            log.exception("a teardown function failed after a call of a sink")


class Sent:
    """Whether what was done in a block counts as sent."""

    def __init__(self) -> None:
        self.counts = True

    def discard(self) -> None:
        """It does not: nothing was sent yet, or nothing is to be."""
        self.counts = False


@contextmanager
def signalled(app: Flask, sink: str, notification: Notification, message: Message | None = None) -> Iterator[Sent]:
    """Send the signal of what becomes of a notification in the block."""
    sent = Sent()
    about = {"notification": notification, "sink": sink, "message": message}
    try:
        yield sent
    except BaseException as error:
        if was_tried(error):
            final = isinstance(error, Undeliverable)
            signals.send(signals.notification_failed, app, error=error, final=final, **about)
        raise
    if sent.counts:
        signals.send(signals.notification_sent, app, **about)


def was_tried(error: BaseException) -> bool:
    """Whether a sink has tried at all, and did not only say that an addressee is left alone."""
    return not isinstance(error, RetryLater) or error.tried


def close_sinks(app: Flask, plugins: Plugins, context: SinkContext) -> None:
    """Close all sinks, each in a thread of its own, within :data:`CLOSE_SECONDS`; raises nothing that they raise.

    Where no thread can be begun, in this one: see :func:`~flask_bgtasks.runtime.background_thread.late_after`.
    """
    threads = {f"bgtasks-close-{name}": name for name in plugins.implementing("bgtasks_close")}
    closing = {thread: partial(_close, app, plugins, context, name) for thread, name in threads.items()}
    for thread in late_after(CLOSE_SECONDS, closing):
        log.warning("sink %r did not close within %g s; not waiting any longer", threads[thread], CLOSE_SECONDS)


def _close(app: Flask, plugins: Plugins, context: SinkContext, name: str) -> None:
    try:
        with app_context(app):
            plugins.only(name, "bgtasks_close")(context=context)
    except BaseException:
        log.exception("sink %r failed to close", name)
