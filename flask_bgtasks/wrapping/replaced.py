"""Copies functions, classes and objects with one of the values that they hold replaced by another.

The originals stay unchanged. What a copy shares with its original (a counter in a cell, an attribute) stays shared.
"""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, Flask

from .decorated import MAX_HELD, all_attributes, is_plain_function
from .marks import content

REACH = 5
"""How many objects may stand between a decorator and the function it decorates: a partial, a list, a helper."""


def replace(holder: Any, old: Any, new: Any, reach: int = REACH) -> Any:
    """A copy of what holds ``old``, which holds ``new`` instead; None if it does not hold it."""
    if holder is old:
        return new
    if reach == 0:
        return None
    again = functools.partial(replace, old=old, new=new, reach=reach - 1)
    if is_plain_function(holder):
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
    if isinstance(holder, (list, tuple)) and type(holder) in (list, tuple) and len(holder) < MAX_HELD:
        several = [again(item) for item in holder]
        if all(item is None for item in several):
            return None
        return type(holder)(o if n is None else n for o, n in zip(holder, several, strict=True))
    if isinstance(holder, dict) and type(holder) is dict and len(holder) < MAX_HELD:
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
    copied = copy_function(function, tuple(cells))
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
    for name, value in all_attributes(holder).items():
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
    if type(own) is not dict or not found.keys() <= own.keys() or all_attributes(holder).keys() != own.keys():
        return None
    try:
        kind = subclass(type(holder), {name: attribute(name, own[name], new) for name, new in found.items()})
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


def subclass(kind: type, body: Mapping[str, Any]) -> type:
    """A subclass of which neither the class nor its metaclass hears."""
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type.__new__(type(kind), kind.__name__, (_Quiet, kind), {**names, **body})


def copy_function(function: types.FunctionType, closure: tuple[types.CellType, ...]) -> types.FunctionType:
    """The function with another closure. What it shares with others through cells, a counter say, stays shared."""
    made = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, closure or None
    )
    made.__kwdefaults__ = function.__kwdefaults__
    made.__dict__.update(function.__dict__)
    made.__qualname__, made.__module__ = function.__qualname__, function.__module__
    made.__doc__, made.__annotations__ = function.__doc__, function.__annotations__
    return made


def _content_is_plain(holder: Any) -> bool:
    return holder is None or isinstance(holder, (str, bytes, int, float, set, frozenset))
