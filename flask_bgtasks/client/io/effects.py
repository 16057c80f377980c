"""The effects of the client's logic: values that a driver carries out, returning the answer.

The logic consists of generators that yield them. A blocking driver and an awaiting one (:mod:`.drivers`) turn the same
generators into a :class:`.Client` and an :class:`.AsyncClient`; a third one, in the tests, runs in virtual time. Pure.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from ...core.backoff import retry_after_seconds
from ..events import TaskEvent

R = TypeVar("R")

MIN_SECONDS = 0.05  # that a request is given, however little time is left


class Left(BaseException):
    """Thrown into a generator where it gave an event: its consumer wants no more.

    Not an :class:`Exception`, as :class:`GeneratorExit` is not; unlike that it lets the generator tidy up by effects.
    """


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.status < 300

    @property
    def retry_after(self) -> float | None:
        """The seconds that it asks to wait."""
        return retry_after_seconds(self.headers.get("retry-after"))

    def document(self) -> dict[str, Any]:
        """The JSON object in its body; empty if there is none."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def complaint(self) -> str:
        """The reason in an unsuccessful answer: a problem's detail (RFC 9457), else the status code."""
        document = self.document()
        said = document.get("detail") or document.get("title") or document.get("error")
        return f"{said} ({self.status})" if isinstance(said, str) else f"the server answered {self.status}"


class Stream(Protocol):
    """An answer that is still coming. What else it can do is between the driver and its transport."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Ask, and get the whole :class:`Answer`. :raises Unreachable: there was none."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None = None
    timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Ask, and get a :class:`Stream` as soon as its head is there. :raises Unreachable: there was none.

    :param silence: seconds without a byte after which it counts as dead.
    :param lifetime: seconds after which it is ended from here; None for no such limit.
    """

    path: str
    headers: Mapping[str, str]
    silence: float
    lifetime: float | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """The next bytes of a stream, none at its end. :raises Unreachable: it broke, or was silent for too long."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Close:
    """End a stream from here."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let so many seconds pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Call:
    """Call what may block: the registry, Firestore, a function that fetches a token."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Tell:
    """Call a function of the user's with one argument; a coroutine is awaited by the driver that can."""

    function: Callable[[Any], Any]
    argument: Any


@dataclass(frozen=True, slots=True)
class Emit:
    """Give an event to the consumer. :raises Left: it wants no more; this one it has."""

    event: TaskEvent


Effect = Request | Open | Read | Close | Sleep | Call | Tell | Emit
Flow = Generator[Effect, Any, R]
"""A piece of the client's logic; returns an ``R``."""


def within(flow: Flow[R], left: Callable[[], float | None]) -> Flow[R]:
    """The same flow, whose requests wait no longer than there is time left."""
    step: Any = flow.send
    value: Any = None
    while True:
        try:
            effect = step(value)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        seconds = left()
        if seconds is not None and isinstance(effect, Request):
            effect = replace(effect, timeout=min(effect.timeout, max(seconds, MIN_SECONDS)))
        try:
            step, value = flow.send, (yield effect)
        except BaseException as error:
            step, value = flow.throw, error


class Clock(Protocol):
    """Time, in two kinds: one that only goes on, for timers, and one that is kept over restarts, for dates."""

    def monotonic(self) -> float:
        """Seconds since whenever."""
        ...

    def time(self) -> float:
        """Seconds since 1970."""
        ...


class SystemClock:
    """The machine's clocks. Where there is one that goes on while the machine sleeps, timers are late by that sleep."""

    _boot = getattr(time, "CLOCK_BOOTTIME", None)  # Linux

    def monotonic(self) -> float:
        """Seconds since the machine was started."""
        return time.monotonic() if self._boot is None else time.clock_gettime(self._boot)

    def time(self) -> float:
        """Seconds since 1970."""
        return time.time()
