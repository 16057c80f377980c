"""Flask views that generate content for a minute become stored tasks, which finish and are followed from anywhere.

These names are the public API; nothing else is promised.
"""

from __future__ import annotations

from .app.handles import TaskHandle
from .app.tracking import TrackedTask
from .core.backoff import Backoff
from .core.definitions import TaskOptions
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
from .extension import BackgroundTasks, TaskFunction
from .hookspecs import hookimpl
from .pipeline.checkpoint import checkpoint
from .pipeline.reporting import copy_current_task, current_task, step, track
from .runners.base import Runner
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
    "QueueFull",
    "Result",
    "RetryLater",
    "Runner",
    "ShuttingDown",
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
    "TrackedTask",
    "TransitionRefused",
    "Undeliverable",
    "UnknownTask",
    "WaitTimeout",
    "WebhookTarget",
    "checkpoint",
    "copy_current_task",
    "current_task",
    "hookimpl",
    "step",
    "track",
]
