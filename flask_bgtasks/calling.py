"""Calls a task's view or function, and turns what it returns or raises into a result that can be stored.

A view runs in a request context of its own, made from the captured request; its error handlers answer for it as they
would in a request. Knows Flask and the pipeline's exceptions; no store.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Flask, Response, got_request_exception, request
from werkzeug.exceptions import HTTPException, InternalServerError

from . import captured, clean_json
from .blotting import blotted
from .clean_text import MAX_TEXT, clean, text_of
from .errors import NotSerializable, PayloadTooLarge
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
        body = b"null" if value is None else _json(app, value).encode()
    except Exception as error:  # the app's encoder, or an object of the app's, may raise anything
        why = "it is nested too deep" if isinstance(error, RecursionError) else text_of(error, 300)
        raise NotSerializable(
            f"task {name!r}: result of type {type(value).__name__} is not JSON and not a response: {why}. "
            "Return texts, numbers, lists and dicts of them"
        ) from error
    return _sized(Result(body), name, max_bytes)


def _json(app: Flask, value: Any) -> str:
    try:
        text: str = app.json.dumps(value)
    except UnicodeError:  # the app's encoder refuses half a surrogate pair
        text = app.json.dumps(clean_json.cleaned(value))
    return clean_json.checked(text)


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
    headers = tuple((k, _header(v)) for k in KEPT_HEADERS if (v := response.headers.get(k)) is not None)
    return Result(body, response.status_code, _header(response.headers.get("Content-Type", "")), headers)


def _header(value: str) -> str:
    """A header's value as a server can send it: WSGI has ISO 8859-1 there (PEP 3333, "Unicode Issues")."""
    return clean(value).encode("latin-1", "replace").decode("latin-1")


MAX_LOOKED_AT = 4 * MAX_TEXT  # characters of an error's text in which credentials are looked for


def describe(error: BaseException) -> str:
    """One line for the user: what went wrong, without a traceback, and without what looks like a credential.

    An HTTP error says its description, which the app wrote for the client: a text, a lazy translation, or a dict with
    a ``message``. Any other says its message. Never fails, whatever the error is made of.
    """
    try:
        return _description(error) or text_of(type(error).__name__)
    except Exception:  # a property of it raises
        return text_of(type(error).__name__)


def _description(error: BaseException) -> str:
    if isinstance(error, HTTPException):
        given: Any = error.description
        if isinstance(given, Mapping):
            given = next((given[key] for key in MESSAGE_KEYS if given.get(key)), given)
        if isinstance(given, (Mapping, list, tuple)):
            return clean(clean_json.dumps(given).decode(), MAX_TEXT)
        return (text_of(given) if given is not None else "") or text_of(error.name)
    text = text_of(error, MAX_LOOKED_AT)
    if isinstance(error, KeyError):
        text = f"KeyError: {text}"  # its message is only the key
    return clean(blotted(text), MAX_TEXT)


MESSAGE_KEYS = ("message", "detail", "error", "description", "msg")
"""Where ``abort(400, {…})`` says what is wrong, in the order of preference."""


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

    def copied(label: Any, value: Any) -> Any:
        try:
            return clean_json.snapshot(value)[0]
        except clean_json.NotJson as error:
            raise NotSerializable(
                f"task {name!r}: argument {label!r} is not JSON ({error}). "
                "Give ids, texts and numbers; load objects inside the task"
            ) from None

    return {
        "args": [copied(place, value) for place, value in enumerate(args)],
        "kwargs": {key: copied(key, value) for key, value in kwargs.items()},
    }
