"""Hands events, notifications and progress to the sinks: who gets which deliveries, the call of a
plugin's hook, and what becomes of a delivery after it.

Pending deliveries stand in the store's outbox, recorded with the change itself; this reads them, calls and settles.
When that happens, and in which thread, is up to the lanes (:mod:`.sink_worker`).
"""

from __future__ import annotations

import functools
import logging
import weakref
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from flask import Flask

from ..core import notifications
from ..core.backoff import Backoff, retry_after_seconds
from ..core.devices import Device
from ..core.model import Event, Progress, Task
from ..core.notifications import Message, Notification
from ..core.text.clean import text_of
from ..core.transitions.transition import Transition
from ..errors import DeviceGone, Overloaded, RetryLater, TaskNotFound, Undeliverable, counted
from ..plugins import Plugins
from ..runtime import processes
from ..runtime.background_thread import BackgroundThread, Contained
from ..runtime.fork import after_fork_in_child
from ..runtime.log_lines import one_line
from ..sink_context import SinkContext
from ..stores.base import Store
from ..stores.types import Delivery, NewDelivery, Settlement
from .circuit_breaker import Reply
from .leases import LEASE, DeliveryCall, LeaseKeeper, LeaseOver, LeaseWatch
from .notifier import Deferred, Notifier, NotifyPolicy
from .sink_calls import app_context, close_sinks, signalled, was_tried
from .sink_worker import SinkWorker

if TYPE_CHECKING:
    from .notifier import NotifyOf

log = logging.getLogger("flask_bgtasks")

MIN_REST_SECONDS = 1.0
"""Of a sink whose service wants a pause, also where it names none, or one that is over."""

FIRST_RETRY_SECONDS = 1.0
BACKOFF = Backoff(first=FIRST_RETRY_SECONDS, longest=300.0)

EVENT = "event"
ERASED = "erased"
NOTIFICATION = "notification"
PUSH = "push"  # a message that came of a notification
MESSAGE = "message"  # one that came of an event

DEFAULT_RULES = NotifyPolicy()


def backoff(tries: int) -> float:
    """Seconds to wait after so many failed tries; the floor keeps one from following at once."""
    return FIRST_RETRY_SECONDS / 2 + BACKOFF.wait(tries + 1)


class Dispatcher:
    """The lanes of one app in this process, and who gets which deliveries.

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
        self._lanes: dict[str, SinkWorker] = {}
        self._closed = False  # whether the sinks are
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
        messages = self._plugins.implementing("bgtasks_deliver_message")
        for name in (*self._events_to, *self._progress_to, *self._notify_by, *self._erased_by, *messages):
            if name not in self._lanes:
                concurrency = getattr(self._plugins.get(name), "concurrency", 1)
                self._lanes[name] = SinkWorker(self, name, concurrency=concurrency)
        self._for_event = tuple(NewDelivery(name, EVENT) for name in self._events_to)

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
            self._lanes[sink].wake()
        return len(self._notify_by)

    def send_message(self, sink: str, message: Message) -> None:
        """Add a message for a sink that comes from no event: it is stored, and then tried as the others are."""
        self._store.add_delivery(
            NewDelivery(sink, MESSAGE, dict(message.payload), message.channel), request_id=message.request_id
        )
        if sink in self._lanes:
            self._lanes[sink].wake()

    def wake(self) -> None:
        """There may be new deliveries: have every lane look at once."""
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

    @property
    def threads(self) -> list[BackgroundThread]:
        """The lanes' threads."""
        return [lane.thread for lane in list(self._lanes.values())]

    def stop(self, grace: float) -> None:
        """Let the lanes deliver what is due, for ``grace`` seconds; the next process delivers the rest."""
        for lane in self._lanes.values():
            lane.stop()
        for lane in self._lanes.values():
            lane.join(grace)
        self._keeper.close()

    def close(self, grace: float) -> None:
        """:meth:`stop`, and have the sinks closed. Called again it closes none of them once more."""
        self.stop(grace)
        app = self._app()
        if app is not None and not self._closed:
            self._closed = True
            close_sinks(app, self._plugins, self._context)

    # -- what a lane calls -------------------------------------------------------------------------------------------

    def due(self, sink: str, limit: int) -> list[Delivery]:
        """The due deliveries of this sink, at most ``limit``."""
        self._watch.look(sink)
        return self._store.due_deliveries(sink, worker=processes.me(), lease=self._lease, limit=limit)

    def deliver(
        self, delivery: Delivery, *, taken: float | None = None, longest_wait: float | None = None
    ) -> Reply | None:
        """Try once, and settle. The delivery's lease is renewed for as long as that takes.

        :param taken: when it was asked for, by ``time.monotonic``; None for just now.
        :param longest_wait: seconds after which it is tried again at the latest, while the sink is unreachable.
        :returns: what the call says about the sink's state; None if it was not called.
        """
        app = self._app()
        if app is None:
            return None
        reply = Reply()
        with self._keeper.kept(delivery, taken) as call, app_context(app):
            try:
                settlement = self._made(app, call)
            except LeaseOver as why:
                log.info("delivery %s to sink %r is not made here: %s", delivery.id, delivery.sink, why)
                return None
            except DeviceGone as gone:
                log.info("sink %r: a device is gone and is removed: %s", delivery.sink, gone)
                self._store.forget_device(gone.device_id)
                settlement = Settlement()
            except BaseException as error:  # SystemExit too: a sink that raises it has failed, like any other
                reply = _reply(error)
                settlement = self._settlement(delivery, error, longest_wait)
                if settlement.dead:
                    self._trouble(f"dead letters of sink {delivery.sink!r}", str(settlement.error))
        self._store.settle_delivery(call.delivery, settlement)
        if settlement.replaced_by and delivery.sink in self._lanes:
            self._lanes[delivery.sink].wake()
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
            with app_context(app):
                self._trouble(f"sink {sink!r} is unreachable", error or "it does not answer")

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

    # -- one delivery ------------------------------------------------------------------------------------------------

    def _made(self, app: Flask, call: DeliveryCall) -> Settlement:
        """Make one delivery, of whatever kind."""
        delivery = call.delivery
        if delivery.kind == EVENT:
            return self._tell(call)
        if delivery.kind == NOTIFICATION:
            return self._notify(app, call)
        if delivery.kind == PUSH:
            return self._push(app, call)
        payload = delivery.payload or {}
        if delivery.kind == MESSAGE:
            message = Message(delivery.channel, payload, request_id=delivery.request_id, tries=delivery.tries)
            self._hook(call, "bgtasks_deliver_message")(message=message, context=self._context)
        elif delivery.kind == ERASED:
            self._hook(call, "bgtasks_task_erased")(**payload, context=self._context)
        else:
            raise Undeliverable(f"a delivery of kind {delivery.kind!r}, which this version does not know")
        return Settlement()

    def _hook(self, call: DeliveryCall, name: str) -> Callable[..., Any]:
        """A hook of the sink that a delivery is for, to be called at once: whatever else is read for it was read."""
        hook = self._plugins.only(call.delivery.sink, name)
        self._keeper.confirm(call)
        return hook

    def _tell(self, call: DeliveryCall) -> Settlement:
        delivery = call.delivery
        task, event = self._task_and_event(delivery)
        returned = self._hook(call, "bgtasks_task_event")(
            task=task,
            event=event,
            load_result=functools.partial(self._store.load_result, task.request_id),
            load_devices=lambda: list(self._store.devices(request_id=task.request_id)),
            context=self._context,
        )
        messages = _messages(returned) or ()
        return Settlement(
            replaced_by=[NewDelivery(delivery.sink, MESSAGE, dict(m.payload), m.channel) for m in messages]
        )

    def _notify(self, app: Flask, call: DeliveryCall) -> Settlement:
        delivery = call.delivery
        decided = self._notifier.decide(delivery)
        if isinstance(decided, Deferred):
            return Settlement(due_at=decided.until)
        if decided is None:
            return Settlement()
        notification = decided
        hook = self._hook(call, "bgtasks_send_notification")
        with signalled(app, delivery.sink, notification) as sent:
            returned = hook(
                notification=notification,
                load_devices=lambda: self._notifier.devices(notification),
                context=self._context,
            )
            messages = _messages(returned)
            if messages is not None:  # it has several addressees, or none
                sent.discard()
        document = notifications.as_document(notification)
        parts = [
            NewDelivery(
                delivery.sink, PUSH, {"message": dict(message.payload), "notification": document}, message.channel
            )
            for message in messages or ()
        ]
        return Settlement(replaced_by=parts)

    def _push(self, app: Flask, call: DeliveryCall) -> Settlement:
        delivery = call.delivery
        gate = self._notifier.gate(delivery)
        if isinstance(gate, Deferred):
            return Settlement(due_at=gate.until)
        if gate:
            payload = delivery.payload or {}
            notification = notifications.of_document(payload["notification"], delivery.request_id)
            message = Message(
                delivery.channel,
                payload["message"],
                request_id=delivery.request_id,
                notification=notification,
                tries=delivery.tries,
            )
            hook = self._hook(call, "bgtasks_deliver_message")
            with signalled(app, delivery.sink, notification, message):
                hook(message=message, context=self._context)
        return Settlement()

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

    def _devices_of(self, task: Task) -> list[Device]:
        """Those of a task, and those of its owner."""
        owners = () if task.owner is None else self._store.devices(owner=task.owner)
        return [*self._store.devices(request_id=task.request_id), *owners]

    def _trouble(self, subject: str, text: str) -> None:
        try:
            self._plugins.hook.bgtasks_trouble(subject=subject, text=text, context=self._context)
        except BaseException:
            log.exception("a plugin failed in bgtasks_trouble: %s", subject)

    def _settlement(self, delivery: Delivery, error: BaseException, longest_wait: float | None) -> Settlement:
        # An answer of somebody else's server: PostgreSQL, say, stores no NUL, and then it would never be settled.
        what = one_line(f"{type(error).__name__}: {text_of(error)}")
        if isinstance(error, Undeliverable):
            log.warning("delivery %s to sink %r can never succeed: %s", delivery.id, delivery.sink, what)
            return Settlement(dead=True, error=what)
        wait = backoff(delivery.tries)
        if longest_wait is not None:
            wait = min(wait, longest_wait)
        wanted = retry_after_seconds(error.after) if isinstance(error, RetryLater) else None
        if wanted is not None:
            wait = wanted
        due_at, tried = self._store.now() + timedelta(seconds=wait), was_tried(error)
        if due_at >= self._give_up_at(delivery):
            log.error("delivery %s to sink %r is given up: %s", delivery.id, delivery.sink, what)
            return Settlement(
                dead=True, error=f"given up after {counted(delivery.tries + tried, 'try', 'tries')}: {what}"
            )
        if not tried:
            log.debug("delivery %s to sink %r waits for %.0f s: %s", delivery.id, delivery.sink, wait, what)
            return Settlement(due_at=due_at)
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


def _messages(returned: Sequence[Iterable[Message]]) -> list[Message] | None:
    """What a plugin's hook returned: its messages, None where it has done everything itself."""
    return list(returned[0]) if returned else None


def _reply(error: BaseException) -> Reply:
    """What an error says about the sink."""
    rest = max(MIN_REST_SECONDS, retry_after_seconds(error.after) or 0.0) if isinstance(error, Overloaded) else 0.0
    answered = isinstance(error, Undeliverable) or getattr(error, "after", None) is not None
    return Reply(answered, rest, one_line(f"{type(error).__name__}: {text_of(error)}"), tried=was_tried(error))
