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
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from flask import current_app
from werkzeug.exceptions import HTTPException
from werkzeug.sansio.response import Response

from .argument_changes import Arguments, Boundary, applied, key_of, replaced, unbound

if TYPE_CHECKING:
    from .layer import Layer

log = logging.getLogger("flask_bgtasks")

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

    :param passed_on: what decorators passed on in the request, as :func:`.argument_changes.injected` returns it.
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
        change = self._passed_on.get(key_of(self.boundaries[-1][0])) if self.boundaries and not self.arrived else None
        if change is None:
            return args, kwargs
        bound = args[: len(args) - len(unbound((args, kwargs), self._bound)[0])]
        made = replaced(change, (args[len(bound) :], kwargs))
        return (*bound, *made[0]), dict(made[1])

    def passes_over(self, layer: Layer) -> bool:
        return layer.guard

    def given(self, layer: Layer, arguments: Arguments) -> Arguments | None:
        change = self._passed_on.get(key_of(layer.number))
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
