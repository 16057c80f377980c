"""``checkpoint``: a step that runs once per task. Its value is stored; a later attempt gets it back instead.

A value goes through JSON in the first attempt too, so that every attempt sees the same. A checkpoint is identified
within its task by the names of the steps around it, its own name, its arguments, and how often these occurred before.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, overload

from . import reporting
from .checkpoint_log import Visit

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


@overload
def checkpoint(name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...


@overload
def checkpoint(name: str, /) -> Callable[[F], F]: ...


@overload
def checkpoint(name: F, /) -> F: ...


def checkpoint(name: Any, function: Any = None, /, *args: Any, **kwargs: Any) -> Any:
    """Run a step once per task, however many attempts there are: ``checkpoint("Outline", make_outline, text)``.

    Also a decorator, which makes each call of the function a checkpoint: ``@checkpoint``, ``@checkpoint("Outline")``.
    Async functions work too; the call is then awaited.

    If a later attempt passes other arguments, the function runs again. Outside a task it is just called.

    :param name: the step's name, shown to the user.
    :param function: what to run; its return value must be JSON: strings, numbers, booleans, None, lists and dicts.
    :param args: its arguments. In threads they must be JSON, and differ from call to call.
    :returns: what the function returned, after a pass through JSON (a tuple becomes a list, in every attempt).
    :raises NotSerializable: the value is not JSON; the message says where in it.
    :raises PayloadTooLarge: the value and the output are larger than ``BGTASKS_MAX_RESULT_BYTES``.
    :raises CancelRequested: the task was cancelled, or another attempt has taken over.
    """
    if isinstance(name, str) and name:
        if function is None:
            return functools.partial(_decorated, name)
        if callable(function):
            return _call(name, function, args, kwargs)
    elif callable(name) and function is None:
        return _decorated(name.__name__, name)
    raise TypeError(
        f"checkpoint({name!r}, {function!r}): expected a name and a function, e.g. checkpoint('Outline', make, text)"
    )


def _decorated(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        return _call(name, function, args, kwargs)

    @functools.wraps(function)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        return await _await(name, function, args, kwargs)

    return awaited if inspect.iscoroutinefunction(function) else called


def _call(name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    if inspect.iscoroutinefunction(function):
        return _await(name, function, args, kwargs)
    with _entered(name, args, kwargs) as visit:
        if visit is None:
            return function(*args, **kwargs)
        return visit.value if visit.restored else visit.keep(function(*args, **kwargs))


async def _await(name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    with _entered(name, args, kwargs) as visit:
        if visit is None:
            return await function(*args, **kwargs)
        return visit.value if visit.restored else visit.keep(await function(*args, **kwargs))


@contextmanager
def _entered(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Visit | None]:
    """The step of a checkpoint; None where nothing is kept: outside a task, or in one that cannot run again."""
    current = reporting.current()
    if current is None:
        yield None
        return
    running, parent = current
    log = running.checkpoints
    if log is None:
        with reporting.step(name):
            yield None
        return
    log.confirm()
    node = running.open_step(name, parent, details=None, weight=None)
    visit = log.reach(node, (args, kwargs))
    reporting.move(running, node)
    try:
        if visit.restored:  # its output is given out again, its step closed at once
            for chunk in visit.output:
                running.emit(chunk, node)
            running.close_step(node, more={"restored": True})
        yield visit
    except BaseException:
        if node.finished is None:
            running.close_step(node, failed=True)
        raise
    finally:
        log.leave(visit)
        reporting.move(running, parent, back_from=node)
