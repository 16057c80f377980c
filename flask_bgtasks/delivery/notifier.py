"""Decides about a task's notification: its text, its devices, and whether to send it now.

Asked when the notification is due, and again before each of its messages, since the owner may have seen the outcome or
muted it meanwhile. Knows the store and the plugins; sends nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..core import notifications
from ..core.devices import Device, of_user_token
from ..core.model import Status, Task, TokenNote
from ..core.notifications import DEVICE_CHANNEL, Notification, Notify
from ..core.preferences import DROP, Preferences
from ..core.text.clean import text_of
from ..core.text.json_values import parsed
from ..errors import TaskNotFound, Undeliverable
from ..plugins import Plugins
from ..stores.base import Store
from ..stores.types import Delivery

if TYPE_CHECKING:
    from ..settings import Settings

    NotifyOf = Callable[[str], Notify]

log = logging.getLogger("flask_bgtasks")

NEVER, UNSEEN = "never", "unseen"

MAX_DEFERRAL = timedelta(minutes=10)
"""After which what is held is looked at again: its owner may have taken the quiet hours back."""


@dataclass(frozen=True, slots=True)
class NotifyPolicy:
    """What the settings say: ``BGTASKS_NOTIFY``, ``BGTASKS_NOTIFY_GRACE``, ``BGTASKS_NOTIFICATION_LINK``."""

    when: str = "always"
    grace: timedelta = timedelta(0)
    link: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> NotifyPolicy:
        """The rules of an app."""
        return cls(settings.notify, timedelta(seconds=settings.notify_grace), settings.notification_link)


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now, but ``until`` then."""

    until: datetime


class Notifier:
    """The decisions of one app.

    :param notify_of: the ``notify`` option of a task by its name.
    """

    def __init__(self, store: Store, plugins: Plugins, *, notify_of: NotifyOf, rules: NotifyPolicy) -> None:
        self._store = store
        self._plugins = plugins
        self._notify_of = notify_of
        self._rules = rules

    def delay(self, name: str, status: Status) -> timedelta | None:
        """How long after its end a task's notification is due, None if it has none."""
        if self._rules.when == NEVER or notifications.asked_for(status, self._notify_of(name)) is None:
            return None
        return self._rules.grace if self._rules.when == UNSEEN else timedelta(0)

    def decide(self, delivery: Delivery) -> Notification | Deferred | None:
        """What is to be sent for a notification that has come due, None for nothing.

        :raises Undeliverable: it cannot be made.
        """
        if delivery.payload is not None:
            return notifications.of_document(delivery.payload, delivery.request_id)
        task = self.task(delivery)
        held = self.gate(delivery, task)
        if held is not True:
            return held or None
        made = self._made(task)
        if made is not None and self._given(task) is None:
            made = replace(made, user_token=None)
        return made and self._shaped(task, made)

    def gate(self, delivery: Delivery, task: Task | None = None) -> bool | Deferred:
        """Whether what is told about a task may still be told, and now."""
        if delivery.request_id is None:
            return True
        task = task or self.task(delivery)
        if not self._goes_to_its_owner(delivery, task):
            return False
        if task.seq != delivery.seq or task.seen_at is not None or task.muted_at is not None:
            return False  # opened again, and the next outcome brings its own; or not wanted any more
        if self._rules.when == UNSEEN and task.told_at is not None:
            return False
        preferences = self._preferences(task.owner)
        if not preferences.wants(task.status.value, task.name):
            return False
        quiet = preferences.quiet_hours
        now = self._store.now()
        until = quiet.until(now) if quiet is not None else None
        if quiet is None or until is None:
            return True
        return False if quiet.then == DROP else Deferred(min(until, now + MAX_DEFERRAL))

    def devices(self, notification: Notification) -> list[Device]:
        """Where a notification goes: its owner's devices, and the address that came with the request, each once."""
        found = [] if notification.owner is None else list(self._store.devices(owner=notification.owner))
        if notification.user_token:
            said = {"kind": notification.user_token_kind, "lang": notification.user_token_lang}
            given = of_user_token(notification.user_token, owner=notification.owner, **said)
            known = {device.value for device in found} | {device.installation for device in found} - {None}
            if given.value not in known and given.installation not in known:
                found.append(given)
        return found

    def _goes_to_its_owner(self, delivery: Delivery, task: Task) -> bool:
        """Whether a message to a device may go there: it may have changed hands since it was written."""
        if task.owner is None or not delivery.channel.startswith(DEVICE_CHANNEL):
            return True
        device_id = delivery.channel.removeprefix(DEVICE_CHANNEL)
        known = self._store.find_device(device_id)
        if known is not None:
            return known.owner == task.owner
        given = self._given(task)
        return given is not None and given.id == device_id

    def _given(self, task: Task) -> Device | None:
        """The address that came with a task's request, None if none did, or if it is not its owner's any more."""
        if not task.user_token:
            return None
        note = task.token_note or TokenNote()
        given = of_user_token(task.user_token, kind=note.kind, lang=note.lang, owner=task.owner)
        if task.owner is None:  # it was given for this task, whoever has logged in there since
            return given
        known = self._store.find_device(given.id)
        if known is None:
            return None if note.registered else given
        return given if known.owner == task.owner else None

    def task(self, delivery: Delivery) -> Task:
        """The task that a delivery is about. :raises Undeliverable: it is gone, or the delivery names none."""
        if delivery.request_id is None:
            raise Undeliverable("the delivery names no task")
        try:
            return self._store.get(delivery.request_id)
        except TaskNotFound:
            raise Undeliverable(f"task {delivery.request_id} is gone") from None

    def _preferences(self, owner: str | None) -> Preferences:
        return Preferences.from_stored(None if owner is None else self._store.load_preferences(owner))

    def _made(self, task: Task) -> Notification | None:
        try:
            return notifications.for_task(task, self._notify_of(task.name), self._result(task), link=self._rules.link)
        except BaseException as error:
            raise Undeliverable(
                f"notify= of task {task.name!r} failed: {type(error).__name__}: {text_of(error)}"
            ) from error

    def _result(self, task: Task) -> Any:
        result = self._store.load_result(task.request_id)
        found = parsed(result.body) if result is not None and result.is_json else None
        return None if found is None else found[0]

    def _shaped(self, task: Task, notification: Notification) -> Notification | None:
        try:
            opinion = self._plugins.hook.bgtasks_prepare_notification(task=task, notification=notification)
            if opinion is False:
                return None
            if opinion is None or opinion is True:
                return notification
            if not isinstance(opinion, Notification):
                raise TypeError(f"expected a Notification, False or None, got {type(opinion).__name__}")
            return notifications.reshaped(opinion, notification)
        except BaseException:  # in a delivery thread, where SystemExit ends nothing but the thread
            log.exception("a plugin failed to prepare the notification of task %s", task.request_id)
            return notification
