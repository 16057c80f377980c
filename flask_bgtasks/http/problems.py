"""All problems that the HTTP layer answers with: one table, and the responses made from it (RFC 9457).

A problem's ``type`` is a stable address that ends in the name of its error, where there is one
(``TaskExpired``: ``task-expired``); its paragraph in the documentation is made from this table. No problem says more
than its reader may know: no traceback, no token, nothing about another owner.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from flask import Response
from werkzeug.exceptions import HTTPException
from werkzeug.sansio.response import Response as SansResponse

from ..core.text.json_values import dumps
from ..errors import (
    AccessDenied,
    AnonymousQueueFull,
    BackgroundTasksError,
    IdempotencyConflict,
    LimitReached,
    NotStorable,
    OutcomeUnknown,
    OwnerQueueFull,
    PayloadTooLarge,
    QueueFull,
    ShuttingDown,
    StoreUnavailable,
    TaskExpired,
    TaskNotFound,
    TransitionRefused,
)
from ..runtime.log_lines import Recurring

_outages = Recurring(logging.getLogger("flask_bgtasks"))

BASE = "https://flask-bgtasks.readthedocs.io/problems/#"
CONTENT_TYPE = "application/problem+json"  # RFC 9457, section 3


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of problem. ``meaning`` is its paragraph in the documentation: what happened, and what to do."""

    name: str
    status: int
    title: str
    meaning: str

    @property
    def uri(self) -> str:
        """The ``type`` of the problem document."""
        return BASE + self.name


TYPES: dict[str, ProblemType] = {
    kind.name: kind
    for kind in (
        ProblemType(
            "invalid-parameter",
            400,
            "Invalid query parameter",
            "``parameter`` names it, and ``detail`` says what is expected. The same request never succeeds.",
        ),
        ProblemType(
            "invalid-cursor",
            400,
            "Invalid position in a task's history",
            "``Last-Event-ID`` or ``starting_after`` is not a number from this stream. Leave it out to start from 0.",
        ),
        ProblemType(
            "invalid-idempotency-key",
            400,
            "Invalid Idempotency-Key",
            "A key is 1 to 255 visible ASCII characters, best a UUID, with or without double quotes around it.",
        ),
        ProblemType("invalid-body", 400, "Invalid request body", "``detail`` names the field and what is expected."),
        ProblemType(
            "not-storable",
            400,
            "The database cannot store a value of this request",
            "It is too large, or of a type that the database lacks. The same request never succeeds.",
        ),
        ProblemType(
            "access-denied",
            401,
            "Invalid access token",
            "The ``access_token`` is invalid, too old, or for another task. The task's owner gets a new one with the "
            "``202`` of the task's result, or by sending the request again with its ``Idempotency-Key``.",
        ),
        ProblemType(
            "caller-not-verified",
            401,
            "The call has no valid token",
            "Only Cloud Tasks and Cloud Scheduler call this, with a token that Google has signed. The server's log "
            "says what is wrong.",
        ),
        ProblemType(
            "caller-not-allowed",
            403,
            "The call is made in another name",
            "Google has signed its token, for another account than ``BGTASKS_RUN_SERVICE_ACCOUNT``.",
        ),
        ProblemType(
            "listing-refused",
            403,
            "Listing tasks requires an owner",
            "Log in to list your tasks. Without an owner, name the tasks: ``ids=…`` or ``idempotency_key=…``.",
        ),
        ProblemType(
            "owner-required",
            403,
            "Authentication required",
            "Devices and preferences belong to an owner. Log in; or, to be notified of one task without a login, "
            "send ``user_token`` with the request for it.",
        ),
        ProblemType(
            "task-not-found",
            404,
            "Task not found",
            "It does not exist, belongs to another owner, or was deleted, or the id is malformed: the answer is the "
            "same in all of these cases.",
        ),
        ProblemType(
            "device-not-found",
            404,
            "Device not found",
            "It does not exist, belongs to another owner, or was forgotten. Register it again to reach it.",
        ),
        ProblemType("method-not-allowed", 405, "Method not allowed", "The ``Allow`` header lists the allowed methods."),
        ProblemType("not-acceptable", 406, "No such representation", "``detail`` lists the available types."),
        ProblemType(
            "transition-refused",
            409,
            "The task's state does not allow this",
            "``task_status`` is the task's state. Only a failed or cancelled task can be retried, only a finished one "
            "deleted or marked as seen, and only an unfinished one has a Live Activity.",
        ),
        ProblemType(
            "task-cancelled", 409, "The task was cancelled", "There is no result. A retry opens the task again."
        ),
        ProblemType(
            "call-again",
            409,
            "The task has not ended",
            "Who runs it may have died: Cloud Tasks repeats the call.",
        ),
        ProblemType(
            "task-expired",
            410,
            "The task has expired",
            "It was kept for ``BGTASKS_EXPIRES_AFTER``. Send the request again if you need the result.",
        ),
        ProblemType(
            "payload-too-large",
            413,
            "The request is too large to be stored",
            "``limit`` is in bytes. Nothing was stored. Upload large files elsewhere and send their address.",
        ),
        ProblemType(
            "unsupported-media-type",
            415,
            "The request body must be JSON",
            "Send it with ``Content-Type: application/json``. This keeps forms on other sites from acting in a user's "
            "name.",
        ),
        ProblemType(
            "idempotency-conflict",
            422,
            "The Idempotency-Key belongs to another request",
            "The same key was used with another method, path or body. Use a new key for a new request.",
        ),
        ProblemType(
            "owner-queue-full",
            429,
            "You have too many tasks waiting",
            "Nothing was stored. ``Retry-After`` says when to try again.",
        ),
        ProblemType(
            "task-failed",
            500,
            "The task failed without an answer",
            "``detail`` is the task's ``error_message``. An answer of the view, such as a 422, is returned as it was.",
        ),
        ProblemType(
            "queue-full",
            503,
            "Too many tasks are waiting",
            "Nothing was stored. ``Retry-After`` says when to try again.",
        ),
        ProblemType(
            "anonymous-queue-full",
            503,
            "Too many tasks without an owner are waiting",
            "Requests without an owner have their own share of the queue. Nothing was stored. Log in, or try again "
            "after ``Retry-After``.",
        ),
        ProblemType(
            "limit-reached",
            503,
            "A limit of the server is reached",
            "Nothing was stored. ``Retry-After`` says when to try again.",
        ),
        ProblemType(
            "shutting-down",
            503,
            "This server is restarting",
            "Nothing was stored. Try again; another process takes the request, or this one after its restart.",
        ),
        ProblemType(
            "stream-limit-reached",
            503,
            "Too many event streams are open",
            "The process has no stream left, or none for this client. Poll the status, and try again after "
            "``Retry-After``.",
        ),
        ProblemType(
            "wait-timeout",
            503,
            "The task has not finished",
            "The answer to an earlier, identical request is not available yet. Send it again with the same key.",
        ),
        ProblemType(
            "store-unavailable",
            503,
            "The task store is unavailable",
            "Nothing was changed. Try again; accepted tasks are not lost.",
        ),
        ProblemType(
            "outcome-unknown",
            503,
            "The task store failed during a change",
            "The change may or may not have been made. If there is a ``request_id``, ask for that task: if it exists, "
            "it was accepted and runs; if it does not exist once the store answers again, it was not accepted. Or send "
            "the request again with its ``Idempotency-Key``, which never creates a second task.",
        ),
        ProblemType("not-ready", 503, "This process accepts no tasks", "``checks`` says which part is not ready."),
    )
}

MAX_DETAIL = 4000  # characters; an error message of a task may be as long

REFUSED_CHALLENGE = 'Bearer error="invalid_token"'  # RFC 6750, sections 2.3 and 3: a token in the query is a bearer's


class Problem(Exception):
    """Raised inside the HTTP layer to answer with a problem document.

    :param name: one of :data:`TYPES`.
    :param detail: what happened in this case, and what to do about it.
    :param headers: sent with it.
    :param members: fields for programs; extension members (RFC 9457, section 3.2).
    """

    def __init__(self, name: str, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        if len(detail) > MAX_DETAIL:  # it repeats what was sent
            detail = f"{detail[:MAX_DETAIL]}…"
        super().__init__(detail)
        self.type = TYPES[name]
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def response(self) -> Response:
        """The answer."""
        document = {
            "type": self.type.uri,
            "title": self.type.title,
            "status": self.type.status,
            "detail": self.detail,
            **self.members,
        }
        return _response(document, self.type.status, self.headers)


def of_error(error: BackgroundTasksError, *, stored: str | None = None) -> Problem:
    """The problem document of an error of the library. Any other error is raised again.

    :param stored: the id of the task that the request has stored already: then it is not true that nothing was changed.
    """
    detail = str(error)
    if isinstance(error, TaskExpired):
        return Problem("task-expired", detail, request_id=error.request_id)
    if isinstance(error, TaskNotFound):
        return Problem("task-not-found", detail)
    if isinstance(error, TransitionRefused):
        return Problem("transition-refused", detail, request_id=error.request_id, task_status=error.status)
    if isinstance(error, IdempotencyConflict):
        return Problem("idempotency-conflict", detail)
    if isinstance(error, PayloadTooLarge):
        return Problem("payload-too-large", detail, limit=error.limit)
    if isinstance(error, NotStorable):  # its message may repeat the value, and is the log's
        return Problem("not-storable", TYPES["not-storable"].meaning)
    if isinstance(error, AccessDenied):
        return Problem("access-denied", detail, headers={"WWW-Authenticate": REFUSED_CHALLENGE})
    if isinstance(error, LimitReached):
        return Problem(_limit_name(error), detail, headers={"Retry-After": str(error.retry_after)})
    if isinstance(error, StoreUnavailable):  # its message may name a host or a file: that is the log's
        _outages.note("a request was answered with 503: %s", error)
        if isinstance(error, OutcomeUnknown):
            return _outcome_unknown(stored or error.request_id)
        if stored is not None:
            return _outcome_unknown(stored)
        meaning = TYPES["store-unavailable"].meaning
        detail = meaning if error.brief is None else f"The task store is unavailable: {error.brief}. {meaning}"
        return Problem("store-unavailable", detail, headers={"Retry-After": "1" if error.brief is None else "30"})
    raise error


def _outcome_unknown(request_id: str | None) -> Problem:
    """The store failed during a change, which may or may not have been made.

    :param request_id: the task to ask for, if there is one.
    """
    headers, members = {"Retry-After": "1"}, {}
    if request_id is not None:
        headers["Task-Id"] = members["request_id"] = request_id
    return Problem("outcome-unknown", TYPES["outcome-unknown"].meaning, headers=headers, **members)


def of_http_exception(error: HTTPException) -> SansResponse:
    """Any other HTTP error under the blueprint, with its own text, as a problem without a type.

    ``about:blank`` means that the status code says everything (RFC 9457, section 4.2.1).
    """
    if error.response is not None:
        return error.response
    status = error.code or 500
    document = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if error.description:
        document["detail"] = error.description
    headers = [(k, v) for k, v in error.get_headers() if k.lower() not in ("content-type", "content-length")]
    return _response(document, status, dict(headers))


def _limit_name(error: LimitReached) -> str:
    if isinstance(error, OwnerQueueFull):
        return "owner-queue-full"
    if isinstance(error, ShuttingDown):
        return "shutting-down"
    if isinstance(error, AnonymousQueueFull):
        return "anonymous-queue-full"
    return "queue-full" if isinstance(error, QueueFull) else "limit-reached"


def _response(document: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> Response:
    response = Response(dumps(document), status=status, content_type=CONTENT_TYPE)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.update(headers)
    return response
