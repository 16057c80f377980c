"""Keeps Live Activities of iOS going: what a task is at on the lock screen, while the app itself is suspended.

By FCM, which wants the device's address and the activity's own token. Steps are shown at a low priority and at most
every 15 seconds, the end at a high one: Apple counts what comes at a high priority. Nothing of it rings: that is for
the notification, which the ``fcm`` sink sends.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import current_app

from ..devices import LIVE_ACTIVITY, Device, device_id
from ..errors import DeviceGone
from ..fcm.client import FcmClient, connect
from ..fcm.messages import Activity, Address, Push
from ..forks import after_fork_in_child
from ..hookspecs import hookimpl
from ..model import Event, Progress, Task
from ..notifications import Message
from .fcm import Silence, wants_progress

if TYPE_CHECKING:
    from flask import Flask

    from ..settings import Settings

UPDATE_SECONDS = 15.0
"""Between two updates of one activity. Apple names no budget; more often than that they come late all the same."""

STALE_SECONDS = 90  # after which the screen says that what it shows is old
DISMISS_SECONDS = 4 * 3600
"""How long an ended activity stays on the lock screen: the longest that Apple keeps it (ActivityKit, "Displaying live
data with Live Activities": up to four hours)."""

REMEMBERED = 10_000


@dataclass(slots=True)
class _Shown:
    """What an activity shows: which step, and since when (time.monotonic)."""

    step: str | None
    at: float


class LiveActivitySink:
    """``BGTASKS_SINKS = ["fcm", "live_activity"]``.

    :param dry_run: FCM checks everything and delivers nothing.
    """

    name = "live_activity"

    def __init__(self, client: FcmClient, *, dry_run: bool = False, concurrency: int = 8) -> None:
        self._client = client
        self._dry_run = dry_run
        self.concurrency = concurrency
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        # Of the lane's thread: what each activity shows, and at which step of a task its activities were looked up.
        self._shown: OrderedDict[str, _Shown] = OrderedDict()
        self._looked: OrderedDict[str, _Shown] = OrderedDict()
        self._silence = Silence()

    @classmethod
    def from_settings(cls, app: Flask, settings: Settings) -> LiveActivitySink:
        """Made by its name. :raises ConfigurationError: there are no credentials, or the extra is not installed."""
        return cls(connect(app, settings), dry_run=settings.fcm_dry_run, concurrency=settings.push_concurrency)

    @hookimpl
    def bgtasks_task_progress(self, task: Task, progress: Progress, load_devices: Callable[[], list[Device]]) -> None:
        if self._silence.reigns() or not self._look_is_due(task, progress):
            return
        activities = [device for device in load_devices() if device.kind == LIVE_ACTIVITY]
        due = [device for device in activities if self._due(device, progress)]
        store = current_app.extensions["bgtasks"].store
        if not due or task.muted_at is not None or not wants_progress(store, task):
            return
        now = int(time.time())
        for device in due:
            self._shown[device.id] = _Shown(progress.step, time.monotonic())
            self._shown.move_to_end(device.id)
            activity = Activity(device.value, content_state(task, progress), now, stale_at=now + STALE_SECONDS)
            with self._silence.after_failure(store, device, task):
                self._client.send(Push(_address(device.details), activity=activity), dry_run=self._dry_run)
            if self._silence.reigns():
                break
        while len(self._shown) > REMEMBERED:
            self._shown.popitem(last=False)

    def _look_is_due(self, task: Task, progress: Progress) -> bool:
        """At a new step, and now and then: progress is reported several times a second, and most tasks show nothing."""
        now, looked = time.monotonic(), self._looked.get(task.request_id)
        if looked is not None and looked.step == progress.step and now - looked.at < UPDATE_SECONDS:
            return False
        self._looked[task.request_id] = _Shown(progress.step, now)
        self._looked.move_to_end(task.request_id)
        if len(self._looked) > REMEMBERED:
            self._looked.popitem(last=False)
        return True

    def _due(self, device: Device, progress: Progress) -> bool:
        shown = self._shown.get(device.id)
        if shown is None:
            return True
        return shown.step != progress.step and time.monotonic() - shown.at >= UPDATE_SECONDS

    @hookimpl
    def bgtasks_task_event(
        self, task: Task, event: Event, load_devices: Callable[[], list[Device]]
    ) -> Iterator[Message]:
        if not event.type.terminal:
            return
        for device in load_devices():
            if device.kind == LIVE_ACTIVITY:
                now = int(task.completed_at.timestamp()) if task.completed_at else int(time.time())
                state = content_state(task, task.progress)
                yield Message(
                    f"activity:{device.id}",
                    {
                        "id": device.id,
                        "token": device.value,
                        "details": dict(device.details),
                        "at": now,
                        "state": state,
                    },
                )

    @hookimpl
    def bgtasks_deliver_message(self, message: Message) -> None:
        told = message.payload
        activity = Activity(told["token"], told["state"], told["at"], dismiss_at=told["at"] + DISMISS_SECONDS)
        try:
            self._client.send(Push(_address(told["details"]), activity=activity), dry_run=self._dry_run)
        except DeviceGone as gone:
            raise DeviceGone(str(gone), device_id=told["id"]) from gone


def content_state(task: Task, progress: Progress | None) -> dict[str, Any]:
    """What the app's ``ContentState`` holds: published, additions are allowed. All but ``status`` may be left out."""
    state: dict[str, Any] = {"status": task.status.value, "percentage": 0.0}
    if progress is not None:
        state["percentage"] = progress.percentage
        optional = {
            "step": progress.step,
            "stepNumber": progress.step_number or None,
            "totalSteps": progress.total_steps,
        }
        state |= {key: value for key, value in optional.items() if value is not None}
    if task.done:
        state["seq"] = task.seq
    return state


def _address(details: Mapping[str, Any]) -> Address:
    """The device that the activity is on."""
    device = details["device"]
    return Address(device["kind"], device["value"], device_id(device["kind"], device["value"]))
