"""Finds the function inside a decorated one, and distinguishes decorators from views that only use a function.

A decorator keeps the function in a closure, an attribute or a default value, with :func:`functools.wraps` or without.
"""

from __future__ import annotations

import dis
import functools
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any, cast

from flask.views import View

from .marks import attributes, content

INNER_NAMES = frozenset(
    {"f", "fn", "func", "function", "handler", "inner", "method", "view", "view_func", "view_function", "wrapped"}
)
"""What decorators call the function that they decorate, for those that do not use :func:`functools.wraps`."""

MAX_DEPTH = 50
"""More decorators than this are taken for a circle."""

MAX_HELD = 20
"""A list or table with more in it than this is none of decorated functions."""


def name_of(function: Callable[..., Any]) -> str:
    """A decorator's, or a function's, name for messages: where its code stands."""
    code = getattr(function, "__code__", None)
    if code is None:
        return f"{type(function).__module__}.{type(function).__qualname__}"
    name = getattr(code, "co_qualname", code.co_name)  # co_qualname is there from Python 3.11 on
    return f"{module_of(function)}.{name.replace('.<locals>', '')}"


def find_class_view(view: Callable[..., Any]) -> types.FunctionType | None:
    """What ``as_view`` made, below the decorators of a view; None for a view that is a function."""
    found = next((one for one in _inwards(view) if is_class_view(one)), None)
    return cast("types.FunctionType | None", found)


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


def is_class_view(function: Callable[..., Any]) -> bool:
    """Whether ``as_view`` made this view."""
    return is_plain_function(function) and cast(types.FunctionType, function).__code__ in _AS_VIEW


def is_template(kind: type, name: str) -> bool:
    """Whether a method leaves its work, or a part of it, to a method of another class: one of them may be a guard.

    A base class's ``dispatch_request`` that calls ``self.generate()``, which its subclasses have; or a method that
    calls its parent's by ``super()``.
    """
    definer, *above = definers_of(kind, name)
    *_, innermost = _inwards(vars(definer)[name])
    code = _code_of_call(innermost)
    if code is None:
        return False
    mentioned = _names_in(code)
    if "super" in mentioned and above and above[0].__module__.partition(".")[0] != "flask":
        return True
    below = kind.__mro__[: kind.__mro__.index(definer)]
    return any(is_plain_function(vars(one).get(hook)) for one in below for hook in mentioned)


def definers_of(kind: type, name: str) -> list[type]:
    """The classes in which an attribute of a class stands; the first is the one that counts."""
    return [one for one in kind.__mro__ if name in vars(one)]


def _inwards(function: Any) -> Iterator[Any]:
    """A function, what it decorates, what that decorates, and so on."""
    for _ in range(MAX_DEPTH):
        yield function
        function = find_decorated(function)
        if function is None:
            return


def _names_in(code: types.CodeType) -> set[str]:
    """The attributes and globals that a function uses, and those whose names it holds as text, for ``getattr``."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, str):
            found.add(constant)
        elif isinstance(constant, types.CodeType):
            found |= _names_in(constant)
    return found


def find_decorated(function: Callable[..., Any]) -> Callable[..., Any] | None:
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
    if len(candidates) == 1 and (not is_plain_function(function) or _takes_anything(function)):
        named = list(candidates.values())
    else:
        named = [held for name, held in candidates.items() if name.strip("_") in INNER_NAMES]
    return named[0] if len(named) == 1 and _may_decorate(function, named[0]) else None


def _candidates(function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """The functions that a callable holds, without those of the factory that a view stands in: it may use them."""
    held = dict(_held_functions(function))
    if not is_plain_function(function):
        return held
    return {name: one for name, one in held.items() if not _stand_together(function, one)}


def _has_name_of(function: Any, held: Any) -> bool:
    """Whether a wrapper was given the name of what it holds, by hand, as Flask's endpoints want it."""
    name = getattr(function, "__name__", None)
    return is_plain_function(function) and name != function.__code__.co_name and name == getattr(held, "__name__", "")


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
    inner = all_attributes(function).get("__wrapped__")
    if inner is None and not is_plain_function(function):
        inner = getattr(function, "__wrapped__", None)
    return cast(Callable[..., Any], inner) if callable(inner) and inner is not function else None


def _stand_together(function: Any, held: Any) -> bool:
    """Whether two functions were defined in the same function: a decorator's wrapper and its view were not."""
    place = getattr(function.__code__, "co_qualname", function.__qualname__)  # there from Python 3.11 on
    scope = place.rpartition(".")[0]
    same = getattr(held, "__qualname__", "").rpartition(".")[0] == scope
    return same and scope.endswith("<locals>") and getattr(held, "__module__", "") == module_of(function)


def is_like_a_decorator(function: Callable[..., Any], *, method: bool) -> bool:
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
    if not is_plain_function(function):
        return bool(candidates)
    return False


def may_be_a_decorator(function: Callable[..., Any]) -> bool:
    """Whether a function that takes arguments of its own holds one that it may decorate, or just use."""
    if not is_plain_function(function):
        return False
    held = _candidates(function).items()
    return any(name.strip("_") in INNER_NAMES or _may_decorate(function, one) for name, one in held)


def _held_functions(function: Callable[..., Any]) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The functions that a callable holds, itself or in a list or table, with the names under which it does."""
    held = _held_by_function(function) if is_plain_function(function) else all_attributes(function).items()
    for name, value in held:
        if _is_function(value) and value is not function:
            yield name, value
        elif type(value) in (list, tuple, dict) and len(value) < MAX_HELD:
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


def is_plain_function(function: Any) -> bool:
    """Whether this is a function itself, and no proxy that says it is one."""
    return type(function) is types.FunctionType


def _is_function(held: Any) -> bool:
    if is_plain_function(held) or isinstance(held, (types.MethodType, functools.partial)):
        return True
    return callable(held) and not isinstance(held, type) and _wrapped(held) is not None


def _takes_anything(function: Any) -> bool:
    flags = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    return bool(function.__code__.co_flags & flags == flags)


def module_of(function: Any) -> str:
    """The module in which a function's code stands: ``__module__`` is copied from what it decorates."""
    if isinstance(function, types.MethodType):
        function = function.__func__
    if is_plain_function(function):
        return str(function.__globals__.get("__name__", ""))
    return type(function).__module__


def all_attributes(holder: Any) -> dict[str, Any]:
    """What an object holds itself, in its ``__dict__`` and its slots."""
    found: dict[str, Any] = {}
    slots = [getattr(kind, "__slots__", ()) for kind in type(holder).__mro__]
    for name in (name for several in slots for name in ((several,) if isinstance(several, str) else several)):
        try:
            found[name] = object.__getattribute__(holder, name)
        except AttributeError:  # not set, or its name is mangled
            continue
    return {**found, **attributes(holder)}


def codes_inside(decorator: Callable[..., Any]) -> list[types.CodeType]:
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
