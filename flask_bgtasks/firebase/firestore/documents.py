"""The two documents in Firestore: the published names, native times, an owner, and a result of any size.

A result that fits is in ``result_data``. A larger one is stored as bytes in the subcollection ``chunks``, and
``result_chunks`` has their number and digest. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.model import Progress, Result, Status, Task
from ...core.text.json_values import is_too_deep, parsed
from . import values

MAX_INLINE_BYTES = 700_000
"""Bytes of a result in the document: a document holds 1,048,576, an index of it or another field may want some."""

CHUNK_BYTES = 900_000
CHUNKS_PER_COMMIT = 4  # a request holds 10 MiB, and the emulator takes 4

MAX_TEXT = 4_000  # bytes of an error or of details


@dataclass(frozen=True, slots=True)
class Stored:
    """A task's document, and the chunks that its result needs beside it."""

    document: dict[str, Any]
    chunks: tuple[bytes, ...] = ()


def task_document(task: Task, result: Result | None) -> Stored:
    """The ``background_tasks`` document.

    :param result: what a completed task answered.
    """
    document: dict[str, Any] = {
        "request_id": task.request_id,
        "status": task.status.value,
        "created_at": task.created_at,
        "completed_at": task.completed_at,
        "result_data": None,
        "error_message": values.text(task.error_message, MAX_TEXT),
        "rejected": task.rejected,
        "result_status": task.result_status,
        "name": values.text(task.name, MAX_TEXT),
        "owner_uid": values.text(task.owner, MAX_TEXT),
        "attempt": task.attempt,
        "seq": task.seq,
        "updated_at": task.updated_at,
        "expire_at": task.expire_at,
        "retry_at": task.retry_at,
    }
    if result is None or task.status is not Status.COMPLETED:
        return Stored(document)
    data = _parsed(result)
    if data is not None:
        if values.native(data[0]) and values.size(data[0]) <= MAX_INLINE_BYTES:
            return Stored({**document, "result_data": data[0]})
        text = values.as_json(data[0])
        if len(text) <= MAX_INLINE_BYTES:
            return Stored({**document, "result_data": text, "result_encoding": "json"})
    chunks = tuple(result.body[at : at + CHUNK_BYTES] for at in range(0, len(result.body), CHUNK_BYTES))
    marker = {
        "count": len(chunks),
        "bytes": len(result.body),
        "sha256": hashlib.sha256(result.body).hexdigest(),
        "content_type": values.text(result.content_type, MAX_TEXT),
    }
    return Stored({**document, "result_chunks": marker}, chunks)


def progress_document(task: Task, progress: Progress | None) -> dict[str, Any]:
    """The ``request_progress`` document."""
    shown = progress or Progress(task.updated_at, task.attempt)
    return {
        "request_id": task.request_id,
        "step": values.text(shown.step, MAX_TEXT),
        "step_number": shown.step_number,
        "total_steps": shown.total_steps,
        "details": values.text(shown.details, MAX_TEXT),
        "progress_percentage": shown.percentage,
        "status": task.status.value,
        "last_updated": shown.updated_at,
        "eta_seconds": shown.eta_seconds,
        "attempt": task.attempt,
        "seq": task.seq,
        "owner_uid": values.text(task.owner, MAX_TEXT),
        "expire_at": task.expire_at,
    }


def chunk_document(number: int, data: bytes, task: Task) -> dict[str, Any]:
    """One piece of a result."""
    return {"number": number, "data": data, "owner_uid": task.owner, "expire_at": task.expire_at}


def chunk_id(number: int) -> str:
    """Sorts as the pieces do."""
    return f"{number:05d}"


def read_result(document: Mapping[str, Any], chunks: list[bytes]) -> Any:
    """The result of a document: parsed JSON, or bytes where it was something else.

    :param chunks: the ``data`` of its chunks in order, where ``result_chunks`` says that there are some.
    :raises ValueError: the chunks are not all there, or not those of this document.
    """
    marker = document.get("result_chunks")
    if marker is None:
        data: Any = document.get("result_data")
        return json.loads(data) if document.get("result_encoding") == "json" else data
    body = b"".join(chunks)
    if hashlib.sha256(body).hexdigest() != marker["sha256"]:
        raise ValueError(f"the result of task {document.get('request_id')} is incomplete: read its chunks again")
    result = Result(body, content_type=marker.get("content_type") or "")
    found = parsed(body) if result.is_json else None
    return body if found is None else found[0]


def _parsed(result: Result) -> tuple[Any] | None:
    """The result as JSON, None if it is something else."""
    found = parsed(result.body) if result.is_json else None
    return None if found is None or is_too_deep(found[0]) else found
