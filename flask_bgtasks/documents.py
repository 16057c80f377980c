"""The published documents: ``background_tasks`` and ``request_progress``, as clients and Firestore see a task.

Names never change meaning; additions are allowed. Pure: the caller brings links and hints.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from .model import Event, EventType, Progress, Task


def rfc3339(at: datetime | None) -> str | None:
    """UTC with ``Z`` and microseconds (RFC 3339, section 5.6)."""
    return None if at is None else at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def task_document(task: Task, result_data: Any = None) -> dict[str, Any]:
    """The ``background_tasks`` document. Tokens, workers and tracebacks are never in it.

    :param result_data: the result as parsed JSON; None while there is none, or when the answer was not JSON.
    """
    return {
        "request_id": task.request_id,
        "status": task.status.value,
        "created_at": rfc3339(task.created_at),
        "completed_at": rfc3339(task.completed_at),
        "result_data": result_data,
        "error_message": task.error_message,
        "name": task.name,
        "owner_uid": task.owner,
        "attempt": task.attempt,
        "seq": task.seq,
        "updated_at": rfc3339(task.updated_at),
        "expire_at": rfc3339(task.expire_at),
    }


def progress_document(task: Task) -> dict[str, Any]:
    """The ``request_progress`` document."""
    progress = task.progress or Progress(task.updated_at, task.attempt)
    return {
        "request_id": task.request_id,
        "step": progress.step,
        "step_number": progress.step_number,
        "total_steps": progress.total_steps,
        "details": progress.details,
        "progress_percentage": progress.percentage,
        "status": task.status.value,
        "last_updated": rfc3339(progress.updated_at),
        "eta_seconds": progress.eta_seconds,
        "attempt": task.attempt,
    }


def event_document(task_id: str, event: Event) -> dict[str, Any]:
    """One event, as streams and pages of events carry it. A progress event is a ``request_progress`` document."""
    progress = {"status": "processing", "last_updated": rfc3339(event.at)} if event.type is EventType.PROGRESS else {}
    return {
        "request_id": task_id,
        "seq": event.seq,
        "type": event.type.value,
        "at": rfc3339(event.at),
        "attempt": event.attempt,
        **progress,
        **event.data,
    }
