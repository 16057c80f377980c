"""Finds every error class of the package, and makes an example of each from its constructor's annotations."""

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Iterable
from datetime import datetime, timezone

import flask_bgtasks
from flask_bgtasks import errors

VALUES = {  # of a parameter's type; never its default, so that a field which is lost shows
    str: "seven",
    int: 7,
    float: 2.5,
    bool: False,
    object: "seven",
    datetime: datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    Iterable[str]: ["one", "two"],
}


def import_everything():
    """Import every module of the package that its installed extras allow, so that no class is missed."""
    for module in pkgutil.walk_packages(flask_bgtasks.__path__, "flask_bgtasks.", onerror=lambda name: None):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("flask_bgtasks"):
                raise


def error_classes():
    """The root and all its subclasses, and what else ``errors.py`` defines; in the order of the file."""
    import_everything()
    found = [value for value in vars(errors).values() if is_ours(value)]
    for kind in found:
        found += [one for one in kind.__subclasses__() if is_ours(one) and one not in found]
    return found


def is_ours(value):
    return (
        isinstance(value, type)
        and issubclass(value, BaseException)
        and value.__module__.partition(".")[0] == flask_bgtasks.__name__
    )


def example(kind):
    """One error of this class, with a value for each parameter."""
    if not inspect.isfunction(kind.__init__):  # the built-in one
        return kind("why")
    hints = typing.get_type_hints(kind.__init__)
    positional, named = [], {}
    for parameter in inspect.signature(kind).parameters.values():
        value = VALUES[_without_none(hints[parameter.name])]
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[parameter.name] = value
        else:
            positional.append(value)
    return kind(*positional, **named)


def _without_none(hint):
    parts = [part for part in typing.get_args(hint) if part is not type(None)]
    return parts[0] if type(None) in typing.get_args(hint) and len(parts) == 1 else hint
