"""Answers a request whose task is stored and runs elsewhere: ``202``, or the view's own answer, waited for.

Knows the task and what the client prefers; that the request was accepted is seen to by :mod:`.accept`.
"""

from __future__ import annotations

from contextlib import suppress

from flask import Response, current_app, request

from ...app.state import AppState
from ...core.model import Status, Task
from ...errors import StoreUnavailable
from ...execution import invocation
from ...runtime.connection import cut_short
from ..context import HttpContext
from ..problems import Problem
from ..responses import result as stored
from ..responses.accepted import accepted, located
from ..streaming.long_poll import wait_for_end, wait_until
from .prefer import Prefer


def preferred(parts: HttpContext, task: Task, wish: Prefer) -> Response:
    """The view's answer if it is there within the time that the client would wait, else ``202``.

    :raises Exception: what the view raised, where Flask would let it out.
    """
    state = parts.state
    applied = "respond-async" if wish.respond_async else None
    if wish.wait is not None:
        seconds = min(wish.wait, state.settings.max_wait)
        slot = parts.take_slot()
        if slot is not None:
            with slot, suppress(StoreUnavailable):  # the task is stored: that can be said without the store
                task = wait_until(state, task.request_id, _done, seconds=seconds, cut_short=cut_short(request.environ))
            applied = f"wait={seconds:g}"
        if task.done:
            _raise_as_flask_would(state, task)
            response = located(_outcome(state, task), task.request_id, parts.base())
            response.headers["Preference-Applied"] = f"wait={seconds:g}"
            return response
    response = accepted(task, parts.base(), token=parts.token(task))
    if applied is not None:
        response.headers["Preference-Applied"] = applied
    return response


def awaited(parts: HttpContext, task: Task) -> Response:
    """The view's answer, waited for as long as somebody runs the task: the first of two equal requests, say.

    Takes no slot: whoever waits here would have run the task on this thread without this library.

    :raises Exception: what the view raised, where Flask would let it out.
    """
    state = parts.state
    gone = cut_short(request.environ)
    ended = wait_for_end(state, task.request_id, patience=state.settings.max_wait, cut_short=gone)
    if not ended.done:
        return Problem(
            "wait-timeout",
            f"task {task.request_id} has not finished, and no process runs it at the moment",
            headers={"Retry-After": "5", "Task-Id": task.request_id},
            request_id=task.request_id,
        ).response()
    _raise_as_flask_would(state, ended)
    try:
        response = stored.answer(state, ended)
    except Problem as problem:
        return problem.response()
    return located(response, ended.request_id, parts.base())


def _outcome(state: AppState, task: Task) -> Response:
    """What a finished task answered, or the problem that it ended with."""
    try:
        return stored.answer(state, task)
    except Problem as problem:
        return problem.response()


def _raise_as_flask_would(state: AppState, task: Task) -> None:
    """In testing and debug mode an exception that nobody handled reaches the test, or the debugger."""
    if task.status is Status.FAILED and invocation.propagates(current_app):
        error = state.engine.take_raised(task.request_id)
        if error is not None:
            raise error


def _done(task: Task) -> bool:
    return task.done
