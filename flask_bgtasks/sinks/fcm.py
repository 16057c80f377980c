"""Sends notifications by Firebase Cloud Messaging: to phones, and to browsers that use Firebase.

One message for each device, each owed on its own. What is sent is made in :mod:`flask_bgtasks.fcm.messages`, how in
:mod:`flask_bgtasks.fcm.client`.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flask import current_app

from ..devices import FCM_TOKEN, FID, Device, of_user_token
from ..errors import BackgroundTasksError, DeviceGone, RetryLater, Undeliverable
from ..fcm.client import FcmClient, connect
from ..fcm.messages import MOST_TTL_SECONDS, Address, Push, of_notification
from ..forks import after_fork_in_child
from ..hookspecs import hookimpl
from ..model import Progress, Task
from ..notifications import Message, Notification
from ..preferences import Preferences

if TYPE_CHECKING:
    from flask import Flask

    from ..settings import Settings

log = logging.getLogger("flask_bgtasks")

KINDS = (FID, FCM_TOKEN)

APPLE_SECONDS = 1200.0
"""Least between two silent pushes to an Apple device: "not more than two or three per hour" (developer.apple.com,
"Pushing background updates to your App")."""

REMEMBERED = 10_000  # tasks whose step is known


class FcmSink:
    """``BGTASKS_SINKS = ["fcm"]``.

    :param ttl: how long FCM tries to reach a device that is off.
    :param dry_run: FCM checks everything and delivers nothing.
    :param concurrency: messages that are sent at once.
    """

    name = "fcm"
    device_kinds = KINDS

    def __init__(
        self,
        client: FcmClient,
        *,
        ttl: timedelta = timedelta(seconds=MOST_TTL_SECONDS),
        dry_run: bool = False,
        concurrency: int = 8,
    ) -> None:
        self._client = client
        self._ttl = int(min(ttl.total_seconds(), MOST_TTL_SECONDS))
        self._dry_run = dry_run
        self.concurrency = concurrency

    @classmethod
    def from_settings(cls, app: Flask, settings: Settings) -> FcmSink:
        """Made by its name. :raises ConfigurationError: there are no credentials, or the extra is not installed."""
        client, seconds = connect(app, settings), settings.progress_push_seconds
        given: dict[str, Any] = {
            "ttl": settings.expires_after,
            "dry_run": settings.fcm_dry_run,
            "concurrency": settings.push_concurrency,
        }
        return cls(client, **given) if seconds is None else FcmProgressSink(client, seconds=seconds, **given)

    @hookimpl
    def bgtasks_send_notification(
        self, notification: Notification, load_devices: Callable[[], list[Device]]
    ) -> Iterator[Message]:
        for device in load_devices():
            if device.kind in KINDS:
                to = {"kind": device.kind, "value": device.value, "id": device.id}
                yield Message(f"device:{device.id}", {"to": to, "lang": device.lang})

    @hookimpl
    def bgtasks_deliver_message(self, message: Message) -> None:
        if message.notification is None:
            raise Undeliverable("a message for FCM that tells nothing")
        address = Address(**message.payload["to"])
        push = of_notification(message.notification, address, lang=message.payload["lang"], ttl=self._ttl)
        self._client.send(push, dry_run=self._dry_run)

    @hookimpl
    def bgtasks_check(self, token: str | None) -> Iterable[tuple[str, str | None]]:
        what = f"FCM, project {self._client.project}, by {self._client.source}"
        try:
            self._client.fetch_token()
        except BackgroundTasksError as error:
            yield what, str(error)
            return
        yield what, None
        if token is None:
            return
        device = of_user_token(token)
        push = Push(Address(device.kind, device.value, device.id), title="flask-bgtasks", body="A test.")
        try:
            self._client.send(push, dry_run=True)
        except BackgroundTasksError as error:
            yield "FCM, dry run", str(error)
        else:
            yield "FCM, dry run", None


class FcmProgressSink(FcmSink):
    """The same with silent pushes of progress, which wake the app so that it can refresh what it shows.

    At a change of the step, and at most one for each device in ``seconds``, over all tasks and processes.
    """

    def __init__(self, client: FcmClient, *, seconds: float, **given: Any) -> None:
        super().__init__(client, **given)
        self._seconds = seconds
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self._steps: OrderedDict[str, str | None] = OrderedDict()  # of running tasks; of the lane's thread

    @hookimpl
    def bgtasks_task_progress(self, task: Task, progress: Progress, load_devices: Callable[[], list[Device]]) -> None:
        if self._steps.get(task.request_id) == progress.step or task.owner is None or task.muted_at is not None:
            return
        self._steps[task.request_id] = progress.step
        if len(self._steps) > REMEMBERED:
            self._steps.popitem(last=False)
        store = current_app.extensions["bgtasks"].store
        if not wants_progress(store, task):
            return
        for device in load_devices():
            if device.kind in KINDS and store.take_mark(f"progress-push:{device.id}", self._span(device)):
                self._wake(store, task, progress, device)

    def _span(self, device: Device) -> timedelta:
        apple = (device.platform or "").lower() in ("ios", "ipados", "apple")
        return timedelta(seconds=max(self._seconds, APPLE_SECONDS) if apple else self._seconds)

    def _wake(self, store: Any, task: Task, progress: Progress, device: Device) -> None:
        data = {
            "request_id": task.request_id,
            "status": task.status.value,
            "name": task.name,
            "seq": str(task.seq),
            "attempt": str(task.attempt),
            "progress_percentage": f"{progress.percentage:g}",
            "step": progress.step or "",
        }
        address = Address(device.kind, device.value, device.id)
        try:
            self._client.send(
                Push(address, data=data, tag=task.request_id, ttl=int(self._seconds)), dry_run=self._dry_run
            )
        except DeviceGone:
            store.forget_device(device.id)
        except RetryLater as error:  # the next step brings the next
            log.info("progress of task %s was not pushed: %s", task.request_id, error)


def wants_progress(store: Any, task: Task) -> bool:
    """Whether a task's owner wants to be told how it is getting on, and now."""
    document = None if task.owner is None else store.load_preferences(task.owner)
    try:
        preferences = Preferences() if document is None else Preferences.from_document(document)
    except ValueError:
        return True
    quiet = preferences.quiet_hours
    return preferences.wants("progress", task.name) and (quiet is None or quiet.until(store.now()) is None)
