"""Calls a task's view or function, and turns what it returns or raises into a result that can be stored.

A view runs in a request context of its own, made from the captured request; its error handlers answer for it as they
would in a request. Knows Flask and the pipeline's exceptions; no store.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flask import Flask, Response, got_request_exception, request
from werkzeug.exceptions import HTTPException, InternalServerError

from . import captured
from .blotting import blotted
from .errors import BackgroundTasksError, NotSerializable, PayloadTooLarge
from .model import Result

KEPT_HEADERS = ("Content-Disposition", "Content-Encoding", "Content-Language", "Location")
"""What of a view's headers belongs to its content. Cookies and caching belong to the one answer that was lost."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call ended: what to store, and why it failed, if it did."""

    result: Result | None
    error: str | None = None
    error_type: str | None = None
    exception: BaseException | None = None
    retry_after: str | None = None  # what the answer's header says


def call_function(app: Flask, function: Callable[..., Any], arguments: Mapping[str, Any], *, max_bytes: int) -> Answer:
    """Call a ``@task`` function in an app context.

    :param arguments: as they were stored: ``args`` and ``kwargs``.
    :param max_bytes: the largest result.
    """
    with app.app_context():
        try:
            value = function(*arguments["args"], **arguments["kwargs"])
            if inspect.iscoroutine(value):
                import asyncio  # 15 ms that an app without async functions does not pay

                value = asyncio.run(_awaited(value))
            return Answer(json_result(app, value, function.__qualname__, max_bytes))
        except Exception as error:
            app.logger.exception("task function %s failed", function.__qualname__)
            got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=error)
            return Answer(None, describe(error), type(error).__name__, error)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def json_result(app: Flask, value: Any, name: str, max_bytes: int) -> Result:
    """A function's value as JSON.

    :raises NotSerializable: it is not JSON. :raises PayloadTooLarge: it is larger than ``max_bytes``.
    """
    try:
        body = b"null" if value is None else app.json.dumps(value).encode()
    except (TypeError, ValueError) as error:
        raise NotSerializable(
            f"task {name!r}: result of type {type(value).__name__} is not JSON and not a response: {error}. "
            "Return texts, numbers, lists and dicts of them"
        ) from error
    return _sized(Result(body), name, max_bytes)


def call_view(
    app: Flask,
    view: Callable[..., Any],
    stored: Mapping[str, Any],
    *,
    name: str,
    max_bytes: int,
    before: Callable[[], None],
) -> Answer:
    """Call a view in a request context made from the captured request.

    ``before_request`` and ``after_request`` functions do not run again: they ran in the request that was answered.
    URL preprocessors do, and the teardown functions.

    :param before: called in the context before the view, to restore the user and what the app wants in ``g``.
    """
    with app.request_context(captured.environ(stored)):

        def call() -> Response:
            _preprocess_url(app)
            before()
            if request.routing_exception is not None:
                raise request.routing_exception
            return app.make_response(app.ensure_sync(view)(**(request.view_args or {})))

        answer, _ = answer_of(app, call, name=name, max_bytes=max_bytes)
        return answer


def answer_of(
    app: Flask, call: Callable[[], Response], *, name: str, max_bytes: int, propagate: bool = False
) -> tuple[Answer, Response]:
    """Call a view in the current request context; what it raises becomes the answer that Flask would give.

    :param propagate: raise what Flask itself would raise (testing, debugging), after having it described by
        :class:`Propagated`.
    """
    error: BaseException | None = None
    try:
        response = call()
    except Exception as raised:
        error = raised
        response = _error_response(app, raised, propagate=propagate)
    try:
        result = _sized(stored_response(response), name, max_bytes)
    except PayloadTooLarge as too_large:
        return Answer(None, str(too_large), type(too_large).__name__, too_large), response
    if response.status_code < 400:
        return Answer(result), response
    later = response.headers.get("Retry-After")
    if error is None:
        return Answer(result, f"the view answered {response.status}", "HTTPError", retry_after=later), response
    return Answer(result, describe(error), type(error).__name__, error, later), response


class Propagated(Exception):
    """Carries an unhandled exception out of :func:`answer_of` to who lets it go on, with what to store of it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error
        self.answer = Answer(None, describe(error), type(error).__name__, error)


def stored_response(response: Response) -> Result:
    """What of a response is kept: status, content type, body, and the headers that belong to the content."""
    response.direct_passthrough = False  # send_file: the file's bytes are the result
    body = response.get_data()
    headers = tuple((k, v) for k in KEPT_HEADERS if (v := response.headers.get(k)) is not None)
    return Result(body, response.status_code, response.headers.get("Content-Type", ""), headers)


MESSAGE_LENGTH = 1000  # characters of an error's text that are stored and shown


def describe(error: BaseException) -> str:
    """One line for the user: what went wrong, without a traceback, and without what looks like a credential.

    An HTTP error says its description, which the app wrote for the client. Any other says its message.
    """
    if isinstance(error, HTTPException):
        return error.description or error.name
    text = f"KeyError: {error}" if isinstance(error, KeyError) else str(error)  # its message is only the key
    return blotted(text)[:MESSAGE_LENGTH] or type(error).__name__


def for_clients(answer: Answer, shown: bool | tuple[type[Exception], ...]) -> Answer:
    """The answer with the text that clients may see: of an exception that nobody expected, no more than its class.

    Expected is what the app answers for in an error handler, unless with 500: a handler for every exception does that.

    :param shown: whether the others' texts are shown, or the classes of exceptions whose texts are.
    """
    error, result = answer.exception, answer.result
    if not isinstance(error, Exception) or isinstance(error, (HTTPException, BackgroundTasksError)):
        return answer
    if (result is not None and result.status_code != 500) or shown is True or (shown and isinstance(error, shown)):
        return answer
    return replace(answer, error=f"the task failed ({type(error).__name__})")


def _error_response(app: Flask, error: Exception, *, propagate: bool) -> Response:
    try:
        return app.make_response(app.handle_user_exception(error))
    except Exception as unhandled:
        if propagate:
            raise Propagated(unhandled) from unhandled
        # What Flask.handle_exception does for a request, less the after_request functions.
        app.log_exception(sys.exc_info())
        got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=unhandled)
        server_error = InternalServerError(original_exception=unhandled)
        return app.make_response(app.handle_user_exception(server_error))


def _preprocess_url(app: Flask) -> None:
    for scope in (None, *reversed(request.blueprints)):
        for function in app.url_value_preprocessors.get(scope, ()):
            function(request.endpoint, request.view_args)


def _sized(result: Result, name: str, max_bytes: int) -> Result:
    if len(result.body) > max_bytes:
        raise PayloadTooLarge(
            f"task {name!r}: result",
            size=len(result.body),
            limit=max_bytes,
            setting="BGTASKS_MAX_RESULT_BYTES",
            mend="Store it elsewhere and return its address.",
        )
    return result


def json_arguments(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call as they are stored.

    :raises NotSerializable: one of them is not JSON; the message names it.
    """
    for label, value in (*enumerate(args), *kwargs.items()):
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise NotSerializable(
                f"task {name!r}: argument {label!r} is not JSON ({error}). "
                "Give ids, texts and numbers; load objects inside the task"
            ) from None
    return {"args": list(args), "kwargs": dict(kwargs)}
