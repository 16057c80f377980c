"""Every problem that the HTTP layer answers with: one table, and the responses made from it (RFC 9457).

A problem's ``type`` is a stable address; its paragraph in the documentation is made from this table. No problem says
more than its reader may know: no traceback, no token, nothing of another owner.
"""

from __future__ import annotations

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
            "bad-parameter",
            400,
            "A query parameter is wrong",
            "``detail`` and ``parameter`` name it and what is wanted. Mend the request; it will not succeed as it is.",
        ),
        ProblemType(
            "bad-cursor",
            400,
            "This is no place in a task's history",
            "``Last-Event-ID`` or ``starting_after`` is not a number that this stream gave. Start without it, from 0.",
        ),
        ProblemType(
            "bad-idempotency-key",
            400,
            "The Idempotency-Key is wrong",
            "A key is 1 to 255 visible ASCII characters, best a UUID, with or without double quotes around it.",
        ),
        ProblemType("bad-body", 400, "The body is wrong", "``detail`` says what is wanted in it."),
        ProblemType(
            "access-denied",
            401,
            "The access token is not valid",
            "The ``access_token`` is wrong, too old or for another task. Its owner gets a new one with the "
            "``202`` of the task's result, or by sending the request again with its ``Idempotency-Key``.",
        ),
        ProblemType(
            "listing-refused",
            403,
            "Tasks are listed for their owner only",
            "Without an owner, name the tasks: ``ids=…`` or ``idempotency_key=…``. Or log in.",
        ),
        ProblemType(
            "owner-wanted",
            403,
            "This belongs to somebody, and nobody is logged in",
            "Devices and preferences are kept for an owner. Log in; or, to be notified of one task without a login, "
            "send ``user_token`` with the request for it.",
        ),
        ProblemType(
            "task-not-found",
            404,
            "There is no such task",
            "It never was, it is someone else's, it was deleted, or the id is malformed: all the same from outside.",
        ),
        ProblemType(
            "device-not-found",
            404,
            "There is no such device",
            "It never was, it is someone else's, or it was forgotten. Register it again, if it is to be reached.",
        ),
        ProblemType(
            "method-not-allowed", 405, "This method is not for this address", "The ``Allow`` header lists what is."
        ),
        ProblemType(
            "not-acceptable", 406, "This address has no such representation", "``detail`` lists the types there are."
        ),
        ProblemType(
            "refused",
            409,
            "The task is not in a state for this",
            "``task_status`` says in which it is: only a failed or cancelled task is retried, only a finished one "
            "deleted or seen, and only an unfinished one has a Live Activity.",
        ),
        ProblemType(
            "task-cancelled", 409, "The task was cancelled", "There is no result. A retry opens the task again."
        ),
        ProblemType(
            "task-expired",
            410,
            "The task's time is over",
            "It was kept as long as ``BGTASKS_EXPIRES_AFTER`` says. Send the request again if the result is needed.",
        ),
        ProblemType(
            "request-too-large",
            413,
            "The request is too large to be stored",
            "``limit`` is in bytes. Nothing was stored. Upload large files elsewhere and send their address.",
        ),
        ProblemType(
            "not-json",
            415,
            "The body has to be JSON, and say so",
            "Send it with ``Content-Type: application/json``: that keeps forms on other sites from sending it in the "
            "name of a user.",
        ),
        ProblemType(
            "idempotency-conflict",
            422,
            "The Idempotency-Key stands for another request",
            "The same key came before with another method, path or body. A new request wants a new key.",
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
            "``detail`` is the task's ``error_message``. What the view itself answered, a 422 say, is given as it was.",
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
            "Requests without an owner have a share of the queue of their own. Nothing was stored. Log in, or try "
            "again after ``Retry-After``.",
        ),
        ProblemType(
            "shutting-down",
            503,
            "This server is restarting",
            "Nothing was stored. Try again; another process, or this one's successor, will take it.",
        ),
        ProblemType(
            "streams-full",
            503,
            "All event streams of this process are taken, or all that one client may have",
            "Poll the status instead, and try a stream again after ``Retry-After``.",
        ),
        ProblemType(
            "still-running",
            503,
            "The task has not finished",
            "The answer of an earlier, identical request is not there yet. Send it again with the same key.",
        ),
        ProblemType(
            "store-unavailable",
            503,
            "The store of tasks cannot be reached",
            "Nothing was changed. Try again; accepted tasks are not lost.",
        ),
        ProblemType(
            "outcome-unknown",
            503,
            "The store failed while it was written to",
            "The change may have been made, and it may not. Where ``request_id`` names a task, ask for it: a task that "
            "is there was accepted, and runs; one that is not there when the store answers again was not. Or send the "
            "request again with its ``Idempotency-Key``, which never makes a second task.",
        ),
        ProblemType("not-ready", 503, "This process does not take work", "``checks`` says what is missing."),
    )
}

MAX_DETAIL = 4000  # characters; an error message of a task may be as long

REFUSED_CHALLENGE = 'Bearer error="invalid_token"'  # RFC 6750, sections 2.3 and 3: a token in the query is a bearer's


class Problem(Exception):
    """Raised inside the HTTP layer to answer with a problem document.

    :param name: one of :data:`TYPES`.
    :param detail: what happened in this case, and the mend.
    :param headers: to send with it.
    :param members: what else a program may want to know; extension members (RFC 9457, section 3.2).
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


def of_error(error: BackgroundTasksError) -> Problem:
    """The problem that an error of the library is to a client."""
    detail = str(error)
    if isinstance(error, TaskExpired):
        return Problem("task-expired", detail, request_id=error.request_id)
    if isinstance(error, TaskNotFound):
        return Problem("task-not-found", detail)
    if isinstance(error, TransitionRefused):
        return Problem("refused", detail, request_id=error.request_id, task_status=error.status)
    if isinstance(error, IdempotencyConflict):
        return Problem("idempotency-conflict", detail)
    if isinstance(error, PayloadTooLarge):
        return Problem("request-too-large", detail, limit=error.limit)
    if isinstance(error, NotStorable):  # its message may repeat the value, and is the log's
        return Problem("bad-parameter", "a value in this request is of a size or kind that the store cannot keep")
    if isinstance(error, AccessDenied):
        return Problem("access-denied", detail, headers={"WWW-Authenticate": REFUSED_CHALLENGE})
    if isinstance(error, LimitReached):
        return Problem(_limit_name(error), detail, headers={"Retry-After": str(error.retry_after)})
    if isinstance(error, OutcomeUnknown):
        return outcome_unknown(error.request_id)
    if isinstance(error, StoreUnavailable):  # its message may name a host or a file: that is the log's
        meaning = TYPES["store-unavailable"].meaning
        detail = meaning if error.brief is None else f"The store cannot be used: {error.brief}. {meaning}"
        return Problem("store-unavailable", detail, headers={"Retry-After": "1" if error.brief is None else "30"})
    raise error


def outcome_unknown(request_id: str | None) -> Problem:
    """The store failed, and it cannot be said that nothing was changed.

    :param request_id: the task to ask for.
    """
    headers, members = {"Retry-After": "1"}, {}
    if request_id is not None:
        headers["Task-Id"] = members["request_id"] = request_id
    return Problem("outcome-unknown", TYPES["outcome-unknown"].meaning, headers=headers, **members)


def of_http_exception(error: HTTPException) -> SansResponse:
    """Any other HTTP error under the blueprint: what it said, as a problem of no type of its own.

    ``about:blank`` says that the status code is all there is to know (RFC 9457, section 4.2.1).
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
    return "queue-full" if isinstance(error, QueueFull) else "not-ready"


def _response(document: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> Response:
    response = Response(dumps(document), status=status, content_type=CONTENT_TYPE)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.update(headers)
    return response
