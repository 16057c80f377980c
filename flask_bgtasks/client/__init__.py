"""The Python client: submits requests and follows their tasks, across lost networks and restarts of its process.

These names are its public API. Needs the extra ``client`` for everything but :mod:`.io.firestore`.
"""

from __future__ import annotations

from ..errors import (
    CredentialsRefused,
    FirestoreUnavailable,
    InvalidRequestId,
    KeyReused,
    TaskCancelled,
    TaskFailed,
    TaskGone,
    TaskRejected,
    TooManyPending,
    Unreachable,
    WaitTimeout,
)
from .clients import AsyncClient, AsyncTask, Client, Task
from .events import Kind, Outcome, TaskEvent
from .flows.ladder import Timing
from .io.firestore import FirestoreReader
from .service import BackgroundTaskCompletionService

__all__ = [
    "AsyncClient",
    "AsyncTask",
    "BackgroundTaskCompletionService",
    "Client",
    "CredentialsRefused",
    "FirestoreReader",
    "FirestoreUnavailable",
    "InvalidRequestId",
    "KeyReused",
    "Kind",
    "Outcome",
    "Task",
    "TaskCancelled",
    "TaskEvent",
    "TaskFailed",
    "TaskGone",
    "TaskRejected",
    "Timing",
    "TooManyPending",
    "Unreachable",
    "WaitTimeout",
]
