"""One call's way through a view's decorators to the function inside: in the request, in a run, or as a rehearsal.

:mod:`.layers` puts a trampoline in the place of each decorator and a gate in the place of the function. In the request
every decorator runs, as it always did, and what arrives at the gate is what may be stored. In a run the guards among
them are passed over, since they judged the request; a decorator that refuses the run, because a cookie is not there,
is passed over too. The others run as in the request.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import itertools
import json
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from flask import current_app
from flask.views import View
from werkzeug.exceptions import HTTPException
from werkzeug.sansio.response import Response

if TYPE_CHECKING:
    from .layer import Layer

log = logging.getLogger("flask_bgtasks")

Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]
"""What a view is called with: positional arguments, and those by name."""

Boundary = tuple[tuple[int, int], str, Arguments]
"""A place in the chain where a call came by: its number, the decorator's name, and what it was called with."""

GATE = (1 << 30, 0)
"""The gate's number: further in than any decorator."""

REFUSAL = 300
"""A cache that answers with less, without calling further, has the answer."""

_current: contextvars.ContextVar[Passage | None] = contextvars.ContextVar("bgtasks_passage", default=None)


class Passage:
    """A call on its way through the layers of a view. This one is in the request: every decorator runs.

    :param arrive: called at the gate with its arguments, each time; gives the context in which the function inside is
        called.
    """

    def __init__(self, arrive: Callable[[Arguments], AbstractContextManager[object]]) -> None:
        self._arrive = arrive
        self.reached: tuple[int, int] = (-1, 0)
        self.arrived = False
        self.boundaries: list[Boundary] = []

    def call(self, view: Callable[..., Any], arguments: Arguments) -> Any:
        """Call a view that has a gate, in the current app's context."""
        before = _current.get()
        _current.set(self)
        try:
            return current_app.ensure_sync(view)(*arguments[0], **arguments[1])
        finally:
            _current.set(before)

    def enter(self, layer: Layer, arguments: Arguments) -> None:
        """The call comes to a decorator."""
        self.reached = max(self.reached, layer.number)
        if not self.arrived:
            self.boundaries.append((layer.number, layer.name, arguments))

    def at_gate(self, arguments: Arguments) -> AbstractContextManager[object]:
        """The call comes to the gate; again, where a decorator tries again, or a method calls another one."""
        self.reached = GATE
        if not self.arrived:
            self.boundaries.append((GATE, "", arguments))
            self.arrived = True
        return self._arrive(arguments)

    def handed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What a decorator hands on, as the next one, or the gate, gets it."""
        return args, kwargs

    def passes_over(self, layer: Layer) -> bool:
        """Whether a decorator is not called."""
        return False

    def given(self, layer: Layer, arguments: Arguments) -> Arguments | None:
        """What a decorator passed on in the request, made from what it is called with; None if that is not known."""
        return arguments

    def instead(self, layer: Layer, arguments: Arguments, outcome: Any) -> Arguments | None:
        """The arguments with which to go on behind a decorator that refused; None if its outcome counts."""
        return None


class Run(Passage):
    """The way through in a run.

    :param passed_on: what decorators passed on in the request, by :func:`injected`.
    :param bound: as there.
    """

    def __init__(
        self,
        passed_on: Mapping[str, Any],
        *,
        name: str,
        bound: Collection[object] = (),
        arrive: Callable[[Arguments], AbstractContextManager[object]] = lambda arguments: nullcontext(),
    ) -> None:
        super().__init__(arrive)
        self._passed_on = passed_on
        self._name = name
        self._bound = bound

    def handed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What it handed on in the request, where that was stored: a cookie that it reads here is not there."""
        change = self._passed_on.get(_key(self.boundaries[-1][0])) if self.boundaries and not self.arrived else None
        if change is None:
            return args, kwargs
        bound = args[: len(args) - len(unbound((args, kwargs), self._bound)[0])]
        made = replaced(change, (args[len(bound) :], kwargs))
        return (*bound, *made[0]), dict(made[1])

    def passes_over(self, layer: Layer) -> bool:
        return layer.guard

    def given(self, layer: Layer, arguments: Arguments) -> Arguments | None:
        change = self._passed_on.get(_key(layer.number))
        if change is None:
            return arguments
        plain = unbound(arguments, self._bound)
        given = applied(change, plain)
        if given is None or plain is arguments:
            return given
        return (arguments[0][0], *given[0]), given[1]

    def instead(self, layer: Layer, arguments: Arguments, outcome: Any) -> Arguments | None:
        if self.reached > layer.number or not self._is_refusal(layer, outcome):
            return None
        given = self.given(layer, arguments)
        if given is not None:
            log.info("%s refuses in a run of %r; ignored, it has judged the request before", layer.name, self._name)
        return given

    def _is_refusal(self, layer: Layer, outcome: Any) -> bool:
        """Whether a decorator that did not go on refuses. In the request it went on; some refuse with status 200."""
        if isinstance(outcome, Exception):
            return True
        if inspect.isawaitable(outcome) or inspect.isgenerator(outcome) or getattr(outcome, "is_streamed", False):
            return False  # it goes on later
        return not layer.cache or _status(outcome) >= REFUSAL


class Arrived(BaseException):
    """A rehearsal came to the gate.

    :ivar alike: with arguments like those of the request.
    """

    def __init__(self, alike: bool) -> None:
        super().__init__(alike)
        self.alike = alike


class Rehearsal(Run):
    """Tries, in the request, whether a run would come to the gate.

    :param expected: the arguments that came there in the request.
    """

    def __init__(
        self, passed_on: Mapping[str, Any], *, name: str, bound: Collection[object], expected: Arguments
    ) -> None:
        super().__init__(passed_on, name=name, bound=bound)
        self._expected = unbound(expected, bound)

    def at_gate(self, arguments: Arguments) -> AbstractContextManager[object]:
        args, named = unbound(arguments, self._bound)
        known_args, known_named = self._expected
        pairs = [*zip(known_args, args, strict=False), *((value, named.get(key)) for key, value in known_named.items())]
        raise Arrived(len(args) == len(known_args) and all(_are_alike(one, other) for one, other in pairs))


# -- what stands in the place of functions ---------------------------------------------------------------------------


def gate(function: Callable[..., Any]) -> Callable[..., Any]:
    """What stands in the place of the function inside. Without a passage it is that function."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def async_gate(*args: Any, **kwargs: Any) -> Any:
            passage = _current.get()
            if passage is None:
                return await function(*args, **kwargs)
            args, kwargs = passage.handed(args, kwargs)
            with passage.at_gate((args, kwargs)):
                return await function(*args, **kwargs)

        return async_gate

    @functools.wraps(function)
    def sync_gate(*args: Any, **kwargs: Any) -> Any:
        passage = _current.get()
        if passage is None:
            return function(*args, **kwargs)
        args, kwargs = passage.handed(args, kwargs)
        with passage.at_gate((args, kwargs)):
            return function(*args, **kwargs)

    return sync_gate


def trampoline(
    layer: Layer, original: Callable[..., Any], rebuilt: Callable[..., Any], further: Callable[..., Any]
) -> Callable[..., Any]:
    """What stands in the place of a decorator.

    :param original: the app's own. :param rebuilt: its copy, which calls ``further``.
    """
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def async_trampoline(*args: Any, **kwargs: Any) -> Any:
            passage = _current.get()
            if passage is None:
                return await rebuilt(*args, **kwargs)
            args, kwargs = passage.handed(args, kwargs)
            passage.enter(layer, (args, kwargs))
            given = passage.given(layer, (args, kwargs)) if passage.passes_over(layer) else None
            if given is None:
                try:
                    outcome = await rebuilt(*args, **kwargs)
                except Exception as error:
                    given = passage.instead(layer, (args, kwargs), error)
                    if given is None:
                        raise
                else:
                    given = passage.instead(layer, (args, kwargs), outcome)
                    if given is None:
                        return outcome
            outcome = further(*given[0], **given[1])
            return await outcome if inspect.isawaitable(outcome) else outcome

        return async_trampoline

    @functools.wraps(original)
    def sync_trampoline(*args: Any, **kwargs: Any) -> Any:
        passage = _current.get()
        if passage is None:
            return rebuilt(*args, **kwargs)
        args, kwargs = passage.handed(args, kwargs)
        passage.enter(layer, (args, kwargs))
        given = passage.given(layer, (args, kwargs)) if passage.passes_over(layer) else None
        if given is None:
            try:
                outcome = rebuilt(*args, **kwargs)
            except Exception as error:
                given = passage.instead(layer, (args, kwargs), error)
                if given is None:
                    raise
            else:
                given = passage.instead(layer, (args, kwargs), outcome)
                if given is None:
                    return outcome
        return current_app.ensure_sync(further)(*given[0], **given[1])

    return sync_trampoline


# -- arguments that decorators add -----------------------------------------------------------------------------------


def injected(boundaries: Sequence[Boundary], bound: Collection[object] = ()) -> tuple[dict[str, Any], list[str]]:
    """What decorators changed in the arguments that they passed on, as JSON.

    :param bound: the objects of bound methods in the chain, whose ``self`` no decorator adds.
    :returns: the changes by decorator, and the arguments that JSON cannot hold: ``"user (from app.token_required)"``.
    """
    changes: dict[str, Any] = {}
    lost: list[str] = []
    for (number, name, before), (_, _, after) in itertools.pairwise(boundaries):
        change = difference(unbound(before, bound), unbound(after, bound))
        if change is not None:
            changes[_key(number)] = change
            lost += [f"{label} (from {name})" for label in change.get("lost", ())]
    return changes, lost


def difference(before: Arguments, after: Arguments) -> dict[str, Any] | None:
    """How ``after`` is made from ``before``, as JSON; None where they are the same.

    ``{"args": [{"arg": 0}, {"value": 5}], "kwargs": {"id": {"name": "id"}}, "lost": ["user"]}``
    """
    same_args = len(before[0]) == len(after[0]) and all(a is b for a, b in zip(before[0], after[0], strict=True))
    same_named = before[1].keys() == after[1].keys() and all(before[1][k] is v for k, v in after[1].items())
    if same_args and same_named:
        return None
    lost: list[str] = []
    made = {
        "args": [_source(value, str(place), before, lost) for place, value in enumerate(after[0])],
        "kwargs": {name: _source(value, name, before, lost) for name, value in after[1].items()},
    }
    return {**made, "lost": lost} if lost else made


def applied(change: Mapping[str, Any], arguments: Arguments) -> Arguments | None:
    """The arguments after a change of :func:`difference`; None where something of them was lost."""
    if change.get("lost"):
        return None

    def value(source: Mapping[str, Any]) -> Any:
        if "value" in source:
            return source["value"]
        return arguments[0][source["arg"]] if "arg" in source else arguments[1][source["name"]]

    try:
        return tuple(value(s) for s in change["args"]), {name: value(s) for name, s in change["kwargs"].items()}
    except LookupError:  # stored by another version of the app, whose decorators passed on other arguments
        return None


def replaced(change: Mapping[str, Any], arguments: Arguments) -> Arguments:
    """Arguments with the values of a change of :func:`difference`, where they are as many and have the same names."""
    if len(change["args"]) != len(arguments[0]) or change["kwargs"].keys() != arguments[1].keys():
        return arguments  # stored by another version of the app
    args = tuple(_kept(source, own) for source, own in zip(change["args"], arguments[0], strict=True))
    return args, {name: _kept(change["kwargs"][name], own) for name, own in arguments[1].items()}


def _kept(source: Mapping[str, Any], own: Any) -> Any:
    value = source.get("value", own)
    gone = (
        isinstance(value, str) and os.path.isabs(value) and not os.path.exists(value)
    )  # the request's temporary folder
    return own if gone else value


def _source(value: Any, label: str, before: Arguments, lost: list[str]) -> dict[str, Any]:
    for place, known in enumerate(before[0]):
        if known is value:
            return {"arg": place}
    for name, known in before[1].items():
        if known is value:
            return {"name": name}
    if is_json(value):
        return {"value": value}
    lost.append(label)
    return {}


def is_json(value: Any) -> bool:
    """Whether a value comes back from JSON as it was."""
    try:
        return type(back := json.loads(json.dumps(value, allow_nan=False))) is type(value) and bool(back == value)
    except (TypeError, ValueError, RecursionError):
        return False


def unbound(arguments: Arguments, bound: Collection[object]) -> Arguments:
    """The arguments without the ``self`` of a class-based view's, or a bound, method."""
    first = arguments[0][0] if arguments[0] else None
    if isinstance(first, View) or any(first is one for one in bound):
        return arguments[0][1:], arguments[1]
    return arguments


def _key(number: tuple[int, int]) -> str:
    return f"{number[0]}.{number[1]}"


# -- helpers ---------------------------------------------------------------------------------------------------------


def _are_alike(one: Any, other: Any) -> bool:
    """Whether two objects may be made of one request: not a user, and nobody where the login is missing."""
    return type(one) is type(other) and bool(getattr(one, "id", None) == getattr(other, "id", None))


def _status(outcome: Any) -> int:
    """The status of what a decorator returned, as far as it can be seen without making a response of it."""
    if isinstance(outcome, Response):
        return outcome.status_code
    if isinstance(outcome, HTTPException):
        return outcome.code or 500
    if isinstance(outcome, tuple):
        return next((part for part in outcome[1:] if isinstance(part, int)), 200)
    return 200
