"""How tasks look over HTTP: the published documents with links and hints for clients. Pure.

Everything here depends only on the stored task, so that each ``seq`` has one representation and the ``ETag`` is right.
The exception is :func:`with_attention`, for answers whose ``ETag`` is computed from their whole content.
"""

from __future__ import annotations

import math
from typing import Any

from ...core.documents import attention_document, progress_document, rfc3339, task_document
from ...core.model import Result, Status, Task
from ...core.text.json_values import dumps as dumps  # what every answer is written with
from ...core.text.json_values import repeated

POLL_MS = 1000
"""What clients that poll have always done, where nothing better is known."""

MIN_POLL_MS, MAX_POLL_MS = 500, 3000
POLLS_TO_THE_END = 20  # a task that is expected to take 40 s more is asked for every 2 s

INLINE_RESULT_BYTES = 2**20
"""The largest result that the status document repeats, as a Firestore document is at most 1 MiB. Larger ones, and those
that are nested too deep, are told by ``result_omitted`` and read at ``links.result``."""


def links(request_id: str, base: str) -> dict[str, str]:
    """Where a task is read and acted upon. Paths without a host: proxies rename those.

    :param base: the path of the blueprint.
    """
    task = f"{base}/{request_id}"
    return {
        "self": task,
        "progress": f"{task}/progress",
        "events": f"{task}/events",
        "result": f"{task}/result",
        "cancel": f"{task}/cancel",
        "retry": f"{task}/retry",
        "seen": f"{task}/seen",
        "mute": f"{task}/mute",
        "live_activity": f"{task}/live-activity",
    }


def poll_after_ms(task: Task) -> int | None:
    """When a client that polls should ask again; None when there is nothing to wait for."""
    if task.done:
        return None
    eta = task.progress.eta_seconds if task.progress is not None else None
    if eta is None:
        return POLL_MS
    return int(min(MAX_POLL_MS, max(MIN_POLL_MS, eta * 1000 / POLLS_TO_THE_END)))


def retry_after(task: Task) -> str | None:
    """The ``Retry-After`` of an unfinished task: whole seconds (RFC 9110, section 10.2.3)."""
    after = poll_after_ms(task)
    return None if after is None else str(math.ceil(after / 1000))


def brief(task: Task, base: str) -> dict[str, Any]:
    """A task without its result, as lists have it."""
    document = task_document(task)
    del document["result_data"]
    return {
        **document,
        "cancel_requested_at": rfc3339(task.cancel_requested_at),
        "retry_at": rfc3339(task.retry_at),
        "done": task.done,
        "poll_after_ms": poll_after_ms(task),
        "progress": progress_document(task),
        "links": links(task.request_id, base),
    }


def with_attention(brief_json: bytes, task: Task) -> bytes:
    """A brief, as JSON, and whether its owner has seen it and wants to be told."""
    return b"".join((brief_json[:-1], b",", dumps(attention_document(task))[1:]))


def with_result(brief_json: bytes, task: Task, result: Result | None) -> bytes:
    """The whole status document: a brief, as JSON, and the result.

    :param result: what is stored; it is shown where the task is completed and answered in JSON.
    """
    data, omitted = b"null", False
    if result is not None and task.status is Status.COMPLETED and result.is_json:
        shown = None if len(result.body) > INLINE_RESULT_BYTES else _normal(result.body)
        data, omitted = shown or b"null", shown is None
    mark = b"true" if omitted else b"false"
    return b"".join((brief_json[:-1], b',"result_data":', data, b',"result_omitted":', mark, b"}"))


def _normal(body: bytes) -> bytes | None:
    """The body as part of a document, None where it can be read at links.result only."""
    try:
        return repeated(body)
    except ValueError:  # not JSON whatever its type says; links.result has it as it is
        return b"null"
