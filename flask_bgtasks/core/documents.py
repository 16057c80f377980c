"""The published documents: ``background_tasks`` and ``request_progress``, as clients and Firestore see a task; and the
device, as its owner sees it.

Names never change meaning; additions are allowed. Pure: the caller brings links and hints.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from .devices import Device
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
        "rejected": task.rejected,
        "result_status": task.result_status,
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


def attention_document(task: Task) -> dict[str, Any]:
    """Whether a task's owner has seen its outcome, and wants to be told of it.

    Apart from :func:`task_document`: none of this is an event, so that ``seq`` does not tell two of them apart, and
    what is known by its ``seq`` (an ``ETag``, a mirror) would be out of date without anyone noticing.
    """
    return {
        "seen_at": rfc3339(task.seen_at),
        "seen_via": task.seen_via,
        "muted": task.muted_at is not None,
    }


def device_document(device: Device) -> dict[str, Any]:
    """A registered device. Its address is never in it."""
    return {
        "id": device.id,
        "kind": device.kind,
        "platform": device.platform,
        "app": device.app,
        "lang": device.lang,
        "created_at": rfc3339(device.created_at),
        "seen_at": rfc3339(device.seen_at),
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
