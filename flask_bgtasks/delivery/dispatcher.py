"""Hands events, notifications and progress to the sinks: decides which sink gets which deliveries, and settles them.

Pending deliveries stand in the store's outbox, recorded with the change itself; this reads them, has them made
(:mod:`.handler`) and settles them (:mod:`.retry`). When that happens, and in which thread, is up to the sinks' workers
(:mod:`.sink_worker`).
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from flask import Flask

from ..core import notifications
from ..core.devices import Device
from ..core.model import Progress, Task
from ..core.notifications import Message, Notification
from ..core.transitions.transition import Transition
from ..errors import DeviceGone, TaskNotFound
from ..plugins import Plugins
from ..runtime import processes
from ..runtime.background_thread import BackgroundThread, Contained
from ..runtime.fork import after_fork_in_child
from ..sink_context import SinkContext
from ..stores.base import Store
from ..stores.types import Delivery, NewDelivery, Settlement
from .circuit_breaker import Reply
from .handler import ERASED, EVENT, MESSAGE, NOTIFICATION, DeliveryHandler
from .leases import LEASE, LeaseKeeper, LeaseOver, LeaseWatch
from .notifier import Notifier, NotifyPolicy
from .retry import reply_of, settlement_of
from .sink_calls import app_context, close_sinks
from .sink_worker import SinkWorker

if TYPE_CHECKING:
    from .notifier import NotifyOf

log = logging.getLogger("flask_bgtasks")

DEFAULT_RULES = NotifyPolicy()


class Dispatcher:
    """The sinks' workers of one app in this process, and who gets which deliveries.

    :param context: what the sinks may use of the app.
    :param notify_of: the ``notify`` option of a task by its name.
    :param rules: when notifications are sent.
    """

    def __init__(
        self,
        app: Flask,
        store: Store,
        plugins: Plugins,
        *,
        context: SinkContext,
        notify_of: NotifyOf,
        rules: NotifyPolicy = DEFAULT_RULES,
    ) -> None:
        self._app = weakref.ref(app)
        self._context = context
        self._store = store
        self._lease = LEASE
        self._keeper = LeaseKeeper(store, lease=self._lease)
        self._watch = LeaseWatch(store, lease=self._lease)
        self._plugins = plugins
        self._notifier = Notifier(store, plugins, notify_of=notify_of, rules=rules)
        self._handler = DeliveryHandler(store, plugins, self._notifier, context=context, confirm=self._keeper.confirm)
        self._workers: dict[str, SinkWorker] = {}
        self._closed = False  # whether the sinks are
        self.refresh()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self._workers = {}
        self.refresh()

    def refresh(self) -> None:
        """Look who implements what: at the start, and when a plugin was registered."""
        self._events_to = self._plugins.implementing("bgtasks_task_event")
        self._progress_to = self._plugins.implementing("bgtasks_task_progress")
        self._notify_by = self._plugins.implementing("bgtasks_send_notification")
        self._erased_by = self._plugins.implementing("bgtasks_task_erased")
        messages = self._plugins.implementing("bgtasks_deliver_message")
        for name in (*self._events_to, *self._progress_to, *self._notify_by, *self._erased_by, *messages):
            if name not in self._workers:
                concurrency = getattr(self._plugins.get(name), "concurrency", 1)
                self._workers[name] = SinkWorker(self, name, concurrency=concurrency)
        self._for_event = tuple(NewDelivery(name, EVENT) for name in self._events_to)

    @property
    def tells_of_ends(self) -> bool:
        """Whether there is a sink that is told how tasks end, or may have to notify of it."""
        return bool(self._events_to or self._notify_by)

    def for_change(self, outcome: Transition) -> Sequence[NewDelivery]:
        """The deliveries of a change of a task: the event to every sink with a hook for it, and the notification."""
        task, event = outcome.task, outcome.sink_event
        if not self._notify_by or event is None or not event.type.terminal:
            return self._for_event
        # The end has to be stored: what is wrong shows when the notification comes due.
        delay: timedelta | None = timedelta(0)
        with Contained("cannot decide whether task %s has a notification", task.request_id):
            delay = self._notifier.delay(task.name, task.status)
        if delay is None:
            return self._for_event
        told = (NewDelivery(sink, NOTIFICATION, channel=NOTIFICATION, delay=delay) for sink in self._notify_by)
        return (*self._for_event, *told)

    def erasure(self, request_id: str) -> Sequence[NewDelivery]:
        """The deliveries of a task's erasure: one to every sink that keeps something of a task."""
        return [NewDelivery(name, ERASED, {"request_id": request_id}) for name in self._erased_by]

    def send(self, notification: Notification) -> int:
        """Add a notification that belongs to no task (``send_push``) for every sink that can send; return how many."""
        payload = notifications.as_document(notification)
        for sink in self._notify_by:
            self._store.add_delivery(
                NewDelivery(sink, NOTIFICATION, payload, NOTIFICATION), request_id=notification.request_id
            )
            self._workers[sink].wake()
        return len(self._notify_by)

    def send_message(self, sink: str, message: Message) -> None:
        """Add a message for a sink that comes from no event: it is stored, and then tried as the others are."""
        self._store.add_delivery(
            NewDelivery(sink, MESSAGE, dict(message.payload), message.channel), request_id=message.request_id
        )
        if sink in self._workers:
            self._workers[sink].wake()

    def wake(self) -> None:
        """There may be new deliveries: have every worker look at once."""
        for worker in self._workers.values():
            worker.wake()

    def catch_up(self, seconds: float) -> bool:
        """Have all that is due delivered, and wait for that for so many seconds; whether it was in time.

        For a process that has no CPU while it answers no request.
        """
        deadline = time.monotonic() + seconds
        self.wake()  # all of them at once; then wait for each
        return all(worker.catch_up(deadline) for worker in self._workers.values())

    def offer_progress(self, task: Task, progress: Progress) -> None:
        """The newest progress of a running task; replaces what a slow sink has not taken yet."""
        for name in self._progress_to:
            self._workers[name].offer(task, progress)

    def drop_progress(self, request_id: str) -> None:
        """The task is about to end: no progress comes after that."""
        for name in self._progress_to:
            self._workers[name].withdraw(request_id)

    @property
    def threads(self) -> list[BackgroundThread]:
        """The workers' threads."""
        return [worker.thread for worker in list(self._workers.values())]

    def stop(self, grace: float) -> None:
        """Let the workers deliver what is due, for ``grace`` seconds; the next process delivers the rest."""
        for worker in self._workers.values():
            worker.stop()
        for worker in self._workers.values():
            worker.join(grace)
        self._keeper.close()

    def close(self, grace: float) -> None:
        """:meth:`stop`, and have the sinks closed. Called again it closes none of them once more."""
        self.stop(grace)
        app = self._app()
        if app is not None and not self._closed:
            self._closed = True
            close_sinks(app, self._plugins, self._context)

    # -- what a worker calls -----------------------------------------------------------------------------------------

    def due(self, sink: str, limit: int) -> list[Delivery]:
        """The due deliveries of this sink, at most ``limit``."""
        self._watch.look(sink)
        return self._store.due_deliveries(sink, worker=processes.me(), lease=self._lease, limit=limit)

    def deliver(self, delivery: Delivery, *, taken: float | None = None, max_wait: float | None = None) -> Reply | None:
        """Try once, and settle. The delivery's lease is renewed for as long as that takes.

        :param taken: when it was asked for, by ``time.monotonic``; None for just now.
        :param max_wait: seconds after which it is tried again at the latest, while the sink is unreachable.
        :returns: what the call says about the sink's state; None if it was not called.
        """
        app = self._app()
        if app is None:
            return None
        reply = Reply()
        with self._keeper.kept(delivery, taken) as call, app_context(app):
            try:
                settlement = self._handler.handle(app, call)
            except LeaseOver as why:
                log.info("delivery %s to sink %r is not made here: %s", delivery.id, delivery.sink, why)
                return None
            except DeviceGone as gone:
                log.info("sink %r: a device is gone and is removed: %s", delivery.sink, gone)
                self._store.forget_device(gone.device_id)
                settlement = Settlement()
            except BaseException as error:  # SystemExit too: a sink that raises it has failed, like any other
                reply = reply_of(error)
                settlement = settlement_of(self._store, delivery, error, max_wait=max_wait)
        self._store.settle_delivery(call.delivery, settlement)
        if settlement.dead:  # it is among those that are kept by now: whoever is told counts them
            self._trouble(app, f"dead letters of sink {delivery.sink!r}", str(settlement.error))
        if settlement.replaced_by and delivery.sink in self._workers:
            self._workers[delivery.sink].wake()
        return reply

    def put_off(self, deliveries: Sequence[Delivery], seconds: float) -> None:
        """Settle what was taken and is not tried now: the sink is left alone, or it was too much."""
        due_at = self._store.now() + timedelta(seconds=seconds)
        for delivery in deliveries:
            self._store.settle_delivery(delivery, Settlement(due_at=due_at))

    def out_of_reach(self, sink: str, error: str | None) -> None:
        """Tell whoever watches over the app."""
        app = self._app()
        if app is not None:
            self._trouble(app, f"sink {sink!r} is unreachable", error or "it does not answer")

    def tell_progress(self, sink: str, task: Task, progress: Progress) -> None:
        """Hand a sink the newest progress; what it raises is logged, the next value follows.

        Nothing, if the attempt that reported it does not hold its task any more: this process may have slept, and
        another one may have gone on, or ended the task, meanwhile. :raises StoreUnavailable: that cannot be told.
        """
        app = self._app()
        if app is None or not self._is_current(task):
            return
        with app_context(app):
            try:
                hook = self._plugins.only(sink, "bgtasks_task_progress")
                hook(
                    task=task,
                    progress=progress,
                    load_devices=lambda: self._devices_of(task),
                    context=self._context,
                )
            except BaseException:
                log.exception("sink %r failed on the progress of task %s", sink, task.request_id)

    def _is_current(self, task: Task) -> bool:
        """Whether the attempt that the task was in still runs."""
        try:
            now = self._store.get(task.request_id)
        except TaskNotFound:
            return False
        return now.held and now.attempt == task.attempt

    def _devices_of(self, task: Task) -> list[Device]:
        """Those of a task, and those of its owner."""
        owners = () if task.owner is None else self._store.devices(owner=task.owner)
        return [*self._store.devices(request_id=task.request_id), *owners]

    def _trouble(self, app: Flask, subject: str, text: str) -> None:
        with app_context(app):
            try:
                self._plugins.hook.bgtasks_trouble(subject=subject, text=text, context=self._context)
            except BaseException:
                log.exception("a plugin failed in bgtasks_trouble: %s", subject)
