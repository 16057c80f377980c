"""What decorators change in a view's arguments, as JSON: found in the request, and made again in a run.

A change says where each argument comes from: one of those that the decorator was called with, or a stored value.
:mod:`.passage` notes the arguments that a call comes by with, and :mod:`..capture.arguments` stores the changes.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from flask.views import View

Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]
"""What a view is called with: positional arguments, and those by name."""

Boundary = tuple[tuple[int, int], str, Arguments]
"""A place in the chain where a call came by: its number, the decorator's name, and what it was called with."""


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
            changes[key_of(number)] = change
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
    if isinstance(value, str) and os.path.isabs(value) and not os.path.exists(value):
        return own  # a temporary folder of the request's
    return value


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


def key_of(number: tuple[int, int]) -> str:
    """The name under which a decorator's change is stored, by the decorator's number."""
    return f"{number[0]}.{number[1]}"
