"""What silent progress pushes and Live Activities share: who gets them, and when none is sent.

A progress push is never retried: the next step sends another one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core.backoff import Backoff
from ..core.devices import Device
from ..core.model import Task
from ..errors import DeviceGone, Overloaded, RetryLater, Undeliverable
from .cooldown import Cooldowns

if TYPE_CHECKING:
    from ..sink_context import SinkContext

log = logging.getLogger("flask_bgtasks")

COOLDOWN_SECONDS = 60.0
"""For which no progress is pushed after FCM could not be reached: each try may take seconds of the sink's worker, which
the notifications need."""

_FCM = "FCM"


class PushCooldown:
    """Whether FCM is left alone by pushes of progress, because it could not be reached a moment ago."""

    def __init__(self) -> None:
        self._cooldowns = Cooldowns(Backoff(first=COOLDOWN_SECONDS, longest=COOLDOWN_SECONDS))

    @property
    def left(self) -> float:
        """Seconds until FCM is asked again, 0 if it may be now."""
        return self._cooldowns.left(_FCM)

    def push(self, send: Callable[[], None], *, context: SinkContext, device: Device, task: Task) -> None:
        """Push progress to one device. What is raised stays here: other devices are to get theirs."""
        try:
            probe = self._cooldowns.begin(_FCM, _FCM)
        except RetryLater as error:  # another thread finds out whether it is back
            log.debug("progress of task %s is not pushed: %s", task.request_id, error)
            return
        try:
            send()
        except DeviceGone:
            probe.answered()
            context.forget_device(device.id)
        except RetryLater as error:
            log.info("progress of task %s was not pushed: %s", task.request_id, error)
            if isinstance(error, Overloaded) or error.after is None:
                probe.refused(max(COOLDOWN_SECONDS, error.after or 0.0))
            else:  # it is of this device alone
                probe.answered()
        except Undeliverable as error:
            probe.answered()
            log.warning("progress of task %s cannot be pushed: %s", task.request_id, error)
        else:
            probe.answered()


def wants_progress(context: SinkContext, task: Task) -> bool:
    """Whether a task's owner wants to be told how it is getting on, and now."""
    if task.owner is None:
        return True
    preferences = context.load_preferences(task.owner)
    quiet = preferences.quiet_hours
    return preferences.wants("progress", task.name) and (quiet is None or quiet.until(context.now()) is None)
