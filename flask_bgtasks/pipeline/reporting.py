"""What pipeline code touches: ``step``, ``track``, ``current_task``, ``emit``.

A report sets a value in the running attempt and returns; the flusher stores it later. Outside a task everything here
is a harmless no-op, so that pipeline code can be called from a shell or a test. Knows no store and no Flask.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sized
from contextlib import ContextDecorator
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar, Union

from ..core.steps import StepNode, as_float, as_weight
from ..core.text.clean import is_text, optional_text
from ..errors import CancelRequested
from .attempt import RunningAttempt

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

_node: contextvars.ContextVar[tuple[RunningAttempt, StepNode] | None] = contextvars.ContextVar(
    "bgtasks_step", default=None
)


Current = Union["tuple[RunningAttempt, StepNode]", None]
"""The attempt and the step that a context is in."""


def enter(running: RunningAttempt) -> Current:
    """Make an attempt the current one of this context; what was current before, for :func:`leave`."""
    before = _node.get()
    _node.set((running, running.plan.root))
    return before


def leave(before: Current) -> None:
    """Undo :func:`enter`, where the context goes on after the run (a request's own thread)."""
    _node.set(before)


def current() -> Current:
    """The attempt and the step that this code is in."""
    return _node.get()


def move(running: RunningAttempt, node: StepNode, *, back_from: StepNode | None = None) -> None:
    """Make a step the current one of this context; with ``back_from`` only if that one still is.

    Not a token's reset: a generator may be closed in another context than the one that it began in.
    """
    now = _node.get()
    if back_from is None or (now is not None and now[1] is back_from):
        _node.set((running, node))


class step(ContextDecorator):  # noqa: N801 - used as a statement: with step("Drawing")
    """A named part of the pipeline: a context manager, or a decorator. Steps nest.

    :param name: shown to the user, and the key of the step's history of durations. A lazy translation is made when the
        step begins. Texts are cut to 1,000 characters.
    :param details: a short text shown beside the name.
    :param weight: its share of the parent's work, relative to its siblings; by default learnt from earlier runs.
    :raises CancelRequested: on entering, if the task was cancelled.
    """

    def __init__(self, name: Any, *, details: Any = None, weight: Any = None) -> None:
        if not is_text(name) or (isinstance(name, str) and not name):
            raise TypeError(f"step({name!r}): expected a name, e.g. with step('Drawing')")
        self.name = name
        self.details = details
        try:
            self.weight = None if weight is None else as_weight(weight)
        except ValueError as error:
            raise ValueError(f"step({name!r}, weight={type(weight).__name__}): {error}") from None
        self._entered: list[tuple[RunningAttempt, StepNode, StepNode] | None] = []

    def _recreate_cm(self) -> step:  # as a decorator, each call is a step of its own
        return step(self.name, details=self.details, weight=self.weight)

    def __enter__(self) -> step:
        current = _node.get()
        if current is None:
            self._entered.append(None)
            return self
        running, parent = current
        node = running.open_step(self.name, parent, details=self.details, weight=self.weight)
        move(running, node)
        self._entered.append((running, parent, node))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered = self._entered.pop()
        if entered is None:
            return
        running, parent, node = entered
        running.close_step(node, failed=kind is not None)
        move(running, parent, back_from=node)


class track(Generic[T]):  # noqa: N801 - used as a function: for x in track(items)
    """Iterate over an iterable, sync or async, and advance the current step with each item.

    :param iterable: what to iterate over; its ``len`` is the number of items.
    :param total: the number of items, if it has no ``len``; ignored unless it is above 0.
    :raises TypeError: ``total`` is not a number.
    """

    def __init__(self, iterable: Iterable[T] | AsyncIterable[T], *, total: int | None = None) -> None:
        self._iterable = iterable
        if total is None and isinstance(iterable, Sized):
            total = len(iterable)
        if total is not None and not hasattr(total, "__float__"):
            raise TypeError(f"track(total={type(total).__name__}): expected a number")
        self._total = None if total is None else as_float(total)

    def __iter__(self) -> Iterator[T]:
        if not isinstance(self._iterable, Iterable):
            raise TypeError(f"track({type(self._iterable).__name__}): go through it with 'async for'")
        advance = self._advance()
        for item in self._iterable:
            advance()
            yield item
        advance(ended=True)

    async def __aiter__(self) -> AsyncIterator[T]:
        advance = self._advance()
        if isinstance(self._iterable, AsyncIterable):
            async for item in self._iterable:
                advance()
                yield item
        else:
            for item in self._iterable:
                advance()
                yield item
        advance(ended=True)

    def _advance(self) -> Callable[..., None]:
        """A function to call before each item and at the end; bound to the step that is current now."""
        current = _node.get()
        if current is None:
            return lambda *, ended=False: None
        running, node = current
        total, done, silent = self._total or 0.0, -1, node.details is not None

        def advance(*, ended: bool = False) -> None:
            nonlocal done
            running.check()
            done += 1
            if total > 0:
                node.unit = min(1.0, 1 / total)
                node.fraction = min(1.0, done / total)
            if not silent and not ended:
                node.details = f"{done + 1} of {total:.12g}" if total > 0 else f"{done + 1}"
            running.dirty = True

        return advance


class CurrentTask:
    """The task that this code runs in; outside a task everything is a harmless no-op."""

    __slots__ = ()

    def __bool__(self) -> bool:
        """Whether this code runs in a task."""
        return _node.get() is not None

    @property
    def request_id(self) -> str | None:
        """The task's id, None outside a task."""
        current = _node.get()
        return current[0].request_id if current else None

    @property
    def owner(self) -> str | None:
        """Whose task it is."""
        current = _node.get()
        return current[0].owner if current else None

    @property
    def attempt(self) -> int:
        """The number of this attempt: 1, 2, 3 …; 0 outside a task."""
        current = _node.get()
        return current[0].attempt if current else 0

    @property
    def cancelled(self) -> bool:
        """Whether the task was asked to stop: for loops without reports. Reports raise by themselves."""
        current = _node.get()
        return current is not None and current[0].stopped is not None

    def update(self, *, details: Any = None, fraction: Any = None) -> None:
        """Report more about the current step. Costs about a microsecond: it sets a value, which is stored later.

        :param details: a short text about the current work; other values are converted to a string at once.
        :param fraction: how much of the step is done, 0 to 1.
        :raises CancelRequested: the task was cancelled.
        :raises ValueError: ``fraction`` is outside 0 to 1.
        """
        current = _node.get()
        if current is None:
            return
        running, node = current
        if running.stopped is not None:
            raise CancelRequested(running.stopped)
        if fraction is not None:
            share = as_float(fraction)
            if share is None or not 0 <= share <= 1:
                raise ValueError(f"update(fraction={fraction!r:.80}): expected a number from 0 to 1")
            node.fraction = share
        if details is not None:
            node.details = optional_text(details)
        running.dirty = True

    def emit(self, chunk: Any) -> None:
        """Emit a chunk of partial content, which clients can follow, and resume without a gap.

        :param chunk: a string or another JSON value. It is copied: later changes to it have no effect.
        :raises CancelRequested: the task was cancelled.
        :raises NotSerializable: the chunk is not JSON.
        :raises PayloadTooLarge: the task emitted more than ``BGTASKS_MAX_RESULT_BYTES`` in all: each chunk counts with
            its bytes as JSON, plus 8.
        """
        current = _node.get()
        if current is not None:
            current[0].emit(chunk, current[1])

    def __repr__(self) -> str:
        return f"<current_task {self.request_id}>" if self else "<current_task: none>"


current_task = CurrentTask()


def copy_current_task(function: Callable[P, R]) -> Callable[P, R]:
    """Wrap a function so that it runs in the current task and step when a thread of your own calls it.

    Threads do not inherit context variables. This copies them all, including Flask's contexts, anew for each call::

        with step("Draw"), ThreadPoolExecutor() as pool:
            pictures = list(pool.map(copy_current_task(draw), sections))
    """
    context = contextvars.copy_context()

    @functools.wraps(function)
    def in_task(*args: P.args, **kwargs: P.kwargs) -> R:
        # One context cannot be entered twice at once, hence a copy for each call.
        return context.copy().run(function, *args, **kwargs)

    return in_task
