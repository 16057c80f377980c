"""Updates iOS Live Activities: they show a task's progress on the lock screen while the app is suspended.

Sent by FCM, with the device's address and the activity's own token. Steps are sent with low priority and at most every
15 seconds, the end with high priority: Apple limits messages of high priority. None of them rings: that is left to the
notification, which the ``fcm`` sink sends.

What comes too soon is shown later, and what takes long is shown again before it counts as old: the process that runs a
task follows it for that, in a thread of its own, which lives as long as there is anything to follow.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.devices import LIVE_ACTIVITY, Device, device_id
from ..core.model import Event, Progress, Task
from ..core.notifications import Message
from ..errors import DeviceGone
from ..firebase.features import LIVE_ACTIVITIES
from ..hookspecs import hookimpl
from ..runtime.background_thread import BackgroundThread
from ..runtime.fork import after_fork_in_child
from .fcm.client import FcmClient, connect
from .fcm.messages import Activity, Push, PushAddress, of_step
from .progress_push import PushCooldown, wants_progress

if TYPE_CHECKING:
    from flask import Flask

    from ..settings import Settings
    from ..sink_context import SinkContext

log = logging.getLogger("flask_bgtasks")

UPDATE_SECONDS = 15.0
"""Between two updates of one activity. Apple names no budget; more often than that they come late all the same."""

STALE_SECONDS = 90  # after which the screen says that what it shows is old
REFRESH_SECONDS = 60.0  # after which what still goes on is shown again, well before that

DISMISS_SECONDS = 4 * 3600
"""How long an ended activity stays on the lock screen: the longest that Apple keeps it (ActivityKit, "Displaying live
data with Live Activities": up to four hours)."""

LAST_PUSH_SECONDS = 2.0  # for an activity that is being shown when the app is closed

REMEMBERED = 10_000


@dataclass(slots=True)
class _Shown:
    """What an activity shows: which step, and since when (time.monotonic)."""

    step: str | None
    at: float


@dataclass(slots=True)
class _Followed:
    """A task that runs here and has activities: where it is now, and when they are looked at (time.monotonic)."""

    context: SinkContext
    progress: Progress
    due: float


class LiveActivitySink:
    """``BGTASKS_SINKS = ["fcm", "live_activity"]``.

    :param dry_run: FCM checks everything and delivers nothing.
    """

    name = "live_activity"

    def __init__(self, client: FcmClient, *, dry_run: bool = False, concurrency: int = 16) -> None:
        self._client = client
        self._dry_run = dry_run
        self.concurrency = concurrency
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self._changed = threading.Condition()  # protects the two below; notified when there is another due
        self._followed: dict[str, _Followed] = {}
        self._thread = BackgroundThread("bgtasks-live-activity", lambda closed: self._serve())
        # _showing protects the two below, and is held while they are sent: no step is to overtake a later one.
        self._showing = threading.Lock()
        self._shown: OrderedDict[str, _Shown] = OrderedDict()
        self._cooldown = PushCooldown()
        # Of the sink worker's thread: at which step of a task its activities were looked up.
        self._looked: OrderedDict[str, _Shown] = OrderedDict()

    @classmethod
    def from_settings(cls, app: Flask, settings: Settings) -> LiveActivitySink:
        """Made by its name.

        :raises ConfigurationError: there are no credentials, or the extra is not installed, or too old a version of it.
        """
        client = connect(app, settings)
        LIVE_ACTIVITIES.require("the sink 'live_activity'")
        return cls(client, dry_run=settings.fcm_dry_run, concurrency=settings.push_concurrency)

    @property
    def following(self) -> list[str]:
        """The tasks whose activities this process keeps going."""
        with self._changed:
            return list(self._followed)

    @hookimpl
    def bgtasks_task_progress(
        self, task: Task, progress: Progress, load_devices: Callable[[], list[Device]], context: SinkContext
    ) -> None:
        with self._changed:
            followed = self._followed.get(task.request_id)
            if followed is not None:
                followed.progress = progress
        if not self._look_is_due(task, progress):
            return
        activities = [device for device in load_devices() if device.kind == LIVE_ACTIVITY]
        if activities:
            self._follow(task.request_id, progress, context)
            self._look(task.request_id, activities)

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

    # -- showing -------------------------------------------------------------------------------------------------------

    def _look(self, request_id: str, activities: Sequence[Device]) -> None:
        """Show where a task is on those of its activities that are due for it, and say when they are looked at again.

        By the sink worker's thread at a new step, by our own when its time has come.
        """
        with self._showing:
            with self._changed:
                followed = self._followed.get(request_id)
            if followed is None:
                return
            again = self._show(request_id, followed, activities)
        if again is None:
            self._forget(request_id)
            return
        with self._changed:
            followed.due = time.monotonic() + again
            self._changed.notify_all()

    def _show(self, request_id: str, followed: _Followed, activities: Sequence[Device]) -> float | None:
        """:returns: seconds until they are looked at again, None if that is over."""
        context, progress = followed.context, followed.progress
        at = int(context.now().timestamp())  # before the task is read: by the same clock, it ends after that
        task = _running(context, request_id, progress.attempt)
        if task is None or not activities:
            return None
        if task.muted_at is not None or not wants_progress(context, task):
            return REFRESH_SECONDS
        for device in activities:
            if left := self._cooldown.left:
                return left
            if self._wait(device, progress) > 0:
                continue
            activity = Activity(device.value, content_state(task, progress), at, stale_at=at + STALE_SECONDS)
            push = Push(_address(device.details), activity=activity)
            send = functools.partial(self._client.send, push, dry_run=self._dry_run)
            self._cooldown.push(send, context=context, device=device, task=task)
            if not self._cooldown.left:
                self._note(device, progress)
        return self._cooldown.left or min(self._wait(device, progress) for device in activities)

    def _wait(self, device: Device, progress: Progress) -> float:
        """Seconds until an activity is to show this."""
        shown = self._shown.get(device.id)
        if shown is None:
            return 0.0
        span = REFRESH_SECONDS if shown.step == progress.step else UPDATE_SECONDS
        return max(0.0, shown.at + span - time.monotonic())

    def _note(self, device: Device, progress: Progress) -> None:
        self._shown[device.id] = _Shown(progress.step, time.monotonic())
        self._shown.move_to_end(device.id)
        if len(self._shown) > REMEMBERED:
            self._shown.popitem(last=False)

    # -- following -----------------------------------------------------------------------------------------------------

    def _follow(self, request_id: str, progress: Progress, context: SinkContext) -> None:
        with self._changed:
            self._followed[request_id] = _Followed(context, progress, time.monotonic() + UPDATE_SECONDS)
            self._thread.start()

    def _forget(self, request_id: str) -> None:
        with self._changed:
            self._followed.pop(request_id, None)
            self._changed.notify_all()

    def _serve(self) -> None:
        while True:
            with self._changed:
                if not self._followed:
                    self._thread.retire()
                    return
                request_id, followed = min(self._followed.items(), key=lambda pair: pair[1].due)
                left = followed.due - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
            try:
                self._look_again(request_id, followed)
            except BaseException as error:  # the store is unreachable, say
                log.warning("the Live Activities of task %s cannot be updated: %s", request_id, type(error).__name__)
                with self._changed:
                    followed.due = time.monotonic() + UPDATE_SECONDS

    def _look_again(self, request_id: str, followed: _Followed) -> None:
        if followed.context.draining:  # its tasks go on elsewhere
            self._forget(request_id)
            return
        found = followed.context.devices(request_id=request_id)
        self._look(request_id, [device for device in found if device.kind == LIVE_ACTIVITY])

    @hookimpl
    def bgtasks_close(self, context: SinkContext) -> None:
        with self._changed:
            for request_id, followed in list(self._followed.items()):
                if followed.context is context:
                    del self._followed[request_id]
            self._changed.notify_all()
            idle = not self._followed
        if idle:  # nor does it follow tasks of another app
            self._thread.join(LAST_PUSH_SECONDS)
        self._client.close()

    # -- the end -------------------------------------------------------------------------------------------------------

    @hookimpl
    def bgtasks_task_event(
        self, task: Task, event: Event, load_devices: Callable[[], list[Device]]
    ) -> Iterator[Message]:
        if not event.type.terminal:
            return
        self._forget(task.request_id)
        for device in load_devices():
            if device.kind == LIVE_ACTIVITY:
                state = content_state(task, task.progress)
                yield Message(
                    f"activity:{device.id}",
                    {
                        "id": device.id,
                        "token": device.value,
                        "details": dict(device.details),
                        "at": int(event.at.timestamp()),
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


def _running(context: SinkContext, request_id: str, attempt: int) -> Task | None:
    """A task that is still in this attempt, None if it is not."""
    task = context.find_task(request_id)
    return task if task is not None and task.held and task.attempt == attempt else None


def content_state(task: Task, progress: Progress | None) -> dict[str, Any]:
    """What the app's ``ContentState`` holds: published, additions are allowed. All but ``status`` may be left out."""
    state: dict[str, Any] = {"status": task.status.value, "percentage": 0.0}
    if progress is not None:
        state["percentage"] = progress.percentage
        optional = {
            "step": None if progress.step is None else of_step(progress.step),
            "stepNumber": progress.step_number or None,
            "totalSteps": progress.total_steps,
        }
        state |= {key: value for key, value in optional.items() if value is not None}
    if task.done:
        state["seq"] = task.seq
    return state


def _address(details: Mapping[str, Any]) -> PushAddress:
    """The device that the activity is on."""
    device = details["device"]
    return PushAddress(device["kind"], device["value"], device_id(device["kind"], device["value"]))
