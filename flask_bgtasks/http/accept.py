"""Takes a request for work: checks it, stores it, and answers it in the way that the task and the client want.

Called by the wrapper of every backgrounded view, in the request. What is refused is refused before anything is stored;
what is answered with ``202`` is stored.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from flask import Response, current_app, request

from .. import captured
from ..definitions import TaskDefinition
from ..errors import BackgroundTasksError, IdempotencyConflict, TransitionRefused
from ..model import Status, Task
from ..state import AppState
from ..stores.base import Created, TaskQuery
from . import idempotency, prefer, problems, stored, user_token
from .parts import Parts, parts_of
from .prefer import Prefer
from .presence import cut_short
from .problems import Problem
from .representation import dumps, links, retry_after
from .waiting import wait_for_end, wait_until

ACCEPTED_FLAG = "bgtasks.accepted"
"""Stands in the WSGI environment of a request that came here, for those who look at its answer later (CORS)."""


def accept(state: AppState, definition: TaskDefinition, view_args: Mapping[str, Any]) -> Response:
    """Answer a request for a backgrounded view.

    :param view_args: what the view is called with.
    """
    request.environ[ACCEPTED_FLAG] = True
    try:
        response = _accept(state, definition, view_args)
    except Problem as problem:
        response = problem.response()
    except BackgroundTasksError as error:
        response = problems.of_error(error).response()
    response.vary.add("Prefer")
    return response


def _accept(state: AppState, definition: TaskDefinition, view_args: Mapping[str, Any]) -> Response:
    parts = parts_of(current_app)
    wish = prefer.parse(request.headers.get("Prefer"))
    key = idempotency.parse(request.headers.get("Idempotency-Key"))
    input = captured.capture(request, max_bytes=state.settings.max_request_bytes, private=state.credentials.of(request))
    owner = state.owners.current()
    scope = None if key is None else idempotency.scope(owner, definition.name, key)
    fingerprint = None if key is None else captured.fingerprint(input)

    created = _repeated(state, scope, fingerprint)  # before validate: what was accepted is not judged again
    here = _runs_here(definition, wish)
    if created is None:
        refusal = _refusal(definition.options.validate, view_args)
        if refusal is not None:
            return refusal
        token, hints = user_token.read(request, state)
        created = state.submit(
            definition,
            input,
            owner=owner,
            user_token=token,
            hints=hints,
            idempotency_scope=scope,
            fingerprint=fingerprint,
            run=not here,
        )
    task = created.task
    if here and created.replayed and task.status is not Status.STARTED:
        response = _answered_later(parts, task)
    elif here:  # an earlier request's task too, if nobody has begun with it: that server may have died
        response = _run_here(parts, task, definition, view_args)
    else:
        response = _answered(parts, task, wish)
    response.headers["Task-Id"] = task.request_id
    if created.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def _runs_here(definition: TaskDefinition, wish: Prefer) -> bool:
    """Whether the answer is the view's own, however long it takes."""
    if definition.options.respond == "hold":
        return True
    return definition.options.respond == "prefer" and wish == prefer.NOTHING


# -- the ways to answer ----------------------------------------------------------------------------------------------


def _run_here(parts: Parts, task: Task, definition: TaskDefinition, view_args: Mapping[str, Any]) -> Response:
    """Run the task on the request's own thread: an app keeps the concurrency that it has without this library."""
    app = parts.state.app
    view = parts.state.view_function(definition)

    def call() -> Response:
        return app.make_response(app.ensure_sync(view)(**view_args))

    try:
        response = parts.state.engine.run_here(task.request_id, call)
    except TransitionRefused:  # another process took it first
        return _answered_later(parts, task)
    if response is None:  # the attempt has failed, and another one follows
        return _answered_later(parts, task)
    if response.status_code == 409 and parts.state.store.get(task.request_id).status is Status.CANCELLED:
        cancelled = f"task {task.request_id} was cancelled; there is no result"
        raise Problem("task-cancelled", cancelled, headers={"Task-Id": task.request_id})
    return _located(response, parts, task)


def _answered_later(parts: Parts, task: Task) -> Response:
    """The answer of a run elsewhere: of the first of two equal requests, say.

    Takes no slot: whoever waits here would have run the task on this thread without this library.
    """
    state = parts.state
    ended = wait_for_end(state, task.request_id, patience=state.settings.max_wait, cut_short=cut_short(request.environ))
    if not ended.done:
        raise Problem(
            "still-running",
            f"task {task.request_id} has not finished, and nobody works on it at the moment",
            headers={"Retry-After": "5", "Task-Id": task.request_id},
            request_id=task.request_id,
        )
    return _located(stored.answer(state, ended), parts, ended)


def _answered(parts: Parts, task: Task, wish: Prefer) -> Response:
    """The view's answer if it is there within the time that the client would wait, else ``202``."""
    state = parts.state
    applied = "respond-async" if wish.respond_async else None
    if wish.wait is not None:
        seconds = min(wish.wait, state.settings.max_wait)
        slot = parts.take_slot()
        if slot is not None:
            with slot:
                task = wait_until(state, task.request_id, _done, seconds=seconds, cut_short=cut_short(request.environ))
            applied = f"wait={seconds:g}"
        if task.done:
            response = _located(_outcome(state, task), parts, task)
            response.headers["Preference-Applied"] = f"wait={seconds:g}"
            return response
    response = accepted(parts, task, token=parts.token(task))
    if applied is not None:
        response.headers["Preference-Applied"] = applied
    return response


def _outcome(state: AppState, task: Task) -> Response:
    try:
        return stored.answer(state, task)
    except Problem as problem:
        return problem.response()


def accepted(parts: Parts, task: Task, *, token: str | None) -> Response:
    """``202``: the task is stored; where to follow it.

    :param token: lets its bearer read the task, in an address.
    """
    addresses = links(task.request_id, parts.base())
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


def _located(response: Response, parts: Parts, task: Task) -> Response:
    """Say where the same answer can be read again (RFC 9110, section 8.7)."""
    response.headers["Content-Location"] = f"{parts.base()}/{task.request_id}/result"
    return response


# -- what comes before it is stored ----------------------------------------------------------------------------------


def _repeated(state: AppState, scope: str | None, fingerprint: str | None) -> Created | None:
    """The task of an earlier request with the same key.

    The store would find it too; found here, a repeated request passes neither ``validate`` nor the limits again.

    :raises IdempotencyConflict: the key stands for another request.
    """
    if scope is None:
        return None
    now = state.store.now()
    for task in state.store.find(TaskQuery(idempotency_scope=scope, limit=1)).tasks:
        if task.expired(now):
            continue
        if task.fingerprint != fingerprint:
            raise IdempotencyConflict(task.request_id)
        return Created(task, replayed=True)
    return None


def _refusal(validate: Callable[..., Any] | None, view_args: Mapping[str, Any]) -> Response | None:
    """What ``validate`` answers instead, if it refuses the request; what it raises goes its way through Flask."""
    if validate is None:
        return None
    refused = current_app.ensure_sync(validate)(**_taken_by(validate, view_args))
    return None if refused is None else current_app.make_response(refused)


def _taken_by(function: Callable[..., Any], view_args: Mapping[str, Any]) -> dict[str, Any]:
    names = _parameters(function)
    return {k: v for k, v in view_args.items() if names is None or k in names}


@functools.cache
def _parameters(function: Callable[..., Any]) -> frozenset[str] | None:
    """The names that a function takes; None for any."""
    taken = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken):
        return None
    return frozenset(p.name for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


def _done(task: Task) -> bool:
    return task.done
