"""Sends notifications by Firebase Cloud Messaging: to phones, and to browsers that use Firebase.

One message for each device, each with its own delivery. :mod:`.messages` builds them, :mod:`.client` sends them.
"""

from __future__ import annotations

import logging
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ...core.devices import FCM_TOKEN, FID, Device, of_user_token
from ...core.model import Progress, Task
from ...core.notifications import DEVICE_CHANNEL, Message, Notification
from ...errors import BackgroundTasksError, Undeliverable
from ...firebase.features import FIDS
from ...hookspecs import hookimpl
from ...runtime.fork import after_fork_in_child
from ..progress_push import PushCooldown, wants_progress
from .client import FcmClient, connect
from .messages import MAX_TTL_SECONDS, Push, PushAddress, of_notification, of_step

if TYPE_CHECKING:
    from flask import Flask

    from ...settings import Settings
    from ...sink_context import SinkContext

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
    :param android_channel: the app's notification channel on Android.
    """

    name = "fcm"
    device_kinds = KINDS

    def __init__(
        self,
        client: FcmClient,
        *,
        ttl: timedelta = timedelta(seconds=MAX_TTL_SECONDS),
        dry_run: bool = False,
        concurrency: int = 16,
        android_channel: str | None = None,
    ) -> None:
        self._client = client
        self._android_channel = android_channel
        self._ttl = int(min(ttl.total_seconds(), MAX_TTL_SECONDS))
        self._dry_run = dry_run
        self.concurrency = concurrency

    @classmethod
    def from_settings(cls, app: Flask, settings: Settings) -> FcmSink:
        """Made by its name. :raises ConfigurationError: there are no credentials, or the extra is not installed."""
        client, seconds = connect(app, settings), settings.progress_push_seconds
        if FIDS.lacking is not None:
            log.warning("FCM: %s. Devices with a registration token are served", FIDS.lacking)
        given: dict[str, Any] = {
            "ttl": settings.expires_after,
            "dry_run": settings.fcm_dry_run,
            "concurrency": settings.push_concurrency,
            "android_channel": settings.android_channel,
        }
        return cls(client, **given) if seconds is None else FcmProgressSink(client, seconds=seconds, **given)

    @hookimpl
    def bgtasks_send_notification(
        self, notification: Notification, load_devices: Callable[[], list[Device]]
    ) -> Iterator[Message]:
        for device in load_devices():
            if device.kind in KINDS:
                to = {"kind": device.kind, "value": device.value, "id": device.id}
                # A push by hand is of no request: it needs a name of its own, for a second try to replace the first.
                tag = notification.request_id or str(uuid.uuid4())
                yield Message(DEVICE_CHANNEL + device.id, {"to": to, "lang": device.lang, "tag": tag})

    @hookimpl
    def bgtasks_deliver_message(self, message: Message) -> None:
        if message.notification is None:
            raise Undeliverable("a message for FCM without content")
        address = PushAddress(**message.payload["to"])
        told = message.payload
        push = of_notification(
            message.notification,
            address,
            lang=told["lang"],
            ttl=self._ttl,
            tag=told.get("tag"),
            android_channel=self._android_channel,
        )
        self._client.send(push, dry_run=self._dry_run)

    @hookimpl
    def bgtasks_close(self) -> None:
        self._client.close()

    @hookimpl
    def bgtasks_check(self, token: str | None) -> Iterable[tuple[str, str | None]]:
        what = f"FCM, project {self._client.project}, by {self._client.source}"
        if FIDS.lacking is not None:
            what += f" (registration tokens only: {FIDS.lacking})"
        try:
            self._client.fetch_token()
        except BackgroundTasksError as error:
            yield what, str(error)
            return
        yield what, None
        if token is None:
            return
        device = of_user_token(token)
        push = Push(PushAddress(device.kind, device.value, device.id), title="flask-bgtasks", body="A test.")
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
        self._steps: OrderedDict[str, str | None] = OrderedDict()  # of running tasks; of the sink worker's thread
        self._cooldown = PushCooldown()

    @hookimpl
    def bgtasks_task_progress(
        self, task: Task, progress: Progress, load_devices: Callable[[], list[Device]], context: SinkContext
    ) -> None:
        if self._steps.get(task.request_id) == progress.step or task.owner is None or task.muted_at is not None:
            return
        if self._cooldown.left:
            return
        self._steps[task.request_id] = progress.step
        if len(self._steps) > REMEMBERED:
            self._steps.popitem(last=False)
        if not wants_progress(context, task):
            return
        for device in load_devices():
            # A browser has to show something for each push, and shows a sentence of its own where the page does not.
            if device.kind not in KINDS or _platform(device) == "web" or self._cooldown.left:
                continue
            if context.take_mark(f"progress-push:{device.id}", self._span(device)):
                self._wake(context, task, progress, device)

    def _span(self, device: Device) -> timedelta:
        apple = _platform(device) in ("ios", "ipados", "apple")
        return timedelta(seconds=max(self._seconds, APPLE_SECONDS) if apple else self._seconds)

    def _wake(self, context: SinkContext, task: Task, progress: Progress, device: Device) -> None:
        data = {
            "request_id": task.request_id,
            "status": task.status.value,
            "name": task.name,
            "seq": str(task.seq),
            "attempt": str(task.attempt),
            "progress_percentage": f"{progress.percentage:g}",
            "step": of_step(progress.step or ""),
        }
        address = PushAddress(device.kind, device.value, device.id)
        push = Push(address, data=data, tag=task.request_id, ttl=int(self._seconds))
        self._cooldown.push(
            lambda: self._client.send(push, dry_run=self._dry_run), context=context, device=device, task=task
        )


def _platform(device: Device) -> str:
    return (device.platform or "").lower()
