"""Undoes what a failed call has registered with an app, so that the call can be corrected and repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask

_REGISTERED = (
    "view_functions",
    "blueprints",
    "before_request_funcs",
    "after_request_funcs",
    "url_value_preprocessors",
    "error_handler_spec",
)
"""What :meth:`Flask.register_blueprint` and its like write to. Rules cannot be taken out of a URL map: whoever
registers them sees to it before that this cannot fail."""


@contextmanager
def undone_on_failure(app: Flask, *also: Callable[[], None]) -> Iterator[None]:
    """Leave the app as it was if the block raises.

    :param also: what else to do then.
    """
    undo = [_remembered(getattr(app, name)) for name in _REGISTERED]
    undo += [*also, _remembered(app.extensions, deep=False), _remembered(app.cli.commands, deep=False)]
    try:
        yield
    except BaseException:
        for restore in undo:
            restore()
        raise


def _remembered(value: Any, *, deep: bool = True) -> Callable[[], None]:
    """A function that makes a dict or a list what it is now.

    :param deep: whether the dicts and lists in it are ours to change as well.
    """
    saved = value.copy()
    inner = [
        _remembered(one) for one in (saved.values() if isinstance(saved, dict) else ()) if _is_container(one) and deep
    ]

    def restore() -> None:
        if isinstance(value, dict):
            value.clear()
            value.update(saved)
        else:
            value[:] = saved
        for restore_inner in inner:
            restore_inner()

    return restore


def _is_container(value: Any) -> bool:
    return isinstance(value, (dict, list))
