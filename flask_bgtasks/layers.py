"""Takes a view apart into its decorators and the function inside, and puts it together again around a gate.

A decorator keeps the function it decorates in a closure, an attribute or a default value. A copy of the decorated view
is made in which a *gate* stands in the place of the innermost function, and a *trampoline* in the place of each
decorator in between. The app's own objects stay as they are. What gate and trampolines do is :mod:`.passage`'s.
"""

from __future__ import annotations

import copy
import dis
import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from flask import Blueprint, Flask
from flask.views import MethodView, View

from . import passage
from .marks import attributes, content

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

INNER_NAMES = frozenset(
    {"f", "fn", "func", "function", "handler", "inner", "method", "view", "view_func", "view_function", "wrapped"}
)
"""What decorators call the function that they decorate, for those that do not use :func:`functools.wraps`."""

DEEPEST = 50
"""More decorators than this are taken for a circle."""

MOST_HELD = 20
"""A list or table with more in it than this is none of decorated functions."""

REACH = 5
"""How many objects may stand between a decorator and the function it decorates: a partial, a list, a helper."""


@dataclass(frozen=True, slots=True, order=True)
class Layer:
    """One decorator of a view.

    :ivar number: its place, outermost first; methods of a class-based view and their decorators come after the class's.
    :ivar name: the decorator, for messages.
    :ivar guard: it only judges the request.
    :ivar cache: it may have the answer already.
    """

    number: tuple[int, int]
    name: str
    guard: bool
    cache: bool = False


class Chain:
    """A view with a gate inside.

    :ivar view: what to call, below :meth:`flask_bgtasks.passage.Passage.call`.
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
        self._guards = [code for guard in guards for code in _codes_inside(guard)]
        self.view = self._rebuilt(view, (0, 0))
        self.layers.sort()

    def unseen(self, *, by_name: bool) -> list[str]:
        """The callables in which a guard may hide.

        :param by_name: the app's author has put nothing of ours at the view, and knows of no ``202``: then every doubt
            counts.
        """
        return [*self.sealed, *self.doubtful] if by_name else self.sealed

    def _rebuilt(self, function: Callable[..., Any], number: tuple[int, int]) -> Callable[..., Any]:
        if number[1] > DEEPEST:
            self.sealed.append(name_of(function))
            return _gate(function)
        if isinstance(function, types.MethodType):
            self.bound.append(function.__self__)
            return types.MethodType(self._rebuilt(function.__func__, number), function.__self__)
        if _is_class_view(function):
            return self._class_view(cast(types.FunctionType, function), number) or _gate(function)
        inner = _inner(function)
        if inner is None:
            if _is_like_a_decorator(function, method=number[0] > 0):
                self.sealed.append(name_of(function))
            elif _may_be_a_decorator(function):
                self.doubtful.append(name_of(function))
            return _gate(function)
        if _replaced(function, inner, _PROBE) is None:
            self.sealed.append(name_of(function))
            return _gate(function)
        further = self._rebuilt(inner, (number[0], number[1] + 1))
        return self._trampoline(function, _replaced(function, inner, further), further, number)

    def _trampoline(
        self, original: Callable[..., Any], rebuilt: Any, further: Callable[..., Any], number: tuple[int, int]
    ) -> Callable[..., Any]:
        if isinstance(original, functools.partial) and _inner(original) is original.func:
            return cast(Callable[..., Any], rebuilt)
        layer = self._layer(number, original)
        self.layers.append(layer)
        return passage.trampoline(layer, original, rebuilt, further)

    def _layer(self, number: tuple[int, int], function: Callable[..., Any]) -> Layer:
        cache = _module(function).partition(".")[0] in CACHE_PACKAGES
        return Layer(number, name_of(function), self._is_guard(function), cache)

    def _is_guard(self, function: Callable[..., Any]) -> bool:
        code = getattr(function, "__code__", None)
        if code is not None and any(code is known for known in self._guards):
            return True
        return _module(function).partition(".")[0] in GUARD_PACKAGES

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
            for name, value in _attributes(own).items():  # in slots
                object.__setattr__(instance, name, value)
            object.__setattr__(instance, "__dict__", vars(own))  # shared: what it counts stays one count
            cells["self"] = types.CellType(instance)
        return _copied(view, tuple(cells[name] for name in view.__code__.co_freevars))

    def _gated_class(self, old: type, below: int) -> type | None:
        names = [m.lower() for m in getattr(old, "methods", None) or ()]
        if not issubclass(old, MethodView):
            names = ["dispatch_request"]
        methods: dict[str, Any] = {}
        for name in names:
            raw = inspect.getattr_static(old, name, None)
            if _is_plain_function(raw):
                methods[name] = self._rebuilt(raw, (below + 1, 0))
        if not methods:
            return None
        if issubclass(old, MethodView):
            methods.update(self._own_dispatch(old, below))
        decorators = getattr(old, "method_decorators", None)  # Flask-RESTX, Flask-RESTful: applied in each request
        if decorators:
            methods["method_decorators"] = self._wrapped_decorators(decorators, below)
        return _subclass(old, methods)

    def _own_dispatch(self, old: type, below: int) -> dict[str, Any]:
        """A ``dispatch_request`` of the app's own, which checks something before it calls Flask's: a decorator too."""
        definer = next(kind for kind in old.__mro__ if "dispatch_request" in vars(kind))
        original = vars(definer)["dispatch_request"]
        if definer.__module__.partition(".")[0] in VIEW_PACKAGES or not _is_plain_function(original):
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


# -- what a decorator decorates --------------------------------------------------------------------------------------


def name_of(function: Callable[..., Any]) -> str:
    """A decorator's, or a function's, name for messages: where its code stands."""
    code = getattr(function, "__code__", None)
    if code is None:
        return f"{type(function).__module__}.{type(function).__qualname__}"
    name = getattr(code, "co_qualname", code.co_name)  # co_qualname is there from Python 3.11 on
    return f"{_module(function)}.{name.replace('.<locals>', '')}"


def find_class_view(view: Callable[..., Any]) -> types.FunctionType | None:
    """What ``as_view`` made, below the decorators of a view; None for a view that is a function."""
    function: Callable[..., Any] | None = view
    for _ in range(DEEPEST):
        if function is None:
            return None
        if _is_class_view(function):
            return cast(types.FunctionType, function)
        function = _inner(function)
    return None


def new_instance(view: Callable[..., Any]) -> Any:
    """An instance of the class behind a class-based view, as Flask makes one for each request; None if it has none."""
    function = find_class_view(view)
    if function is None:
        return None
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    if "view" not in cells:
        return cells["self"].cell_contents
    kind = cells["view"].cell_contents.view_class
    return kind(*cells["class_args"].cell_contents, **cells["class_kwargs"].cell_contents)


_AS_VIEW = frozenset(
    c for c in cast(Any, View.as_view).__func__.__code__.co_consts if isinstance(c, types.CodeType) and c.co_freevars
)
"""The code of the functions that ``View.as_view`` returns."""


def _is_class_view(function: Callable[..., Any]) -> bool:
    return _is_plain_function(function) and cast(types.FunctionType, function).__code__ in _AS_VIEW


def _inner(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """What a decorated function decorates; None for one that decorates nothing, as far as can be seen."""
    if isinstance(function, functools.partial):
        given = [held for held in (*function.args, *function.keywords.values()) if _is_function(held)]
        return given[0] if len(given) == 1 and _may_decorate(function, given[0]) else function.func
    inner = _wrapped(function)
    if inner is not None:
        return inner
    candidates = _candidates(function)
    renamed = [held for held in candidates.values() if _has_name_of(function, held)]
    if len(renamed) == 1:
        return renamed[0]
    if len(candidates) == 1 and (not _is_plain_function(function) or _takes_anything(function)):
        named = list(candidates.values())
    else:
        named = [held for name, held in candidates.items() if name.strip("_") in INNER_NAMES]
    return named[0] if len(named) == 1 and _may_decorate(function, named[0]) else None


def _candidates(function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """The functions that a callable holds, without those of the factory that a view stands in: it may use them."""
    held = dict(_held_functions(function))
    if not _is_plain_function(function):
        return held
    return {name: one for name, one in held.items() if not _stand_together(function, one)}


def _has_name_of(function: Any, held: Any) -> bool:
    """Whether a wrapper was given the name of what it holds, by hand, as Flask's endpoints want it."""
    name = getattr(function, "__name__", None)
    return _is_plain_function(function) and name != function.__code__.co_name and name == getattr(held, "__name__", "")


def _may_decorate(holder: Callable[..., Any], held: Callable[..., Any]) -> bool:
    """Whether a callable may decorate a function that it holds, rather than use it as a helper.

    A decorator passes on whatever it is called with, or takes the parameters that the function takes.
    """
    code = _code_of_call(holder)
    return code is None or _passes_on(code) or _count_parameters(holder, held) == _count_parameters(held)


def _count_parameters(function: Callable[..., Any], held: object = None) -> int:
    """How many parameters a call of it has; less ``self``, and less the one that holds ``held``."""
    try:
        parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):  # written in C
        return -1
    counted = [p for place, p in enumerate(parameters) if place > 0 or p.name not in ("self", "cls")]
    return sum(1 for parameter in counted if held is None or parameter.default is not held)


def _code_of_call(function: Callable[..., Any]) -> types.CodeType | None:
    """The code that a call of it runs; None where that is not Python."""
    if isinstance(function, functools.partial):
        return _code_of_call(function.func)
    called = function if isinstance(function, (types.FunctionType, types.MethodType)) else type(function).__call__
    return cast("types.CodeType | None", getattr(called, "__code__", None))


def _passes_on(code: types.CodeType) -> bool:
    """Whether a function takes any arguments, and calls something with such: ``f(*args, **kwargs)``."""
    if not code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        return False
    codes = [code, *(inside for inside in code.co_consts if isinstance(inside, types.CodeType))]
    return any(step.opname == "CALL_FUNCTION_EX" for one in codes for step in dis.get_instructions(one))


def _wrapped(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """What :func:`functools.wraps` left behind; wrapt's proxies show it by themselves."""
    inner = _attributes(function).get("__wrapped__")
    if inner is None and not _is_plain_function(function):
        inner = getattr(function, "__wrapped__", None)
    return cast(Callable[..., Any], inner) if callable(inner) and inner is not function else None


def _stand_together(function: Any, held: Any) -> bool:
    """Whether two functions were defined in the same function: a decorator's wrapper and its view were not."""
    place = getattr(function.__code__, "co_qualname", function.__qualname__)  # there from Python 3.11 on
    scope = place.rpartition(".")[0]
    same = getattr(held, "__qualname__", "").rpartition(".")[0] == scope
    return same and scope.endswith("<locals>") and getattr(held, "__module__", "") == _module(function)


def _is_like_a_decorator(function: Callable[..., Any], *, method: bool) -> bool:
    """Whether a callable that could not be opened may hide a guard.

    It passes everything on, to something that is not seen: an attribute, a view that is imported when it is called. Or
    it holds a function that it may decorate.

    :param method: a method of a class-based view, of which only ``super()`` is a view that it may guard.
    """
    code = _code_of_call(function)
    if isinstance(function, types.BuiltinFunctionType):
        return False
    candidates = _candidates(function)
    explained = not candidates and any(True for _ in _held_functions(function))  # it calls its factory's functions
    if code is not None and _passes_on(code) and not explained and (not method or "super" in code.co_names):
        return True
    if not _is_plain_function(function):
        return bool(candidates)
    return False


def _may_be_a_decorator(function: Callable[..., Any]) -> bool:
    """Whether a function that takes arguments of its own holds one that it may decorate, or just use."""
    if not _is_plain_function(function):
        return False
    held = _candidates(function).items()
    return any(name.strip("_") in INNER_NAMES or _may_decorate(function, one) for name, one in held)


def _held_functions(function: Callable[..., Any]) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The functions that a callable holds, itself or in a list or table, with the names under which it does."""
    held = _held_by_function(function) if _is_plain_function(function) else _attributes(function).items()
    for name, value in held:
        if _is_function(value) and value is not function:
            yield name, value
        elif type(value) in (list, tuple, dict) and len(value) < MOST_HELD:
            for item in value.values() if isinstance(value, dict) else value:
                if _is_function(item):
                    yield name, item


def _held_by_function(function: Any) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, content(cell)
    defaults = function.__defaults__ or ()
    names = function.__code__.co_varnames[: function.__code__.co_argcount][-len(defaults) or None :]
    yield from zip(names, defaults, strict=False)
    yield from (function.__kwdefaults__ or {}).items()


def _is_plain_function(function: Any) -> bool:
    """Whether this is a function itself, and no proxy that says it is one."""
    return type(function) is types.FunctionType


def _is_function(held: Any) -> bool:
    if _is_plain_function(held) or isinstance(held, (types.MethodType, functools.partial)):
        return True
    return callable(held) and not isinstance(held, type) and _wrapped(held) is not None


def _takes_anything(function: Any) -> bool:
    flags = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    return bool(function.__code__.co_flags & flags == flags)


# -- a copy with something else in its place -------------------------------------------------------------------------


def _replaced(holder: Any, old: Any, new: Any, reach: int = REACH) -> Any:
    """A copy of what holds ``old``, which holds ``new`` instead; None if it does not hold it."""
    if holder is old:
        return new
    if reach == 0:
        return None
    again = functools.partial(_replaced, old=old, new=new, reach=reach - 1)
    if _is_plain_function(holder):
        return _replaced_in_function(holder, again)
    if isinstance(holder, types.MethodType):
        made = again(holder.__func__)
        if made is not None:
            return types.MethodType(made, holder.__self__)
        owner = again(holder.__self__)
        return None if owner is None else types.MethodType(holder.__func__, owner)
    if isinstance(holder, functools.partial):
        made = again([holder.func, list(holder.args), holder.keywords])
        return None if made is None else functools.partial(made[0], *made[1], **made[2])
    if isinstance(holder, (list, tuple)) and type(holder) in (list, tuple) and len(holder) < MOST_HELD:
        several = [again(item) for item in holder]
        if all(item is None for item in several):
            return None
        return type(holder)(o if n is None else n for o, n in zip(holder, several, strict=True))
    if isinstance(holder, dict) and type(holder) is dict and len(holder) < MOST_HELD:
        found = {key: made for key, value in holder.items() if (made := again(value)) is not None}
        return {**holder, **found} if found else None
    return _replaced_in_object(holder, old, again)


def _replaced_in_function(function: types.FunctionType, again: Callable[[Any], Any]) -> types.FunctionType | None:
    cells = list(function.__closure__ or ())
    found = False
    for place, cell in enumerate(cells):
        held = content(cell)
        made = None if held is function else again(held)
        if made is not None:
            cells[place] = types.CellType(made)
            found = True
    defaults = [again(value) for value in function.__defaults__ or ()]
    named = {name: again(value) for name, value in (function.__kwdefaults__ or {}).items()}
    if not found and not any(m is not None for m in (*defaults, *named.values())):
        return None
    copied = _copied(function, tuple(cells))
    if function.__defaults__:
        copied.__defaults__ = tuple(o if n is None else n for o, n in zip(function.__defaults__, defaults, strict=True))
    if function.__kwdefaults__:
        copied.__kwdefaults__ = {k: v if named[k] is None else named[k] for k, v in function.__kwdefaults__.items()}
    return copied


def _replaced_in_object(holder: Any, old: Any, again: Callable[[Any], Any]) -> Any:
    """Of an object only what it holds itself: a decorator that is a class, or wrapt's."""
    if isinstance(holder, (type, types.ModuleType, Flask, Blueprint)) or _content_is_plain(holder):
        return None
    wrapper = getattr(holder, "_self_wrapper", None)  # wrapt.FunctionWrapper: no attribute of its own can be copied
    if wrapper is not None and getattr(holder, "__wrapped__", None) is old:
        return type(holder)(again(old), wrapper)
    found = {}
    for name, value in _attributes(holder).items():
        if value is old:
            found[name] = again(value)
        elif isinstance(value, (functools.partial, types.MethodType)) or type(value) in (list, tuple, dict):
            made = again(value)
            if made is not None:
                found[name] = made
    if not found:
        return None
    alike = _lookalike(holder, found)
    if alike is not None:
        return alike
    copied = copy.copy(holder)
    if copied is holder:  # functools.lru_cache's: written in C, and calls what nobody can replace
        return None
    for name, value in found.items():
        object.__setattr__(copied, name, value)
    return copied


def _lookalike(holder: Any, found: Mapping[str, Any]) -> Any:
    """An object with all attributes of another one, now and later, but for some; None where that cannot be made.

    A decorator's object that is changed later, to close an endpoint say, is changed for the view too.
    """

    def attribute(name: str, old: Any, new: Any) -> property:
        def get(self: Any) -> Any:
            value = vars(self)[name]
            return new if value is old else value

        return property(get, lambda self, value: vars(self).update({name: value}), lambda self: vars(self).pop(name))

    own = getattr(holder, "__dict__", None)
    if type(own) is not dict or not found.keys() <= own.keys() or _attributes(holder).keys() != own.keys():
        return None
    try:
        kind = _subclass(type(holder), {name: attribute(name, own[name], new) for name, new in found.items()})
        alike: Any = object.__new__(kind)
        object.__setattr__(alike, "__dict__", own)
    except TypeError:  # made in C, or with a layout of its own
        return None
    return alike


class _Quiet:
    """Keeps a class from hearing of a subclass that is none of the app's: some register theirs, or make conditions."""

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Does not call the class's own."""


def _subclass(kind: type, body: Mapping[str, Any]) -> type:
    """A subclass of which neither the class nor its metaclass hears."""
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type.__new__(type(kind), kind.__name__, (_Quiet, kind), {**names, **body})


def _copied(function: types.FunctionType, closure: tuple[types.CellType, ...]) -> types.FunctionType:
    """The function with another closure. What it shares with others through cells, a counter say, stays shared."""
    made = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, closure or None
    )
    made.__kwdefaults__ = function.__kwdefaults__
    made.__dict__.update(function.__dict__)
    made.__qualname__, made.__module__ = function.__qualname__, function.__module__
    made.__doc__, made.__annotations__ = function.__doc__, function.__annotations__
    return made


def _gate(function: Callable[..., Any]) -> Callable[..., Any]:
    return passage.gate(function)


# -- helpers ---------------------------------------------------------------------------------------------------------


def _PROBE() -> None:  # noqa: N802 - a constant: stands for a replacement, to see whether there is a place for one
    """Stands for the replacement."""


def _module(function: Any) -> str:
    """The module in which a function's code stands: ``__module__`` is copied from what it decorates."""
    if isinstance(function, types.MethodType):
        function = function.__func__
    if _is_plain_function(function):
        return str(function.__globals__.get("__name__", ""))
    return type(function).__module__


def _attributes(holder: Any) -> dict[str, Any]:
    """What an object holds itself, in its ``__dict__`` and its slots."""
    found: dict[str, Any] = {}
    slots = [getattr(kind, "__slots__", ()) for kind in type(holder).__mro__]
    for name in (name for several in slots for name in ((several,) if isinstance(several, str) else several)):
        try:
            found[name] = object.__getattribute__(holder, name)
        except AttributeError:  # not set, or its name is mangled
            continue
    return {**found, **attributes(holder)}


def _content_is_plain(holder: Any) -> bool:
    return holder is None or isinstance(holder, (str, bytes, int, float, set, frozenset))


def _codes_inside(decorator: Callable[..., Any]) -> list[types.CodeType]:
    """The code of the functions that a decorator makes."""
    start = getattr(inspect.unwrap(decorator), "__code__", None)
    found: list[types.CodeType] = []
    waiting = [start] if start is not None else []
    while waiting:
        code = waiting.pop()
        inside = [c for c in code.co_consts if isinstance(c, types.CodeType)]
        found += inside
        waiting += inside
    return found
