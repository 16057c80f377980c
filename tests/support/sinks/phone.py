"""A sink with an address book, the devices in it, and its worker by hand."""

import threading

from flask_bgtasks import Message, hookimpl
from flask_bgtasks.core.devices import FCM_TOKEN, make_device
from tests.support.waiting import PATIENCE


class Phone:
    """A sink with an address book: records what each device was sent, or fails as it is told to."""

    name = "phone"

    def __init__(self, *, concurrency=1):
        self.concurrency = concurrency
        self.sent = []
        self.errors = {}  # by device: what to raise, one after the other
        self.tried = []
        self.at_once = self.most_at_once = 0
        self.gate = None  # every delivery waits here until as many are there
        self.told = threading.Condition()  # protects all of this

    @hookimpl
    def bgtasks_send_notification(self, notification, load_devices):
        return [
            Message(f"device:{device.id}", {"to": device.value, "title": notification.in_language(device.lang).title})
            for device in load_devices()
        ]

    @hookimpl
    def bgtasks_deliver_message(self, message):
        to = message.payload["to"]
        with self.told:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.gate is not None:
                self.gate.wait(10)
            with self.told:
                self.tried.append(to)
                self.told.notify_all()
                errors = self.errors.get(to)
                if errors:
                    raise errors.pop(0)
                self.sent.append((to, message.payload["title"]))
                self.told.notify_all()
        finally:
            with self.told:
                self.at_once -= 1

    def wait_for(self, found):
        with self.told:
            assert self.told.wait_for(found, PATIENCE), (self.sent, self.tried)


def register(store, value, *, owner="anna", kind=FCM_TOKEN, lang=None):
    """A device of Anna's, if nobody else is named."""
    return store.save_device(make_device(kind, value, owner=owner, lang=lang), max_devices=20)


def deliver_due(deliveries):
    """What a worker does in one go, by hand; how many there were."""
    due = deliveries.due("phone", 100)
    for delivery in due:
        deliveries.deliver(delivery)
    return len(due)
