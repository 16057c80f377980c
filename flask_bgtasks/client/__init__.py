"""The Python client: submits requests and follows their tasks, through lost networks and the end of its process.

These names are its public API. Needs the extra ``client`` for everything but :mod:`.io.firestore`.
"""

from __future__ import annotations

from ..errors import TaskFailed, TaskWasCancelled, WaitTimeout
from .clients import AsyncClient, AsyncTask, Client, Task
from .errors import (
    CredentialsRefused,
    InvalidRequestId,
    KeyReused,
    TaskGone,
    TaskRejected,
    TooManyPending,
    Unreachable,
)
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
    "InvalidRequestId",
    "KeyReused",
    "Kind",
    "Outcome",
    "Task",
    "TaskEvent",
    "TaskFailed",
    "TaskGone",
    "TaskRejected",
    "TaskWasCancelled",
    "Timing",
    "TooManyPending",
    "Unreachable",
    "WaitTimeout",
]
