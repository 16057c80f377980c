"""Reads the stack: which apps are local variables of the functions that a declaration stands in."""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType

from flask import Flask

from ..core.definitions import TaskDefinition

_PASSED_OVER = ("flask_bgtasks", "flask", "werkzeug", "functools")
"""Packages whose frames are not the developer's: ``MethodView.as_view`` applies decorators too."""


def apps_around(definition: TaskDefinition, frame: FrameType) -> list[Flask]:
    """The apps among the local variables of the functions that a declaration stands in, innermost first.

    Functions further up are none of its business: one that makes two apps holds the other app, too.
    """
    calls = list(functions(frame))
    module = getattr(definition.function, "__module__", None)
    enclosing = [part.rpartition(".")[2] for part in definition.place.split(".<locals>")[:-1]]
    standing = [
        call
        for name in reversed(enclosing)
        for call in calls
        if call.f_code.co_name == name and call.f_globals.get("__name__") == module
    ]
    for call in standing or calls[:1]:
        apps = [value for value in list(call.f_locals.values()) if issubclass(type(value), Flask)]
        if apps:
            return list({id(app): app for app in apps}.values())
    return []


def functions(frame: FrameType | None) -> Iterator[FrameType]:
    """The developer's functions on the stack, innermost first, as far as the module that runs or is being imported."""
    while frame is not None and frame.f_code.co_name != "<module>":
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _PASSED_OVER:
            yield frame
        frame = frame.f_back


def scope(place: str) -> str:
    """The function that a place stands in, by its qualified name."""
    return place.rpartition(".<locals>.")[0]
