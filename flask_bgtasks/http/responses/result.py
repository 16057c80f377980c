"""Answers with what a task's view answered, as it was stored: status, content type, kept headers, body."""

from __future__ import annotations

from flask import Response

from ...app.state import AppState
from ...capture import headers
from ...core.model import Result, Status, Task
from ..problems import Problem


def answer(state: AppState, task: Task) -> Response:
    """What a finished task answered.

    :raises Problem: it was cancelled, or failed before it could answer.
    """
    if task.status is Status.CANCELLED:
        raise Problem("task-cancelled", f"task {task.request_id} was cancelled; there is no result")
    result = state.store.load_result(task.request_id) if task.result_size is not None else None
    if result is not None:
        return response_of(result)
    if task.status is Status.FAILED:
        raise Problem("task-failed", task.error_message or "the task failed", request_id=task.request_id)
    return Response(status=204)  # tracked code that gave no result


def response_of(result: Result) -> Response:
    """A stored answer as a response. Browsers take it for what it says that it is, and for nothing else."""
    response = Response(result.body, status=result.status_code, headers=list(result.headers))
    response.headers.pop("Content-Type", None)  # Werkzeug's default
    if result.content_type:
        response.headers["Content-Type"] = result.content_type
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def sandboxed(response: Response) -> Response:
    """An answer that is read at an address of ours: a page in it has no power over the app, unless its view says so."""
    policies = [value for value in response.headers.getlist("Content-Security-Policy") if value.strip()]
    if not policies and not headers.is_inert(response.headers.get("Content-Type", "")):
        response.headers["Content-Security-Policy"] = headers.SANDBOX
    return response
