"""What pipeline code touches: ``step``, ``track``, ``current_task``, ``emit``.

A report sets a value in the running attempt and returns; the flusher stores it later. Outside a task everything here
is a harmless no-op, so that pipeline code stays callable from a shell or a test. Knows no store and no Flask.
"""

from __future__ import annotations

import contextvars
import functools
import json
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sized
from contextlib import ContextDecorator
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, TypeVar, Union

from .errors import NotSerializable, PayloadTooLarge, TaskCancelled
from .model import Entry, EventType, Progress, Result
from .plan import Node, Plan

T = TypeVar("T")
R = TypeVar("R")

StepListener = Callable[[EventType, str, Node], None]
"""Called with what happened to a step, in which task, and the step."""


class Running:
    """A running attempt as its pipeline sees it: reports go in, the flusher takes them out.

    ``lock`` protects the plan's tree and the entries; ``flush_lock`` is held while entries are on their way into the
    store, so that the end of the task does not overtake them. Plain attributes (``details``, ``fraction``, ``dirty``,
    ``stopped``) are set without a lock: each is one assignment, and the newest wins.
    """

    def __init__(
        self,
        *,
        request_id: str,
        attempt: int,
        plan: Plan,
        owner: str | None = None,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        max_output_bytes: int,
        on_step: StepListener | None = None,
    ) -> None:
        self.request_id = request_id
        self.attempt = attempt
        self.owner = owner
        self.plan = plan
        self.lock = threading.Lock()
        self.flush_lock = threading.Lock()
        self.dirty = False
        self.stopped: str | None = None  # why the pipeline has to stop, None while it may go on
        self.result: Result | None = None  # of a tracked attempt, where it gives one
        self.renew_at = 0.0  # when the lease is due to be renewed, by time.monotonic
        self.seq = 0  # the newest event that the flusher knows of
        self._clock = clock
        self._monotonic = monotonic
        self._on_step = on_step
        self._entries: list[Entry] = []
        self._chunks: list[Any] | None = None  # of the last entry, while it is output
        self._offset = 0
        self._left = max_output_bytes
        self._max_output_bytes = max_output_bytes
        self._shown = -1.0  # the percentage that was taken last
        self._node: Node = plan.root  # the step that was opened last and is open still

    # -- reports, called by the pipeline -----------------------------------------------------------------------------

    def check(self) -> None:
        """:raises TaskCancelled: the task was cancelled, or another attempt took over."""
        if self.stopped is not None:
            raise TaskCancelled(self.stopped)

    def open_step(self, name: str, parent: Node, *, details: str | None, weight: float | None) -> Node:
        self.check()
        with self.lock:
            node = self.plan.open(name, parent, at=self._monotonic(), weight=weight)
            node.details = details
            self._node = node
            self._add(EventType.STEP_STARTED, self._step_data(node))
        if self._on_step is not None:
            self._on_step(EventType.STEP_STARTED, self.request_id, node)
        return node

    def close_step(self, node: Node, *, failed: bool) -> None:
        with self.lock:
            self.plan.close(node, at=self._monotonic())
            if self._node is node:
                self._node = self._open_ancestor(node)
            seconds = round((node.finished or node.started) - node.started, 3)
            data = self._step_data(node)
            self._add(EventType.STEP_FINISHED, {**data, "seconds": seconds, **({"failed": True} if failed else {})})
        if self._on_step is not None:
            self._on_step(EventType.STEP_FINISHED, self.request_id, node)

    def emit(self, chunk: Any) -> None:
        self.check()
        if isinstance(chunk, str):
            size = len(chunk)
        else:
            try:
                size = len(json.dumps(chunk, allow_nan=False))
            except (TypeError, ValueError) as error:
                raise NotSerializable(
                    f"emit({chunk!r:.80}): {error}. Emit texts or JSON values (bytes: upload them, emit the address)"
                ) from None
        with self.lock:
            self._left -= size
            if self._left < 0:
                raise PayloadTooLarge(
                    f"the output of task {self.request_id}",
                    size=self._max_output_bytes - self._left,
                    limit=self._max_output_bytes,
                    setting="BGTASKS_MAX_RESULT_BYTES",
                    mend="Emit less, or return it as the result in a file elsewhere.",
                )
            if self._chunks is None:
                chunks: list[Any] = []
                self._add(EventType.OUTPUT, {"offset": self._offset, "chunks": chunks})
                self._chunks = chunks
            self._chunks.append(chunk)
            self._offset += 1

    def _add(self, type: EventType, data: dict[str, Any]) -> None:
        self._chunks = None
        self._entries.append(Entry(type, self._clock(), data))
        self.dirty = True

    def _step_data(self, node: Node) -> dict[str, Any]:
        return {
            "step": node.name,
            "path": node.path,
            "step_number": node.number or None,
            "total_steps": self.plan.total_steps,
            "details": _text(node.details),
        }

    def _open_ancestor(self, node: Node) -> Node:
        parent = node.parent
        while parent is not None and parent.finished is not None:
            parent = parent.parent
        # With steps side by side (threads), the newest that is still open is shown.
        top = parent or self.plan.root
        return next((child for child in reversed(top.children) if child.finished is None), top)

    # -- for the flusher and the engine ------------------------------------------------------------------------------

    def stop(self, why: str) -> None:
        """Have the next report raise :class:`~flask_bgtasks.TaskCancelled`."""
        self.stopped = self.stopped or why

    def take(self) -> tuple[tuple[Entry, ...], Progress | None]:
        """What is to be stored: entries since the last time, and the progress if it is worth a write."""
        with self.lock:
            dirty, self.dirty = self.dirty, False
            entries, self._entries, self._chunks = tuple(self._entries), [], None
            progress = self._progress()
        # A bar that moves by time alone is worth a write for each whole percent.
        if not dirty and not entries and progress.percentage < self._shown + 1:
            return (), None
        if not dirty and not self.plan.root.children:
            return entries, None
        self._shown = progress.percentage
        return entries, progress

    def put_back(self, entries: tuple[Entry, ...]) -> None:
        """What could not be stored goes back, before what was reported since."""
        with self.lock:
            self._entries[:0] = entries
            self.dirty = True

    def _progress(self) -> Progress:
        now = self._monotonic()
        node = self._node
        top = node
        while top.parent is not None and top.parent.parent is not None:
            top = top.parent
        details = _text(node.details)
        if node is not top:
            nested = " > ".join(node.path[1:])
            details = f"{nested}: {details}" if details else nested
        elif node is self.plan.root and node.children:
            top = node.children[-1]  # between two steps: the last one is still what is shown
            details = _text(top.details)
        return Progress(
            updated_at=self._clock(),
            attempt=self.attempt,
            percentage=self.plan.percentage(now),
            step=top.name or None,
            step_number=top.number,
            total_steps=self.plan.total_steps,
            details=details,
            eta_seconds=self.plan.eta_seconds(now),
        )


_node: contextvars.ContextVar[tuple[Running, Node] | None] = contextvars.ContextVar("bgtasks_step", default=None)


Current = Union["tuple[Running, Node]", None]
"""The attempt and the step that a context is in."""


def enter(running: Running) -> Current:
    """Make an attempt the current one of this context; what was current before, for :func:`leave`."""
    before = _node.get()
    _node.set((running, running.plan.root))
    return before


def leave(before: Current) -> None:
    """Undo :func:`enter`, where the context goes on after the run (a request's own thread)."""
    _node.set(before)


class step(ContextDecorator):  # noqa: N801 - used as a statement: with step("Drawing")
    """A named part of the pipeline: a context manager, or a decorator. Steps nest.

    :param name: shown to the user, and the key of the step's history of durations.
    :param details: a word more about it, shown beside the name.
    :param weight: how much of the parent's work it is, relative to its siblings; without, earlier runs say.
    :raises TaskCancelled: on entering, when the task was cancelled.
    """

    def __init__(self, name: str, *, details: str | None = None, weight: float | None = None) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"step({name!r}): a name is wanted, e.g. with step('Drawing')")
        if weight is not None and not weight > 0:
            raise ValueError(f"step({name!r}, weight={weight!r}): a number above 0 is wanted")
        self.name = name
        self.details = details
        self.weight = weight
        self._entered: list[tuple[Running, Node, Node] | None] = []

    def _recreate_cm(self) -> step:  # as a decorator, each call is a step of its own
        return step(self.name, details=self.details, weight=self.weight)

    def __enter__(self) -> step:
        current = _node.get()
        if current is None:
            self._entered.append(None)
            return self
        running, parent = current
        node = running.open_step(self.name, parent, details=self.details, weight=self.weight)
        _node.set((running, node))
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
        # Not a token's reset: a generator may be closed in another context than the one that it began in.
        current = _node.get()
        if current is not None and current[1] is node:
            _node.set((running, parent))


class track(Generic[T]):  # noqa: N801 - used as a function: for x in track(items)
    """Go through an iterable, sync or async, and advance the current step with each item.

    :param iterable: what to go through; its ``len`` is the number of turns.
    :param total: the number of turns where it has no ``len``.
    """

    def __init__(self, iterable: Iterable[T] | AsyncIterable[T], *, total: int | None = None) -> None:
        self._iterable = iterable
        if total is None and isinstance(iterable, Sized):
            total = len(iterable)
        self._total = total

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
        total, done, silent = self._total, -1, node.details is not None

        def advance(*, ended: bool = False) -> None:
            nonlocal done
            running.check()
            done += 1
            if total:
                node.unit = 1 / total
                node.fraction = min(1.0, done / total)
            if not silent and not ended:
                node.details = f"{done + 1} of {total}" if total else f"{done + 1}"
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
        """Which try at the task this is: 1, 2, 3 …; 0 outside a task."""
        current = _node.get()
        return current[0].attempt if current else 0

    @property
    def cancelled(self) -> bool:
        """Whether the task is to stop: for loops that report nothing. Reports raise by themselves."""
        current = _node.get()
        return current is not None and current[0].stopped is not None

    def update(self, *, details: str | None = None, fraction: float | None = None) -> None:
        """Say more about the current step. Costs about a microsecond: it sets a value, which is stored later.

        :param details: a word about what is being done.
        :param fraction: how much of the step is done, 0 to 1.
        :raises TaskCancelled: the task was cancelled.
        :raises ValueError: ``fraction`` is outside 0 to 1.
        """
        current = _node.get()
        if current is None:
            return
        running, node = current
        if running.stopped is not None:
            raise TaskCancelled(running.stopped)
        if fraction is not None:
            if not 0 <= fraction <= 1:
                raise ValueError(f"update(fraction={fraction!r}): a number from 0 to 1 is wanted")
            node.fraction = fraction
        if details is not None:
            node.details = details
        running.dirty = True

    def emit(self, chunk: Any) -> None:
        """Give out a chunk of partial content; clients follow it and resume it without a gap.

        :param chunk: a text or another JSON value.
        :raises TaskCancelled: the task was cancelled.
        :raises NotSerializable: the chunk is not JSON.
        :raises PayloadTooLarge: the task emitted more than ``BGTASKS_MAX_RESULT_BYTES`` in all.
        """
        current = _node.get()
        if current is not None:
            current[0].emit(chunk)

    def __repr__(self) -> str:
        return f"<current_task {self.request_id}>" if self else "<current_task: none>"


current_task = CurrentTask()


def copy_current_task(function: Callable[..., R]) -> Callable[..., R]:
    """Have a function, called later in a thread of your own, run in the current task and step.

    Context variables do not follow into threads; this copies them all, Flask's contexts too, afresh for each call::

        with step("Draw"), ThreadPoolExecutor() as pool:
            pictures = list(pool.map(copy_current_task(draw), sections))
    """
    context = contextvars.copy_context()

    @functools.wraps(function)
    def in_task(*args: Any, **kwargs: Any) -> R:
        # One context cannot be entered twice at once, hence a copy for each call.
        return context.copy().run(function, *args, **kwargs)

    return in_task


def _text(details: Any) -> str | None:
    return details if details is None or isinstance(details, str) else str(details)
