"""Takes a view apart into its decorators and the function inside, and puts it together again around a gate.

A decorator keeps the function it decorates in a closure, an attribute or a default value. A copy of the decorated view
is made in which a *gate* stands in the place of the innermost function, and a *trampoline* in the place of each
decorator in between. The app's own objects stay as they are. What gate and trampolines do is :mod:`.passage`'s.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from flask.views import MethodView

from . import passage
from .decorated import (
    MAX_DEPTH,
    all_attributes,
    codes_inside,
    definers_of,
    find_decorated,
    is_class_view,
    is_like_a_decorator,
    is_plain_function,
    is_template,
    may_be_a_decorator,
    module_of,
    name_of,
)
from .layer import Layer
from .replaced import copy_function, replace, subclass

F = TypeVar("F", bound=Callable[..., Any])

GUARD_PACKAGES = frozenset(
    {
        "authlib",
        "flask_allows",
        "flask_httpauth",
        "flask_jwt",
        "flask_jwt_extended",
        "flask_limiter",
        "flask_login",
        "flask_oidc",
        "flask_principal",
        "flask_pyoidc",
        "flask_security",
        "flask_user",
        "flask_wtf",
    }
)
"""Packages whose decorators only judge the request: they let it pass or refuse it, and are not run again in a run."""

CACHE_PACKAGES = frozenset({"cachetools", "flask_cache", "flask_caching", "joblib", "diskcache", "dogpile"})
"""Packages whose decorators have the answer where they do not call the view."""

VIEW_PACKAGES = frozenset({"flask", "flask_restful", "flask_restx", "flask_smorest", "apiflask"})
"""Whose ``dispatch_request`` only looks for the method to call."""


class Chain:
    """A view with a gate inside.

    :ivar view: what to call, below :meth:`flask_bgtasks.wrapping.passage.Passage.call`.
    :ivar layers: its decorators, outermost first.
    :ivar bound: the objects whose bound methods are in the chain.
    :ivar sealed: callables that look like decorators and could not be opened: what they guard, they guard unseen.
    :ivar doubtful: functions that hold another one: views that use it, more often than decorators of it.
    """

    def __init__(self, view: Callable[..., Any], guards: Sequence[Callable[..., Any]] = ()) -> None:
        self.layers: list[Layer] = []
        self.sealed: list[str] = []
        self.doubtful: list[str] = []
        self.bound: list[object] = []
        self.rehearsed: set[str] = set()  # arguments that a run was seen to get, though they are not stored
        self._methods: list[tuple[type, str, Any]] = []  # of the classes behind class-based views, as they were found
        self._guards = [code for guard in guards for code in codes_inside(guard)]
        self.view = self._rebuilt(view, (0, 0))
        self.layers.sort()

    def unseen(self, *, by_name: bool) -> list[str]:
        """The callables in which a guard may hide.

        :param by_name: the app's author has put nothing of ours at the view, and knows of no ``202``: then every doubt
            counts.
        """
        return [*self.sealed, *self.doubtful] if by_name else self.sealed

    @property
    def stale(self) -> bool:
        """Whether a class behind it has another method now: a test patched it, ``mock.patch.object(View, "post")``."""
        return any(_method_of(kind, name) is not found for kind, name, found in self._methods)

    def _rebuilt(self, function: Callable[..., Any], number: tuple[int, int]) -> Callable[..., Any]:
        if number[1] > MAX_DEPTH:
            self.sealed.append(name_of(function))
            return passage.gate(function)
        if isinstance(function, types.MethodType):
            self.bound.append(function.__self__)
            return types.MethodType(self._rebuilt(function.__func__, number), function.__self__)
        if is_class_view(function):
            return self._class_view(cast(types.FunctionType, function), number) or passage.gate(function)
        inner = find_decorated(function)
        if inner is None:
            if is_like_a_decorator(function, method=number[0] > 0):
                self.sealed.append(name_of(function))
            elif may_be_a_decorator(function):
                self.doubtful.append(name_of(function))
            return passage.gate(function)
        if replace(function, inner, _probe) is None:
            self.sealed.append(name_of(function))
            return passage.gate(function)
        further = self._rebuilt(inner, (number[0], number[1] + 1))
        return self._trampoline(function, replace(function, inner, further), further, number)

    def _trampoline(
        self, original: Callable[..., Any], rebuilt: Any, further: Callable[..., Any], number: tuple[int, int]
    ) -> Callable[..., Any]:
        if isinstance(original, functools.partial) and find_decorated(original) is original.func:
            return cast(Callable[..., Any], rebuilt)
        layer = self._layer(number, original)
        self.layers.append(layer)
        return passage.trampoline(layer, original, rebuilt, further)

    def _layer(self, number: tuple[int, int], function: Callable[..., Any]) -> Layer:
        cache = module_of(function).partition(".")[0] in CACHE_PACKAGES
        return Layer(number, name_of(function), self._is_guard(function), cache)

    def _is_guard(self, function: Callable[..., Any]) -> bool:
        code = getattr(function, "__code__", None)
        if code is not None and any(code is known for known in self._guards):
            return True
        return module_of(function).partition(".")[0] in GUARD_PACKAGES

    # -- class-based views -------------------------------------------------------------------------------------------

    def _class_view(self, view: types.FunctionType, number: tuple[int, int]) -> Callable[..., Any] | None:
        """The view that ``as_view`` made, of a class whose methods have gates; None where no method can have one."""
        cells = dict(zip(view.__code__.co_freevars, view.__closure__ or (), strict=True))
        fresh = "view" in cells
        old = cells["view"].cell_contents.view_class if fresh else type(cells["self"].cell_contents)
        below = number[0] + 1
        made = self._gated_class(old, below)
        if made is None:
            return None
        if fresh:
            cells["view"] = types.CellType(types.SimpleNamespace(view_class=made))
        else:
            instance: Any = object.__new__(made)
            own = cells["self"].cell_contents
            for name, value in all_attributes(own).items():  # in slots
                object.__setattr__(instance, name, value)
            object.__setattr__(instance, "__dict__", vars(own))  # shared: what it counts stays one count
            cells["self"] = types.CellType(instance)
        return copy_function(view, tuple(cells[name] for name in view.__code__.co_freevars))

    def _gated_class(self, old: type, below: int) -> type | None:
        names = [m.lower() for m in getattr(old, "methods", None) or ()]
        if not issubclass(old, MethodView):
            names = ["dispatch_request"]
        methods: dict[str, Any] = {}
        for name in names:
            raw = _method_of(old, name)
            self._methods.append((old, name, raw))
            if is_plain_function(raw):
                if is_template(old, name):
                    self.sealed.append(name_of(raw))
                methods[name] = self._rebuilt(raw, (below + 1, 0))
        if not methods:
            return None
        if issubclass(old, MethodView):
            methods.update(self._own_dispatch(old, below))
        decorators = getattr(old, "method_decorators", None)  # Flask-RESTX, Flask-RESTful: applied in each request
        if decorators:
            methods["method_decorators"] = self._wrapped_decorators(decorators, below)
        return subclass(old, methods)

    def _own_dispatch(self, old: type, below: int) -> dict[str, Any]:
        """A ``dispatch_request`` of the app's own, which checks something before it calls Flask's: a decorator too."""
        definer = definers_of(old, "dispatch_request")[0]
        original = vars(definer)["dispatch_request"]
        if definer.__module__.partition(".")[0] in VIEW_PACKAGES or not is_plain_function(original):
            return {}

        def further(self: Any, *args: Any, **kwargs: Any) -> Any:
            return cast(Any, super(definer, self)).dispatch_request(*args, **kwargs)

        layer = self._layer((below, -(1 << 20)), original)
        self.layers.append(layer)
        return {"dispatch_request": passage.trampoline(layer, original, original, further)}

    def _wrapped_decorators(self, decorators: Any, below: int) -> Any:
        if isinstance(decorators, dict):
            return {method: self._wrapped_decorators(several, below) for method, several in decorators.items()}
        # The last one in the list is applied last, so it is the outermost.
        return [self._wrapped_decorator(one, (below, -place)) for place, one in enumerate(decorators)]

    def _wrapped_decorator(self, decorator: Callable[..., Any], number: tuple[int, int]) -> Callable[..., Any]:
        def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
            decorated = decorator(method)
            layer = self._layer(number, decorated)
            return passage.trampoline(layer, decorated, decorated, method)

        if not any(layer.number == number for layer in self.layers):
            self.layers.append(self._layer(number, decorator))
        return decorate


def _method_of(kind: type, name: str) -> Any:
    """A class's method as it stands in the class, or in one above it; None if there is none."""
    definers = definers_of(kind, name)
    return vars(definers[0])[name] if definers else None


def _probe() -> None:
    """Stands for a replacement, to see whether there is a place for one."""
