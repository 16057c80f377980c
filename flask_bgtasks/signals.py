"""The blinker signals. The sender is the app; receivers run at once, in the process and thread where it happened.

An exception in a receiver is logged and contained: it cannot harm a task.
"""

from __future__ import annotations

from typing import Any

from blinker import Namespace, Signal

from .runtime.background_thread import Contained

_signals = Namespace()

task_accepted = _signals.signal("bgtasks-task-accepted", "A task was stored. ``task``, ``event``.")
task_started = _signals.signal("bgtasks-task-started", "An attempt began. ``task``, ``event``.")
task_progress = _signals.signal("bgtasks-task-progress", "New progress was stored. ``task``, ``progress``.")
step_started = _signals.signal("bgtasks-step-started", "A step began. ``request_id``, ``step`` (the path of names).")
step_finished = _signals.signal(
    "bgtasks-step-finished", "A step ended. ``request_id``, ``step`` (the path of names), ``seconds``."
)
task_retrying = _signals.signal("bgtasks-task-retrying", "A task was opened again. ``task``, ``event``.")
task_completed = _signals.signal("bgtasks-task-completed", "A task was completed. ``task``, ``event``.")
task_failed = _signals.signal("bgtasks-task-failed", "A task failed for good. ``task``, ``event``.")
task_rejected = _signals.signal(
    "bgtasks-task-rejected",
    "A task's view refused its request with a 4xx: sent instead of ``task_failed``. ``task``, ``event``.",
)
task_cancelled = _signals.signal("bgtasks-task-cancelled", "A task was cancelled. ``task``, ``event``.")
task_recovered = _signals.signal(
    "bgtasks-task-recovered", "An attempt took over from one whose lease ran out. ``task``, ``event``."
)
notification_sent = _signals.signal(
    "bgtasks-notification-sent", "A sink sent one. ``notification``, ``sink``, ``message`` (to which device)."
)
notification_failed = _signals.signal(
    "bgtasks-notification-failed",
    "A sink could not send one. ``notification``, ``sink``, ``message`` (to which device), ``error``, ``final``.",
)


def send(signal: Signal, app: Any, **values: Any) -> None:
    """Call the receivers of a signal independently: an exception in one does not keep the others from being called."""
    if not signal.receivers:
        return
    for receiver in list(signal.receivers_for(app)):
        with Contained("a receiver of %s failed: %r", signal, receiver):
            receiver(app, **values)
