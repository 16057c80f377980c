"""Hands events, notifications and progress to the sinks: what is owed to whom, the call of a plugin's hook, and what
becomes of a delivery after it.

What is owed stands in the store's outbox, recorded with the change itself; this reads it, calls and settles. When that
happens, and in which thread, is the lanes' (:mod:`.lanes`).
"""

from __future__ import annotations

import functools
import json
import logging
import weakref
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flask import Flask

from . import notifications, processes, signals
from .backoff import Backoff
from .changes import Outcome
from .errors import RetryLater, TaskNotFound, Undeliverable
from .forks import after_fork_in_child
from .lanes import Lane
from .model import Event, Progress, Task
from .notifications import Notification, Notify
from .plugins import Plugins
from .stores.base import Delivery, Owed, Settlement, Store

if TYPE_CHECKING:
    NotifyOf = Callable[[str], Notify]

log = logging.getLogger("flask_bgtasks")

LEASE = timedelta(seconds=60)
"""How long a lane has for what it has taken before another process may try it."""

FIRST_RETRY_SECONDS = 1.0
BACKOFF = Backoff(first=FIRST_RETRY_SECONDS, longest=300.0)

EVENT = "event"
ERASED = "erased"
NOTIFICATION = "notification"


def backoff(tries: int) -> float:
    """Seconds to wait after so many failed tries; the floor keeps one from following at once."""
    return FIRST_RETRY_SECONDS / 2 + BACKOFF.wait(tries + 1)


class Deliveries:
    """The lanes of one app in this process, and what is owed to whom.

    :param notify_of: the ``notify`` option of a task by its name.
    """

    def __init__(self, app: Flask, store: Store, plugins: Plugins, *, notify_of: NotifyOf) -> None:
        self._app = weakref.ref(app)
        self._store = store
        self._plugins = plugins
        self._notify_of = notify_of
        self._lanes: dict[str, Lane] = {}
        self.refresh()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self._lanes = {}
        self.refresh()

    def refresh(self) -> None:
        """Look who implements what: at the start, and when a plugin was registered."""
        self._events_to = self._plugins.implementing("bgtasks_task_event")
        self._progress_to = self._plugins.implementing("bgtasks_task_progress")
        self._notify_by = self._plugins.implementing("bgtasks_send_notification")
        self._erased_by = self._plugins.implementing("bgtasks_task_erased")
        for name in (*self._events_to, *self._progress_to, *self._notify_by, *self._erased_by):
            if name not in self._lanes:
                self._lanes[name] = Lane(self, name)
        self._for_event = tuple(Owed(name, EVENT) for name in self._events_to)

    def owed(self, outcome: Outcome) -> Sequence[Owed]:
        """What a change of a task owes: the event to every sink that wants events, and the user's notification."""
        task, event = outcome.task, outcome.owed
        if not self._notify_by or event is None or not event.type.terminal:
            return self._for_event
        if not notifications.owed_for(task.status, self._notify_of(task.name)):
            return self._for_event
        return (*self._for_event, *(Owed(sink, NOTIFICATION) for sink in self._notify_by))

    def erasure(self, request_id: str) -> Sequence[Owed]:
        """What the end of a task's record owes: to have it erased by everyone who keeps something of it."""
        return [Owed(name, ERASED, {"request_id": request_id}) for name in self._erased_by]

    def send(self, notification: Notification) -> int:
        """Owe a notification that stands for itself (``send_push``) to every sink that can send; how many those are."""
        payload = {
            "title": notification.title,
            "body": notification.body,
            "user_token": notification.user_token,
            "owner": notification.owner,
            "data": dict(notification.data),
        }
        for sink in self._notify_by:
            self._store.owe(Owed(sink, NOTIFICATION, payload), request_id=notification.request_id)
            self._lanes[sink].wake()
        return len(self._notify_by)

    def wake(self) -> None:
        """Something may be owed: have every lane look at once."""
        for lane in self._lanes.values():
            lane.wake()

    def offer_progress(self, task: Task, progress: Progress) -> None:
        """The newest progress of a running task; replaces what a slow sink has not taken yet."""
        for name in self._progress_to:
            self._lanes[name].offer(task, progress)

    def drop_progress(self, request_id: str) -> None:
        """The task is about to end: no progress comes after that."""
        for name in self._progress_to:
            self._lanes[name].withdraw(request_id)

    def stop(self, grace: float) -> None:
        """Let the lanes deliver what is due, for ``grace`` seconds; what stays owed is the next process's."""
        for lane in self._lanes.values():
            lane.stop()
        for lane in self._lanes.values():
            lane.join(grace)

    # -- what a lane calls -------------------------------------------------------------------------------------------

    def due(self, sink: str, limit: int) -> list[Delivery]:
        """What this sink is owed now, at most so many."""
        return self._store.due_deliveries(sink, worker=processes.me(), lease=LEASE, limit=limit)

    def deliver(self, delivery: Delivery, *, longest_wait: float | None = None) -> bool:
        """Try once, and settle; whether the sink answered, be it that it refuses.

        :param longest_wait: seconds after which it is tried again at the latest, while the sink is out of reach.
        """
        app, answered = self._app(), True
        if app is None:
            return True
        with app.app_context():
            try:
                if delivery.kind == NOTIFICATION:
                    self._send_notification(app, delivery)
                elif delivery.kind == ERASED:
                    self._plugins.only(delivery.sink, "bgtasks_task_erased")(**(delivery.payload or {}))
                else:
                    self._tell(delivery)
                settlement = Settlement()
            except Exception as error:
                answered = isinstance(error, Undeliverable) or getattr(error, "after", None) is not None
                settlement = self._settlement(delivery, error, longest_wait)
        self._store.settle_delivery(delivery, settlement)
        return answered

    def put_off(self, deliveries: Sequence[Delivery], seconds: float) -> None:
        """Settle what was taken and is not tried now: the sink is out of reach."""
        due_at = self._store.now() + timedelta(seconds=seconds)
        for delivery in deliveries:
            self._store.settle_delivery(delivery, Settlement(due_at=due_at, error="the sink is out of reach"))

    def tell_progress(self, sink: str, task: Task, progress: Progress) -> None:
        """Hand a sink the newest progress; what it raises is logged, the next value follows."""
        app = self._app()
        if app is None:
            return
        with app.app_context():
            try:
                self._plugins.only(sink, "bgtasks_task_progress")(task=task, progress=progress)
            except Exception:
                log.exception("sink %r failed to take progress of task %s", sink, task.request_id)

    def _tell(self, delivery: Delivery) -> None:
        task, event = self._task_and_event(delivery)
        load_result = functools.partial(self._store.load_result, task.request_id)
        self._plugins.only(delivery.sink, "bgtasks_task_event")(task=task, event=event, load_result=load_result)

    def _task_and_event(self, delivery: Delivery) -> tuple[Task, Event]:
        if delivery.request_id is None:
            raise Undeliverable("the delivery names no task")
        try:
            task = self._store.get(delivery.request_id)
        except TaskNotFound:
            raise Undeliverable(f"task {delivery.request_id} is gone") from None
        events = self._store.events(delivery.request_id, after=delivery.seq - 1, limit=1)
        if not events or events[0].seq != delivery.seq:
            raise Undeliverable(f"event {delivery.seq} of task {delivery.request_id} is no longer kept")
        return task, events[0]

    def _send_notification(self, app: Flask, delivery: Delivery) -> None:
        notification = self._notification(delivery)
        if notification is None:
            return
        sink = delivery.sink
        try:
            self._plugins.only(sink, "bgtasks_send_notification")(notification=notification)
        except Exception as error:
            signals.send(
                signals.notification_failed,
                app,
                notification=notification,
                sink=sink,
                error=error,
                final=isinstance(error, Undeliverable),
            )
            raise
        signals.send(signals.notification_sent, app, notification=notification, sink=sink)

    def _notification(self, delivery: Delivery) -> Notification | None:
        if delivery.payload is not None:
            return Notification(request_id=delivery.request_id, **delivery.payload)
        task, _ = self._task_and_event(delivery)
        if task.seq != delivery.seq:
            return None  # opened again since: the next outcome brings its own
        result = self._store.load_result(task.request_id)
        data = None
        if result is not None and "json" in result.content_type:
            try:
                data = json.loads(result.body)
            except ValueError:
                data = None
        try:
            made = notifications.for_task(task, self._notify_of(task.name), data)
        except Exception as error:
            raise Undeliverable(f"notify= of task {task.name!r} failed: {type(error).__name__}: {error}") from error
        return made and self._shaped(task, made)

    def _shaped(self, task: Task, notification: Notification) -> Notification | None:
        try:
            opinion = self._plugins.hook.bgtasks_prepare_notification(task=task, notification=notification)
        except Exception:
            log.exception("a plugin failed to prepare the notification of task %s", task.request_id)
            return notification
        if opinion is False:
            return None
        return opinion if isinstance(opinion, Notification) else notification

    def _settlement(self, delivery: Delivery, error: Exception, longest_wait: float | None) -> Settlement:
        what = f"{type(error).__name__}: {error}"
        if isinstance(error, Undeliverable):
            log.warning("delivery %s to sink %r can never succeed: %s", delivery.id, delivery.sink, what)
            return Settlement(dead=True, error=what)
        wait = backoff(delivery.tries)
        if longest_wait is not None:
            wait = min(wait, longest_wait)
        if isinstance(error, RetryLater) and error.after is not None:
            wait = error.after
        due_at = self._store.now() + timedelta(seconds=wait)
        if due_at >= self._give_up_at(delivery):
            log.error("delivery %s to sink %r is given up: %s", delivery.id, delivery.sink, what)
            return Settlement(dead=True, error=f"given up after {delivery.tries + 1} tries: {what}")
        level = logging.WARNING if longest_wait is None else logging.DEBUG  # of an outage the lane has told
        log.log(level, "delivery %s to sink %r failed, next try in %.0f s: %s", delivery.id, delivery.sink, wait, what)
        return Settlement(due_at=due_at, error=what)

    def _give_up_at(self, delivery: Delivery) -> datetime:
        """Outages are outlived up to the task's expiry; what belongs to no task gets as long as a task by default."""
        if delivery.request_id is not None:
            try:
                task = self._store.get(delivery.request_id)
            except TaskNotFound:
                return delivery.created_at
            return task.expire_at or self._store.now() + task.expires_after
        return delivery.created_at + timedelta(days=7)
