"""Answers with where a task is: ``202`` for one that was accepted, ``Content-Location`` for an answer of its view."""

from __future__ import annotations

from typing import Any

from flask import Response

from ...core.model import Task
from .representation import dumps, links, retry_after


def accepted(task: Task, base: str, *, token: str | None) -> Response:
    """``202``: the task is stored; where to follow it.

    :param base: the path of the blueprint, as the client sees it.
    :param token: lets its bearer read the task, in an address.
    """
    addresses = links(task.request_id, base)
    document: dict[str, Any] = {"request_id": task.request_id, "status": task.status.value, "links": addresses}
    if token is not None:
        document["access_token"] = token
    response = Response(dumps(document), 202, content_type="application/json")
    response.headers["Location"] = addresses["self"]
    response.headers["Cache-Control"] = "no-store"
    after = retry_after(task)
    if after is not None:  # an earlier request's task may have ended
        response.headers["Retry-After"] = after
    return response


def located(response: Response, request_id: str, base: str) -> Response:
    """Say where the same answer can be read again (RFC 9110, section 8.7).

    :param base: the path of the blueprint, as the client sees it.
    """
    response.headers["Content-Location"] = links(request_id, base)["result"]
    return response
