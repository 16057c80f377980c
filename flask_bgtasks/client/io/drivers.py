"""Carry out the effects that the logic yields: one driver blocks, the other awaits. Neither knows their purpose.

An exception is thrown into the logic, which may handle it, or clean up with more effects and let it propagate.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncGenerator, Generator
from typing import Any, Protocol, TypeVar

from ..events import TaskEvent
from .effects import Answer, Call, Close, Effect, Emit, Flow, Left, Open, Read, Request, Sleep, Tell

R = TypeVar("R")


class Blocking(Protocol):
    """A transport that blocks: :class:`.BlockingTransport`, or a test's."""

    def request(self, request: Request) -> Answer: ...
    def open(self, request: Open) -> Any: ...
    def read(self, stream: Any) -> bytes: ...
    def close(self, stream: Any) -> None: ...
    def shut(self) -> None: ...


class Awaiting(Protocol):
    """A transport that is awaited: :class:`.AwaitingTransport`, or a test's."""

    async def request(self, request: Request) -> Answer: ...
    async def open(self, request: Open) -> Any: ...
    async def read(self, stream: Any) -> bytes: ...
    async def close(self, stream: Any) -> None: ...
    async def shut(self) -> None: ...


class BlockingDriver:
    """Carries effects out one after the other, in the thread that calls."""

    def __init__(self, transport: Blocking) -> None:
        self.transport = transport

    def run(self, flow: Flow[R]) -> R:
        """Carry a flow out that emits nothing; what it returns."""
        return self._drive(flow, flow.send, None)

    def events(self, flow: Flow[None]) -> Generator[TaskEvent, None, None]:
        """Carry a flow out and give the events that it emits. That its consumer leaves is told to it; it tidies up."""
        step: Any = flow.send
        value: Any = None
        while True:
            try:
                effect = step(value)
            except StopIteration:
                return
            if isinstance(effect, Emit):
                try:
                    yield effect.event
                except GeneratorExit:
                    with contextlib.suppress(Left):
                        self._drive(flow, flow.throw, Left())
                    raise
                step, value = flow.send, None
            else:
                step, value = self._carry_out(flow, effect)

    def _drive(self, flow: Flow[R], step: Any, value: Any) -> R:
        while True:
            try:
                effect = step(value)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            step, value = self._carry_out(flow, effect)

    def _carry_out(self, flow: Flow[Any], effect: Effect) -> tuple[Any, Any]:
        """The next step of a flow, and what it is taken with."""
        try:
            return flow.send, self._perform(effect)
        except BaseException as error:
            return flow.throw, error

    def _perform(self, effect: Effect) -> Any:
        match effect:
            case Call(function, arguments):
                return function(*arguments)
            case Request():
                return self.transport.request(effect)
            case Open():
                return self.transport.open(effect)
            case Read(stream):
                return self.transport.read(stream)
            case Close(stream):
                return self.transport.close(stream)
            case Sleep(seconds):
                return time.sleep(seconds)
            case Tell(function, argument):
                return function(argument)
            case Emit():
                raise TypeError("this flow emits events: iterate over it")


class AwaitingDriver:
    """Carries effects out one after the other, in a task of the event loop; what may block, in a thread."""

    def __init__(self, transport: Awaiting) -> None:
        self.transport = transport

    async def run(self, flow: Flow[R]) -> R:
        """Carry a flow out that emits nothing; what it returns."""
        return await self._drive(flow, flow.send, None)

    async def events(self, flow: Flow[None]) -> AsyncGenerator[TaskEvent, None]:
        """Carry a flow out and give the events that it emits. That its consumer leaves is told to it; it tidies up."""
        step: Any = flow.send
        value: Any = None
        while True:
            try:
                effect = step(value)
            except StopIteration:
                return
            if isinstance(effect, Emit):
                try:
                    yield effect.event
                except GeneratorExit:
                    with contextlib.suppress(Left):
                        await self._drive(flow, flow.throw, Left())
                    raise
                step, value = flow.send, None
            else:
                step, value = await self._carry_out(flow, effect)

    async def _drive(self, flow: Flow[R], step: Any, value: Any) -> R:
        while True:
            try:
                effect = step(value)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            step, value = await self._carry_out(flow, effect)

    async def _carry_out(self, flow: Flow[Any], effect: Effect) -> tuple[Any, Any]:
        """The next step of a flow, and what it is taken with."""
        try:
            return flow.send, await self._perform(effect)
        except BaseException as error:
            return flow.throw, error

    async def _perform(self, effect: Effect) -> Any:
        match effect:
            case Call(function, arguments):
                return await _finished(await asyncio.to_thread(function, *arguments))
            case Request():
                return await self.transport.request(effect)
            case Open():
                return await self.transport.open(effect)
            case Read(stream):
                return await self.transport.read(stream)
            case Close(stream):
                return await self.transport.close(stream)
            case Sleep(seconds):
                return await asyncio.sleep(seconds)
            case Tell(function, argument):
                return await _finished(function(argument))
            case Emit():
                raise TypeError("this flow emits events: iterate over it")


async def _finished(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
