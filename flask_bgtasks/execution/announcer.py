"""Announces the changes of this process: sends signals at once, in the same thread, and wakes the outbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from blinker import Signal
from flask import Flask

from .. import signals
from ..core.model import Event, EventType, Progress, Task
from ..core.steps import StepNode

_SIGNALS: dict[EventType, Signal] = {
    EventType.ACCEPTED: signals.task_accepted,
    EventType.STARTED: signals.task_started,
    EventType.RETRYING: signals.task_retrying,
    EventType.REOPENED: signals.task_retrying,
    EventType.COMPLETED: signals.task_completed,
    EventType.FAILED: signals.task_failed,
    EventType.CANCELLED: signals.task_cancelled,
}

_DELIVERED = frozenset({*_SIGNALS, EventType.CANCEL_REQUESTED, EventType.RELEASED})
"""Events that are delivered to sinks."""


class Announcer:
    """The signals of one app.

    :param wake: called when there are new deliveries.
    """

    def __init__(self, app: Flask, *, wake: Callable[[], None]) -> None:
        self._app = app
        self._wake = wake

    def committed(self, task: Task, events: Sequence[Event]) -> None:
        """This process changed a task."""
        delivered = False
        for event in events:
            delivered = delivered or event.type in _DELIVERED
            signal = _SIGNALS.get(event.type)
            if signal is signals.task_failed and task.rejected:
                signal = signals.task_rejected
            if signal is not None and signal.receivers:
                signals.send(signal, self._app, task=task, event=event)
            if event.type is EventType.STARTED and event.data.get("recovered"):
                signals.send(signals.task_recovered, self._app, task=task, event=event)
        if delivered:
            self._wake()

    def progress_stored(self, task: Task, progress: Progress) -> None:
        """The flusher stored new progress."""
        signals.send(signals.task_progress, self._app, task=task, progress=progress)

    def step_changed(self, type: EventType, request_id: str, node: StepNode) -> None:
        """A step began or ended."""
        if type is EventType.STEP_STARTED:
            if signals.step_started.receivers:
                signals.send(signals.step_started, self._app, request_id=request_id, step=node.path)
        elif signals.step_finished.receivers:
            seconds = (node.finished or node.started) - node.started
            signals.send(signals.step_finished, self._app, request_id=request_id, step=node.path, seconds=seconds)
