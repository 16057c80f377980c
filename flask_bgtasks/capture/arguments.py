"""The arguments of a view: how they are stored, and restored for a run.

Arguments from the URL are in the stored request. Those that decorators add are kept as JSON beside it; an object of a
class-based view is created anew, as Flask does for each request.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from flask import Flask, request
from flask.views import View

from ..errors import NotSerializable
from ..wrapping import decorated
from ..wrapping.argument_changes import Arguments, Boundary, applied, difference, injected

START = (-1, 0)
"""The number of the wrapper, before every decorator below it."""


def first(arguments: Arguments, view_args: Mapping[str, Any], view: Callable[..., Any]) -> dict[str, Any] | None:
    """How the arguments of a wrapped view differ from those in the URL, as JSON; None where they do not.

    :param view: what the app's rule calls.
    """
    positional, named = arguments
    bound = bool(positional) and isinstance(positional[0], View) and decorated.find_class_view(view) is not None
    change = difference(((), view_args), (positional[1:] if bound else positional, named))
    if not bound:
        return change
    return {**(change or {"args": [], "kwargs": {name: {"name": name} for name in named}}), "self": True}


def passed_on(
    arguments: Arguments, boundaries: Sequence[Boundary], bound: Collection[object]
) -> tuple[dict[str, Any], list[str]]:
    """What the decorators below the wrapper added; see :func:`flask_bgtasks.wrapping.argument_changes.injected`."""
    return injected([(START, "", arguments), *boundaries], bound)


def restored(app: Flask, stored: Mapping[str, Any]) -> Arguments:
    """What the wrapped view is called with in a run. Needs the run's request context.

    :raises NotSerializable: an argument was not stored: the request ran on its own thread, and its process died.
    """
    view_args = request.view_args or {}
    change = stored.get("arguments")
    if change is None:
        return (), view_args
    made = applied(change, ((), view_args))
    if made is None:
        what = ", ".join(change.get("lost", ())) or "an argument"
        raise NotSerializable(
            f"{what} of the view cannot be restored in a run: a decorator above @background added it, and it is not "
            "JSON. Put that decorator below @background"
        )
    if change.get("self"):
        instance = decorated.new_instance(app.view_functions[request.endpoint or ""])
        return (instance, *made[0]), made[1]
    return made
