"""Makes a delivery, by its kind: reads what it is about, calls the hook of its sink, and says what comes of it.

The kinds are what the outbox keeps. Which deliveries there are is decided by the dispatcher, which also settles them.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flask import Flask

from ..core import notifications
from ..core.model import Event, Task
from ..core.notifications import Message
from ..errors import RetryLater, Undeliverable
from ..plugins import Plugins
from ..runtime.log_lines import Recurring
from ..sink_context import SinkContext
from ..stores.base import Store
from ..stores.types import Delivery, NewDelivery, Settlement
from .leases import DeliveryCall
from .notifier import Deferred, Notifier
from .sink_calls import signalled

log = logging.getLogger("flask_bgtasks")

EVENT = "event"
ERASED = "erased"
NOTIFICATION = "notification"
PUSH = "push"  # a message that came of a notification
MESSAGE = "message"  # one that came of an event

NEWER_SECONDS = 10.0
"""How long a delivery of a kind that is not known here is left to the processes that know it, before the next look: as
many times as it takes, since the deploy that brought them may be followed by its opposite."""


class DeliveryHandler:
    """Makes the deliveries of one app.

    :param confirm: sees, just before a hook is called, that the delivery is still leased to this process.
    """

    def __init__(
        self,
        store: Store,
        plugins: Plugins,
        notifier: Notifier,
        *,
        context: SinkContext,
        confirm: Callable[[DeliveryCall], None],
    ) -> None:
        self._store = store
        self._plugins = plugins
        self._notifier = notifier
        self._context = context
        self._confirm = confirm
        self._newer = Recurring(log)

    def handle(self, app: Flask, call: DeliveryCall) -> Settlement:
        """Make one delivery, of whatever kind.

        :raises LeaseOver: the delivery's lease is over. :raises Undeliverable: what it is about is gone.
        :raises Exception: what the sink raises.
        """
        delivery = call.delivery
        if delivery.kind == EVENT:
            return self._event(call)
        if delivery.kind == NOTIFICATION:
            return self._notification(app, call)
        if delivery.kind == PUSH:
            return self._push(app, call)
        payload = delivery.payload or {}
        if delivery.kind == MESSAGE:
            message = Message(delivery.channel, payload, request_id=delivery.request_id, tries=delivery.tries)
            self._hook(call, "bgtasks_deliver_message")(message=message, context=self._context)
        elif delivery.kind == ERASED:
            self._hook(call, "bgtasks_task_erased")(**payload, context=self._context)
        else:
            about = f"sink {delivery.sink!r}: a delivery of kind {delivery.kind!r}"
            self._newer.note("%s is left to the newer flask-bgtasks that stored it", about)
            raise RetryLater(about, after=NEWER_SECONDS, tried=False)
        return Settlement()

    def _hook(self, call: DeliveryCall, name: str) -> Callable[..., Any]:
        """A hook of the sink that a delivery is for, to be called at once: whatever else is read for it was read."""
        hook = self._plugins.only(call.delivery.sink, name)
        self._confirm(call)
        return hook

    def _event(self, call: DeliveryCall) -> Settlement:
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

    def _notification(self, app: Flask, call: DeliveryCall) -> Settlement:
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
        task = self._notifier.task(delivery)
        events = self._store.events(task.request_id, after=delivery.seq - 1, limit=1)
        if not events or events[0].seq != delivery.seq:
            raise Undeliverable(f"event {delivery.seq} of task {task.request_id} is no longer kept")
        return task, events[0]


def _messages(returned: Sequence[Iterable[Message]]) -> list[Message] | None:
    """What a plugin's hook returned: its messages, None where it has done everything itself."""
    return list(returned[0]) if returned else None
