"""Marks the functions that the library's decorators return, and finds them again under other decorators.

A mark is an attribute that names its own function. :func:`functools.wraps` copies attributes, so a function with the
attribute of another function wraps that one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

from ..core.definitions import TaskDefinition

MARK = "__bgtasks__"

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, eq=False)
class Mark:
    """Says which task a function stands for."""

    bearer: Callable[..., Any]
    definition: TaskDefinition


def mark(bearer: F, definition: TaskDefinition) -> F:
    """Mark a function as standing for a task."""
    bearer.__dict__[MARK] = Mark(bearer, definition)
    return bearer


def attributes(value: object) -> dict[str, Any]:
    """An object's own attributes, without asking the object: a proxy would answer for something else."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except (AttributeError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def mark_of(value: object) -> Mark | None:
    """The mark that a function bears, its own or that of a function which it wraps."""
    found = attributes(value).get(MARK)
    return found if isinstance(found, Mark) else None


def definition_of(value: object) -> TaskDefinition | None:
    """The task that a function stands for, if our decorators returned it."""
    found = mark_of(value)
    return found.definition if found is not None and found.bearer is value else None


def wrapped_by(view: object) -> Iterator[object]:
    """A view and what it is known to call: itself, what it wraps, the methods of its class; outermost first."""
    seen: set[int] = set()
    todo = [view]
    while todo:
        value = todo.pop(0)
        if value is None or id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        own = attributes(value)
        found = own.get(MARK)
        if isinstance(found, Mark):
            todo.append(found.bearer)
        if isinstance(value, functools.partial):
            todo.append(value.func)
        if isinstance(value, MethodType):
            todo.append(value.__func__)
        todo.append(own.get("__wrapped__"))
        view_class = own.get("view_class")
        methods = sorted(method.lower() for method in getattr(view_class, "methods", None) or ())
        todo += [getattr(view_class, name, None) for name in (*methods, "dispatch_request")]


def referred_to_by(functions: Iterable[object]) -> Iterator[object]:
    """Functions, what they hold in their closures or attributes, and the marked globals that they name.

    Decorators without ``functools.wraps`` keep there what they wrap, and factories' views the tasks that they submit.
    """
    seen: set[int] = set()
    todo = list(functions)
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        own = attributes(value)
        if type(value) is FunctionType:
            held = [content(cell) for cell in value.__closure__ or ()]
            held += [value.__globals__.get(name) for name in value.__code__.co_names]
            todo += held[: len(value.__closure__ or ())] + [one for one in held if definition_of(one) is not None]
        elif type(value) is not ModuleType:
            todo += [one for one in own.values() if type(one) is FunctionType or definition_of(one) is not None]
        todo += [own["__wrapped__"]] if "__wrapped__" in own else []


def content(cell: CellType) -> Any:
    """What a closure's cell holds; None while it holds nothing."""
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None
