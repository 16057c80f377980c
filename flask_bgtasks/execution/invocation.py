"""Calls a task's view or function, and turns what it returns or raises into a result that can be stored.

A view runs in a request context of its own, made from the captured request; its error handlers answer for it as they
would in a request. Knows Flask and the pipeline's exceptions; no store.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

from flask import Flask, Response, got_request_exception, request, request_finished, request_started
from werkzeug.exceptions import HTTPException, InternalServerError

from ..capture import headers, kept_request
from ..core.model import Result
from ..core.text import json_values
from ..core.text.clean import MAX_TEXT, clean, text_of
from ..core.text.redaction import redact
from ..errors import BackgroundTasksError, NotSerializable, PayloadTooLarge


@dataclass(frozen=True, slots=True)
class CallResult:
    """How a call ended: what to store, and why it failed, if it did."""

    result: Result | None
    error: str | None = None
    error_type: str | None = None
    exception: BaseException | None = None
    retry_after: str | None = None  # what the answer's header says


def call_function(
    app: Flask, function: Callable[..., Any], arguments: Mapping[str, Any], *, max_bytes: int
) -> CallResult:
    """Call a ``@task`` function in an app context; teardown functions get what it raised.

    :param arguments: as they were stored: ``args`` and ``kwargs``.
    :param max_bytes: the largest result.
    """
    context = app.app_context()
    ended: BaseException | None = None
    context.push()
    try:
        value = function(*arguments["args"], **arguments["kwargs"])
        if inspect.iscoroutine(value):
            import asyncio  # 15 ms that an app without async functions does not pay

            value = asyncio.run(_awaited(value))
        return CallResult(json_result(app, value, function.__qualname__, max_bytes))
    except Exception as error:
        ended = error
        got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=error)
        app.logger.exception("task function %s failed", function.__qualname__)
        return failed_answer(error)
    except BaseException as error:
        ended = error
        raise
    finally:
        context.pop(ended)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def json_result(app: Flask, value: Any, name: str, max_bytes: int) -> Result:
    """A function's value as JSON.

    :raises NotSerializable: it is not JSON. :raises PayloadTooLarge: it is larger than ``max_bytes``.
    """
    try:
        body = b"null" if value is None else _json(app, value).encode()
    except Exception as error:  # the app's encoder, or an object of the app's, may raise anything
        why = "it is nested too deeply" if isinstance(error, RecursionError) else text_of(error, 300)
        raise NotSerializable(
            f"task {name!r}: result of type {type(value).__name__} is not JSON and not a response: {why}. "
            "Return texts, numbers, lists and dicts of them"
        ) from error
    return _sized(Result(body), name, max_bytes)


def _json(app: Flask, value: Any) -> str:
    try:
        text: str = app.json.dumps(value)
    except UnicodeError:  # the app's encoder refuses half a surrogate pair
        text = app.json.dumps(json_values.cleaned(value))
    return json_values.checked(text)


def call_view(
    app: Flask,
    view: Callable[[], Any],
    stored: Mapping[str, Any],
    *,
    name: str,
    max_bytes: int,
    before: Callable[[], None],
) -> CallResult:
    """Call a view in a request context made from the captured request; what happens then happens as in Flask.

    ``before_request`` and ``after_request`` functions do not run again: they ran in the request that was answered.
    URL preprocessors do, error handlers, what the view gave to ``after_this_request``, the signals of a request and
    the teardown functions, which get the exception that nobody handled. The run passes ``Flask.__call__``, which error
    trackers patch (Sentry does); WSGI middleware of the app it does not pass.

    :param view: called without arguments in that context.
    :param before: called in the context before the view, to restore the user and what the app wants in ``g``.
    :raises BaseException: what ended the view and is no :class:`Exception`, after the teardown functions have seen it.
    """
    answer: CallResult | None = None
    ended: BaseException | None = None

    def run(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        nonlocal answer, ended
        try:
            answer = _called(app, view, environ, name=name, max_bytes=max_bytes, before=before)
        except BaseException as error:
            ended = error  # an error is in the log; that a task was cancelled is no error
        start_response("200 OK", [])
        return []

    standin, start_response = cast(Flask, _Standin(app, run)), cast(Any, lambda *_: None)
    type(app).__call__(standin, kept_request.environ(stored), start_response)
    if ended is not None:
        raise ended
    assert answer is not None
    return answer


class _Standin:
    """The app, for its class's ``__call__``, with a run in the place of its WSGI app."""

    def __init__(self, app: Flask, run: Callable[..., list[bytes]]) -> None:
        self._app = app
        self.wsgi_app = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)


def _called(
    app: Flask,
    view: Callable[[], Any],
    environ: dict[str, Any],
    *,
    name: str,
    max_bytes: int,
    before: Callable[[], None],
) -> CallResult:
    """What Flask.wsgi_app and full_dispatch_request do, for a run."""
    context = app.request_context(environ)
    unhandled: BaseException | None = None
    context.push()
    try:
        error: Exception | None = None
        try:
            request_started.send(app, _async_wrapper=app.ensure_sync)
            _preprocess_url(app)
            before()
            if request.routing_exception is not None:
                raise request.routing_exception
            response = app.make_response(view())
        except Exception as raised:
            error = raised
            try:
                response = app.make_response(app.handle_user_exception(raised))
            except Exception as not_handled:
                unhandled = not_handled
                # Where no body could be made of it (half an emoji), what the view raised says more.
                error = raised if isinstance(not_handled, UnicodeError) else not_handled
                response = _server_error(app, not_handled)
        for function in context._after_request_functions:
            response = app.ensure_sync(function)(response)
        request_finished.send(app, _async_wrapper=app.ensure_sync, response=response)
        try:
            result = stored_response(response, name, max_bytes)
        except Exception as broken:  # it is too large, or its generator raised
            unhandled = unhandled or broken
            if not isinstance(broken, PayloadTooLarge):
                app.log_exception(sys.exc_info())
            return failed_answer(error or broken)
        finally:
            response.close()
        return answer_of(response, result, error)
    except BaseException as ended:
        unhandled = unhandled or ended
        raise
    finally:
        context.pop(unhandled)


@contextmanager
def run_context(app: Flask, stored: Mapping[str, Any], *, before: Callable[[], None]) -> Iterator[Mapping[str, Any]]:
    """The context of a run, for who only looks what would happen in it.

    :param before: as in :func:`call_view`.
    """
    with app.request_context(kept_request.environ(stored)):
        _preprocess_url(app)
        before()
        yield stored


def answer_of(response: Response, result: Result, error: BaseException | None) -> CallResult:
    """What to store of a response.

    :param error: what the view raised, for which the response was made.
    """
    if response.status_code < 400 and error is None:
        return CallResult(result)
    later = response.headers.get("Retry-After")
    if error is None:
        return CallResult(result, f"the view answered {response.status}", "HTTPError", retry_after=later)
    if response.status_code < 400:  # an error handler made an answer of it
        return CallResult(result)
    return CallResult(result, describe(error), type(error).__name__, error, later)


def failed_answer(error: BaseException) -> CallResult:
    """What to store of an exception for which there is no response."""
    return CallResult(None, describe(error), type(error).__name__, error)


def stored_response(response: Response, name: str, max_bytes: int) -> Result:
    """What of a response is kept: status, content type, body, and the headers that belong to the content or guard it.

    :raises PayloadTooLarge: its body is larger than ``max_bytes``; a generator is not read any further.
    :raises Exception: what its generator raises.
    """
    if not response.is_streamed and not response.direct_passthrough:
        return _sized(head_of(response, response.get_data()), name, max_bytes)
    parts, size = [], 0
    for part in response.iter_encoded():  # a generator, or send_file: the file's bytes are the result
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            raise too_large(name, size, max_bytes)
    return head_of(response, b"".join(parts))


def head_of(response: Response, body: bytes) -> Result:
    """A response with this body, as it is stored.

    ``Cache-Control`` where it says ``no-store`` or ``private``. What a view lets everybody cache is read by its owner
    only, once it is stored: there it is private, whatever the view said.
    """
    given = {name.lower() for name in response.headers.keys()}  # noqa: SIM118 - pairs
    names = (name for name in headers.RESPONSE if name.lower() in given)
    kept = [(name, _header(value)) for name in names for value in response.headers.getlist(name)]
    if response.cache_control.no_store or response.cache_control.private is not None:
        kept += [("Cache-Control", _header(value)) for value in response.headers.getlist("Cache-Control")]
    return Result(body, response.status_code, _header(response.headers.get("Content-Type", "")), tuple(kept))


def propagates(app: Flask) -> bool:
    """Whether Flask lets an exception that nobody handles go on, as ``Flask.handle_exception`` decides it."""
    propagate = app.config["PROPAGATE_EXCEPTIONS"]
    return bool(app.testing or app.debug if propagate is None else propagate)


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
            return clean(json_values.dumps(given).decode(), MAX_TEXT)
        return (text_of(given) if given is not None else "") or text_of(error.name)
    text = text_of(error, MAX_LOOKED_AT)
    if isinstance(error, KeyError):
        text = f"KeyError: {text}"  # its message is only the key
    return clean(redact(text), MAX_TEXT)


MESSAGE_KEYS = ("message", "detail", "error", "description", "msg")
"""Where ``abort(400, {…})`` says what is wrong, in the order of preference."""


def for_clients(answer: CallResult, shown: bool | tuple[type[Exception], ...]) -> CallResult:
    """The answer with the text that clients may see: of an exception that nobody expected, no more than its class.

    Expected is what the app answers for in an error handler, unless with 500: a handler for every exception does that.

    :param shown: whether the others' texts are shown, or the classes of exceptions whose texts are.
    """
    error, result = answer.exception, answer.result
    if not isinstance(error, Exception) or isinstance(error, (HTTPException, BackgroundTasksError)):
        return answer
    if (result is not None and result.status_code != 500) or shown is True or (shown and isinstance(error, shown)):
        return answer
    return replace(answer, error=f"the task failed ({text_of(type(error).__name__)})")


def _server_error(app: Flask, error: Exception) -> Response:
    """What Flask.handle_exception does in a request, less the after_request functions, and never raising again."""
    got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=error)
    app.log_exception(sys.exc_info())
    server_error = InternalServerError(original_exception=error)
    handler = app._find_error_handler(server_error, request.blueprints)
    return app.make_response(server_error if handler is None else app.ensure_sync(handler)(server_error))


def _preprocess_url(app: Flask) -> None:
    for scope in (None, *reversed(request.blueprints)):
        for function in app.url_value_preprocessors.get(scope, ()):
            function(request.endpoint, request.view_args)


def _sized(result: Result, name: str, max_bytes: int) -> Result:
    if len(result.body) > max_bytes:
        raise too_large(name, len(result.body), max_bytes)
    return result


def too_large(name: str, size: int, max_bytes: int) -> PayloadTooLarge:
    """The error for a result that is not stored. ``size`` is in bytes; of a stream, what was read of it."""
    return PayloadTooLarge(
        f"task {name!r}: result",
        size=size,
        limit=max_bytes,
        setting="BGTASKS_MAX_RESULT_BYTES",
        mend="Store it elsewhere and return its address.",
    )


def json_arguments(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call as they are stored.

    :raises NotSerializable: one of them is not JSON; the message names it.
    """

    def copied(label: Any, value: Any) -> Any:
        try:
            return json_values.snapshot(value)[0]
        except json_values.NotJson as error:
            raise NotSerializable(
                f"task {name!r}: argument {label!r} is not JSON ({error}). "
                "Give ids, texts and numbers; load objects inside the task"
            ) from None

    return {
        "args": [copied(place, value) for place, value in enumerate(args)],
        "kwargs": {key: copied(key, value) for key, value in kwargs.items()},
    }
