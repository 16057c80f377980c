"""Flask views that generate content for a minute become stored tasks, which finish and are followed from anywhere.

These names are the public API; nothing else is promised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .app.handles import TaskFunction, TaskHandle
from .app.tracking import TrackedTask
from .core.backoff import Backoff
from .core.definitions import FunctionOptions, TaskOptions, TrackedOptions, ViewOptions
from .core.devices import Device
from .core.model import Event, EventType, Progress, Result, Status, Task
from .core.notifications import Message, Notification
from .core.webhooks import WebhookTarget
from .errors import (
    AlreadyClaimed,
    AmbiguousTask,
    AnonymousQueueFull,
    AtCapacity,
    BackgroundTasksError,
    CancelRequested,
    ConfigurationError,
    DeviceGone,
    FromNewerVersion,
    IdempotencyConflict,
    LeaseLost,
    LimitReached,
    LoginLost,
    NotSerializable,
    NotStorable,
    OutcomeUnknown,
    Overloaded,
    OwnerQueueFull,
    PayloadTooLarge,
    QueueFull,
    RetryLater,
    ShuttingDown,
    StoreUnavailable,
    StoreUnusable,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    TaskFinished,
    TaskNotFound,
    TaskTimeout,
    TransitionRefused,
    Undeliverable,
    UnknownTask,
    WaitTimeout,
)
from .extension import BackgroundTasks
from .hookspecs import hookimpl
from .pipeline.checkpoint import checkpoint
from .pipeline.reporting import copy_current_task, current_task, step, track
from .runners.base import Runner, WorkerProcess
from .runners.publishing import PublishingRunner
from .sink_context import SinkContext
from .stores.base import Store

__all__ = [
    "AlreadyClaimed",
    "AmbiguousTask",
    "AnonymousQueueFull",
    "AtCapacity",
    "BackgroundTasks",
    "BackgroundTasksError",
    "Backoff",
    "CancelRequested",
    "ConfigurationError",
    "Device",
    "DeviceGone",
    "Event",
    "EventType",
    "FromNewerVersion",
    "FunctionOptions",
    "IdempotencyConflict",
    "LeaseLost",
    "LimitReached",
    "LoginLost",
    "Message",
    "NotSerializable",
    "NotStorable",
    "Notification",
    "OutcomeUnknown",
    "Overloaded",
    "OwnerQueueFull",
    "PayloadTooLarge",
    "Progress",
    "PublishingRunner",
    "QueueFull",
    "Result",
    "RetryLater",
    "Runner",
    "ShuttingDown",
    "SinkContext",
    "Status",
    "Store",
    "StoreUnavailable",
    "StoreUnusable",
    "Task",
    "TaskCancelled",
    "TaskExpired",
    "TaskFailed",
    "TaskFinished",
    "TaskFunction",
    "TaskHandle",
    "TaskNotFound",
    "TaskOptions",
    "TaskTimeout",
    "TrackedOptions",
    "TrackedTask",
    "TransitionRefused",
    "Undeliverable",
    "UnknownTask",
    "ViewOptions",
    "WaitTimeout",
    "WebhookTarget",
    "WorkerProcess",
    "checkpoint",
    "copy_current_task",
    "current_task",
    "hookimpl",
    "step",
    "track",
]

__version__: str

if not TYPE_CHECKING:  # or checkers would take every misspelt name for a string

    def __getattr__(name):
        """Look ``__version__`` up when somebody asks: an import does not wait until the metadata is read."""
        if name == "__version__":
            from importlib.metadata import version

            return version("flask-bgtasks")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
