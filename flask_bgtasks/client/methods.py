"""Turns operations into blocking and awaited methods, with the parameters and docstrings of the operations."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from .flows.session import Session
from .io.effects import Flow

P = ParamSpec("P")
R = TypeVar("R")  # of an operation
T = TypeVar("T")  # of the method that is made of it
C = TypeVar("C")


def as_it_is(client: Any, result: R) -> R:
    """What an operation returns is what its method returns."""
    return result


def blocking(
    operation: Callable[Concatenate[Session, P], Flow[R]], make: Callable[[Any, R], T]
) -> Callable[Concatenate[Any, P], T]:
    """A client's method that blocks.

    :param make: makes of the client and the operation's result what the method returns.
    """

    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return make(self, self._driver.run(operation(self._session, *args, **kwargs)))

    return _described(method, operation, hidden=1)


def awaited(
    operation: Callable[Concatenate[Session, P], Flow[R]], make: Callable[[Any, R], T]
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """A client's method that is awaited; else as :func:`blocking`."""

    async def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return make(self, await self._driver.run(operation(self._session, *args, **kwargs)))

    return _described(method, operation, hidden=1)


def blocking_of_task(operation: Callable[Concatenate[Session, str, P], Flow[R]]) -> Callable[Concatenate[Any, P], R]:
    """A task's method that blocks."""

    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = self._driver.run(operation(self._session, self.key, *args, **kwargs))
        return result

    return _described(method, operation, hidden=2)


def awaited_of_task(
    operation: Callable[Concatenate[Session, str, P], Flow[R]],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]:
    """A task's method that is awaited."""

    async def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = await self._driver.run(operation(self._session, self.key, *args, **kwargs))
        return result

    return _described(method, operation, hidden=2)


def _described(method: Callable[P, R], operation: Callable[..., Any], *, hidden: int) -> Callable[P, R]:
    """Give a method the operation's name, docstring and parameters, without the first ones, which it brings itself."""
    functools.update_wrapper(method, operation)
    del method.__dict__["__wrapped__"]
    method.__annotations__ = {k: v for k, v in operation.__annotations__.items() if k != "return"}  # that is a flow
    signature = inspect.signature(operation)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    shown = [own, *list(signature.parameters.values())[hidden:]]
    method.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    return method
