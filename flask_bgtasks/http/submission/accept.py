"""Takes a request for work: checks it, stores it, and runs it here or has it answered from elsewhere (:mod:`.answers`).

Called by the wrapper of every backgrounded view, in the request. The view's decorators are called first, as ever: what
they refuse never comes to the gate inside. What is refused is refused before anything is stored; what is answered with
``202`` is stored.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from flask import Response, after_this_request, current_app, request

from ...app.state import AppState
from ...capture import arguments, kept_request
from ...core.definitions import TaskDefinition
from ...core.model import Status, Task
from ...core.transitions.outside import Reopen
from ...errors import BackgroundTasksError, IdempotencyConflict, NotSerializable, StoreUnavailable, TransitionRefused
from ...execution.foreground import Foreground
from ...stores.base import PRIVATE
from ...stores.types import Created, TaskQuery
from ...wrapping.argument_changes import Arguments
from ...wrapping.layers import Chain
from ...wrapping.passage import Passage
from .. import problems
from ..context import parts_of
from ..problems import Problem
from ..responses.accepted import located
from . import answers, boundary, idempotency, prefer, rehearsal, user_token
from .prefer import Prefer

ACCEPTED_FLAG = "bgtasks.accepted"
"""Stands in the WSGI environment of a request that came here, for those who look at its answer later (CORS)."""


def accept(state: AppState, definition: TaskDefinition, arguments: Arguments) -> Any:
    """Answer a request for a backgrounded view.

    :param arguments: what the view is called with: by Flask, or by the decorators above.
    :returns: what a view may return. :raises Exception: what the view raises, and whoever guards it.
    """
    request.environ[ACCEPTED_FLAG] = True
    try:
        return _Visit(state, definition, arguments).answer()
    finally:
        after_this_request(_varied)  # last: it is no part of what is stored


def _varied(response: Response) -> Response:
    response.vary.add("Prefer")
    return response


class _Settled(BaseException):
    """Carries an answer from the gate out through the decorators, none of which is to change it.

    Not an :class:`Exception`: a decorator that makes answers of errors is not to make one of this.
    """

    def __init__(self, answer: Callable[[], Response]) -> None:
        super().__init__("answered at the gate")
        self.answer = answer


class _Visit:
    """One request for a backgrounded view, on its way through the view's decorators."""

    def __init__(self, state: AppState, definition: TaskDefinition, arguments: Arguments) -> None:
        self._parts = parts_of(current_app)
        self._state = state
        self._definition = definition
        self._arguments = arguments
        self._chain = state.chain(definition)
        self._passage = Passage(self._arrive)
        self._task: Task | None = None
        self._foreground: Foreground | None = None
        self._settled: _Settled | None = None
        self._replayed = False

    def answer(self) -> Any:
        """Call the decorators; what comes after depends on whether they let the request come to the gate."""
        try:
            answer = self._passage.call(self._chain.view, self._arguments)
            if self._foreground is not None and self._definition.options.retries:
                answer = current_app.make_response(answer)
                self._foreground.refused(answer)
        except _Settled:
            return self._instead()
        except Exception as error:
            if self._settled is not None:
                return self._instead()
            if self._foreground is not None:
                self._foreground.raised(error)
                self._leave()
            raise
        if self._settled is not None:  # a decorator caught everything
            return self._instead()
        if self._foreground is not None:
            self._leave()
        return answer

    def _instead(self) -> Response:
        """The answer that was settled at the gate, whatever the decorators made of it."""
        settled, self._settled = self._settled, None
        assert settled is not None
        try:
            response = settled.answer()
        except StoreUnavailable as error:
            response = self._problem(error).response()
        return self._marked(response)

    def _problem(self, error: BackgroundTasksError) -> Problem:
        """What an error is to the client: once the task is stored, not that nothing was changed."""
        return problems.of_error(error, stored=None if self._task is None else self._task.request_id)

    def _leave(self) -> None:
        """The view has ended: what becomes of it, Flask decides; what it came to is stored when it has."""
        after_this_request(self._taken)

    def _taken(self, response: Response) -> Response:
        foreground = self.foreground
        foreground.take(response)
        if not boundary.left(request.environ):
            foreground.end()
        response = located(response, foreground.request_id, self._parts.base())
        return self._marked(response)

    @property
    def foreground(self) -> Foreground:
        """The attempt on this request's thread."""
        assert self._foreground is not None
        return self._foreground

    def answered_instead(self) -> Response:
        """The answer after an attempt on this thread that came to none: of the next one, elsewhere."""
        assert self._task is not None
        request.environ[ACCEPTED_FLAG] = True
        try:
            response = answers.awaited(self._parts, self._task)
        except StoreUnavailable as error:
            response = self._problem(error).response()
        return _varied(self._marked(response))

    def _marked(self, response: Response) -> Response:
        if self._task is not None:
            response.headers["Task-Id"] = self._task.request_id
        if self._replayed:
            response.headers["Idempotent-Replayed"] = "true"
        return response

    # -- at the gate -------------------------------------------------------------------------------------------------

    def _arrive(self, arguments: Arguments) -> AbstractContextManager[None]:
        """Every decorator has let the request pass: store it, and run it here or leave it to the runner.

        :raises _Settled: this request is answered by something else than its view.
        """
        if self._settled is not None:  # a decorator tries again
            raise self._settled
        if self._foreground is not None:
            return self._foreground.inside()
        try:
            return self._accepted(arguments)
        except _Settled as settled:
            self._settled = settled
            raise
        except Problem as problem:
            response = problem.response()
        except BackgroundTasksError as error:
            response = self._problem(error).response()
        self._settled = _Settled(lambda: response)
        raise self._settled

    def _accepted(self, called_with: Arguments) -> AbstractContextManager[None]:
        state, definition = self._state, self._definition
        wish = prefer.parse(request.headers.get("Prefer"))
        key = idempotency.parse(request.headers.get("Idempotency-Key"))
        input = kept_request.capture(
            request, max_bytes=state.settings.max_request_bytes, private=state.credentials.of(request)
        )
        owner = state.owners.current()
        scope = None if key is None else idempotency.scope(owner, definition.name, key)
        fingerprint = None if key is None else kept_request.fingerprint(input)

        here = _runs_here(definition, self._chain, wish)
        created = _repeated(state, scope, fingerprint)  # before validate: what was accepted is not judged again
        if created is not None and created.task.login_lost:
            created, here = _reopened(state, created.task, input), True  # on this thread, where the login is
        if created is None:
            refusal = _refusal(definition.options.validate, called_with[1])
            if refusal is not None:
                raise _Settled(lambda: refusal)
            self._keep_arguments(input, owner, here=here)
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
                promised=not here,
            )
        self._task = task = created.task
        self._replayed = created.replayed
        if not here:
            raise _Settled(lambda: answers.preferred(self._parts, task, wish))
        if created.replayed and task.status is not Status.STARTED:
            raise _Settled(lambda: answers.awaited(self._parts, task))
        # An earlier request's task too, if nobody has begun with it: that server may have died.
        try:
            self._foreground = state.engine.foreground(task.request_id)
        except TransitionRefused:  # another process took it first
            raise _Settled(lambda: answers.awaited(self._parts, task)) from None
        boundary.leave(request.environ, self)
        return self._foreground.inside()

    def _keep_arguments(self, input: dict[str, Any], owner: str | None, *, here: bool) -> None:
        """Store with the request what decorators added to the view's arguments, so that it reaches every run.

        :param here: whether the first attempt is on this thread, with the arguments as they are.
        :raises NotSerializable: a run could not get them.
        """
        name = self._definition.name
        called = current_app.view_functions[request.endpoint or ""]
        first = arguments.first(self._arguments, request.view_args or {}, called)
        changes, lost = arguments.passed_on(self._arguments, self._passage.boundaries, self._chain.bound)
        if first is not None:
            input["arguments"] = first
            if first.get("lost") and not here:
                raise NotSerializable(
                    f"view {name!r}: argument {first['lost'][0]!r}, which a decorator above @background adds, cannot "
                    "be stored as JSON, so no run could get it. Put that decorator below @background"
                )
        if changes:
            input["passed_on"] = changes
        if not lost or here or self._chain.rehearsed.issuperset(lost):
            return
        expected = self._passage.boundaries[-1][2]
        if not rehearsal.comes_to_the_gate(self._state, self._definition, input, owner, expected):
            raise NotSerializable(
                f"view {name!r}: argument {lost[0]} cannot be stored as JSON, and its decorator does not make it "
                "again in a run, where the request's credentials are missing. Name the header that it reads in "
                "BGTASKS_KEEP_HEADERS, restore what it needs with @bgtasks.before_run, or load it inside the view"
            )
        self._chain.rehearsed.update(lost)


def _runs_here(definition: TaskDefinition, chain: Chain, wish: Prefer) -> bool:
    """Whether the answer is the view's own, however long it takes.

    Where a decorator of the view could not be opened, it may be a guard that has not judged the request yet: then the
    view is called in the request whatever the client prefers, unless the app has said how requests are judged.
    """
    options = definition.options
    if options.respond == "hold" or (options.validate is None and chain.unseen(by_name=options.respond == "prefer")):
        return True
    return options.respond == "prefer" and wish == prefer.NOTHING


# -- what comes before it is stored ----------------------------------------------------------------------------------


def _repeated(state: AppState, scope: str | None, fingerprint: str | None) -> Created | None:
    """The task of an earlier request with the same key.

    The store would find it too; found here, a repeated request passes neither ``validate`` nor the limits again.

    :raises IdempotencyConflict: the key was used for another request.
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


def _reopened(state: AppState, task: Task, input: Mapping[str, Any]) -> Created:
    """A task whose run lacked the login that this repeated request has: its failure is not this request's answer."""
    try:
        return Created(state.engine.change(task, Reopen(input.get(PRIVATE))).task, replayed=True)
    except TransitionRefused:  # another repetition was faster
        return Created(state.store.get(task.request_id), replayed=True)


def _refusal(validate: Callable[..., Any] | None, view_args: Mapping[str, Any]) -> Response | None:
    """What ``validate`` answers instead, if it refuses the request; what it raises goes its way through Flask."""
    if validate is None:
        return None
    refused = current_app.ensure_sync(validate)(**_taken_by(validate, view_args))
    return None if refused is None else current_app.make_response(refused)


def _taken_by(function: Callable[..., Any], view_args: Mapping[str, Any]) -> dict[str, Any]:
    names = _parameters(function)
    return {k: v for k, v in view_args.items() if names is None or k in names}


def _parameters(function: Callable[..., Any]) -> frozenset[str] | None:
    """The names that a function takes; None for any."""
    taken = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken):
        return None
    return frozenset(p.name for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
