"""A running attempt: its pipeline puts reports in, the flusher takes them out.

Reports are converted to clean text and plain JSON at once, so later changes of the pipeline's objects have no effect,
and lazy translations are evaluated in the language of the reporting code. Knows the plan and the model; no store, no
Flask, and no context variables: :mod:`.reporting` finds the attempt and the step that code runs in.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ..core.model import Entry, Event, EventType, Progress, Result, Task
from ..core.steps import KEY_SEPARATOR, MAX_PATH, StepNode, StepTree
from ..core.text import json_values
from ..core.text.clean import MAX_TEXT, clean, optional_text, text_of
from ..errors import CancelRequested, NotSerializable, PayloadTooLarge
from .checkpoint_log import CheckpointLog
from .reports import divided

log = logging.getLogger("flask_bgtasks")

MAX_WAITING_ENTRIES = 10_000
"""Entries that wait for the store, while it is unreachable: as many as it keeps of a task's history."""

CHUNK_OVERHEAD = 8  # bytes that each chunk counts besides its JSON: its place in the history is not free

MAX_ENTRY_BYTES = 256 * 1024
"""Of output in one entry, but for a chunk that is larger itself: an entry is one event of a stream, and one document of
Firestore's."""

CHECKPOINT = "checkpoint"
"""The mark in the event of a step's end that says that its value is stored."""

StepListener = Callable[[EventType, str, StepNode], None]
"""Called with what happened to a step, in which task, and the step."""


class RunningAttempt:
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
        plan: StepTree,
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
        self.leased_at = monotonic()  # before the lease was asked for last; it holds from then on at least
        self.renew_at = 0.0  # when the lease is due to be renewed, by time.monotonic
        self.task: Task | None = None  # as it was stored last, as far as is known here
        self.unsure_since: int | None = None  # the newest event before a write of which it is not known if it was made
        self.gave_up = False  # whether a checkpoint could not be stored, as long as that was tried
        self.deadline: float | None = None  # by time.monotonic; the flusher stops it then
        self.overdue: Callable[[], None] | None = None  # ends it where it does not stop after its deadline
        self.begin_by: float | None = None  # by time.monotonic, while it is held for a run that has not begun
        self.late: Callable[[], object] | None = None  # gives it back where none begins until then
        self.releasable = False  # whether another process can go on with it
        self.promised = True  # whether somebody was told that the task will finish
        self.checkpoints: CheckpointLog | None = None  # where it can have any
        self.behind: tuple[float, str] | None = None  # what an earlier attempt had reached, and what to say until then
        self._clock = clock
        self._monotonic = monotonic
        self._on_step = on_step
        self._entries: deque[Entry] = deque(maxlen=MAX_WAITING_ENTRIES)
        self._chunks: list[Any] | None = None  # of the last entry, while it is output
        self._chunk_bytes = 0  # of those
        self._offset = 0
        self._left = max_output_bytes
        self._max_output_bytes = max_output_bytes
        self._too_deep_said = False
        self._shown = -1.0  # the percentage that was taken last
        self._node: StepNode = plan.root  # the step that was opened last and is open still

    @property
    def seq(self) -> int:
        """The newest event that is known here."""
        return 0 if self.task is None else self.task.seq

    # -- reports, called by the pipeline -----------------------------------------------------------------------------

    def check(self) -> None:
        """:raises CancelRequested: the task was cancelled, or another attempt took over."""
        if self.stopped is not None:
            raise CancelRequested(self.stopped)

    def open_step(self, name: Any, parent: StepNode, *, details: Any, weight: float | None) -> StepNode:
        self.check()
        name, details = text_of(name), optional_text(details)  # not under the lock: they may call the app's code
        with self.lock:
            node = self.plan.open(name, parent, at=self._monotonic(), weight=weight)
            node.details = details
            self._node = node
            self._add(EventType.STEP_STARTED, self._step_data(node))
            too_deep = node.is_shortened and not self._too_deep_said
            self._too_deep_said = self._too_deep_said or too_deep
        if too_deep:
            what = "task %s: step %r is nested deeper than %d steps: names are left out of the paths from here on"
            log.warning(what, self.request_id, node.name, MAX_PATH)
        if self._on_step is not None:
            self._on_step(EventType.STEP_STARTED, self.request_id, node)
        return node

    def close_step(self, node: StepNode, *, failed: bool = False, more: Mapping[str, Any] | None = None) -> None:
        """A step ends. ``more`` goes into its event."""
        with self.lock:
            self.plan.close(node, at=self._monotonic())
            if self._node is node:
                self._node = self._open_ancestor(node)
            seconds = round((node.finished or node.started) - node.started, 3)
            data = self._step_data(node)
            marks = {**(more or {}), **({"failed": True} if failed else {})}
            self._add(EventType.STEP_FINISHED, {**data, "seconds": seconds, **marks})
        if self._on_step is not None:
            self._on_step(EventType.STEP_FINISHED, self.request_id, node)

    def unmark(self, node: StepNode, mark: str) -> None:
        """What was marked when a step ended does not hold. Nothing is done where that is stored already."""
        with self.lock:
            for place in reversed(range(len(self._entries))):
                entry = self._entries[place]
                if entry.type is EventType.STEP_FINISHED and mark in entry.data and entry.data["path"] == node.path:
                    data = {name: value for name, value in entry.data.items() if name != mark}
                    self._entries[place] = replace(entry, data=data)
                    return

    def emit(self, chunk: Any, node: StepNode) -> None:
        self.check()
        try:
            kept, size = json_values.snapshot(chunk)
        except json_values.NotJson as error:
            raise NotSerializable(
                f"emit() of {type(chunk).__name__}: {error}. "
                "Emit texts or JSON values (bytes: upload them, emit the address)"
            ) from None
        size += CHUNK_OVERHEAD
        with self.lock:
            if size > self._left:
                raise PayloadTooLarge(
                    f"the output of task {self.request_id}",
                    size=self._max_output_bytes - self._left + size,
                    limit=self._max_output_bytes,
                    setting="BGTASKS_MAX_RESULT_BYTES",
                    mend="Emit less, or return it as the result in a file elsewhere.",
                )
            self._left -= size
            if self._chunks is None or self._chunk_bytes + size > MAX_ENTRY_BYTES:
                chunks: list[Any] = []
                self._add(EventType.OUTPUT, {"offset": self._offset, "chunks": chunks})
                self._chunks, self._chunk_bytes = chunks, 0
            self._chunks.append(kept)
            self._chunk_bytes += size
            self._offset += 1
            keeper: StepNode | None = node
            while keeper is not None:  # a checkpoint gives its output out again where it is not run again
                if keeper.kept is not None:
                    keeper.kept.append(kept)
                keeper = keeper.parent

    def _add(self, type: EventType, data: dict[str, Any]) -> None:
        self._chunks = None
        self._entries.append(Entry(type, self._clock(), data))
        self.dirty = True

    def _step_data(self, node: StepNode) -> dict[str, Any]:
        return {
            "step": node.name,
            "path": node.path,
            "step_number": node.number or None,
            "total_steps": self.plan.total_steps,
            "details": node.details,
        }

    def _open_ancestor(self, node: StepNode) -> StepNode:
        parent = node.parent
        while parent is not None and parent.finished is not None:
            parent = parent.parent
        # With steps side by side (threads), the newest that is still open is shown.
        top = parent or self.plan.root
        return next(reversed(top.open), top)

    # -- for the flusher and the engine ------------------------------------------------------------------------------

    def stop(self, why: str) -> None:
        """Have the next report raise :class:`~flask_bgtasks.CancelRequested`."""
        self.stopped = self.stopped or why

    def take(self) -> tuple[tuple[Entry, ...], Progress | None]:
        """What is to be stored: entries since the last time, and the progress if it is worth a write.

        Where there is more than one write holds, the first of it: the next call gives the next, the last the progress.
        """
        with self.lock:
            entries, rest = divided(tuple(self._entries))
            if rest:
                self._keep(rest)
                return entries, None
            progress = self._progress()
            self._keep(rest)
            dirty, self.dirty = self.dirty, False
        # A bar that moves by time alone is worth a write for each whole percent.
        if not dirty and not entries and progress.percentage < self._shown + 1:
            return (), None
        if not dirty and self.plan.root.last is None:
            return entries, None
        self._shown = progress.percentage
        return entries, progress

    def take_ahead(self) -> tuple[Entry, ...]:
        """The first of what is more than one write holds; nothing once :meth:`take` would give all there is."""
        with self.lock:
            entries, rest = divided(tuple(self._entries))
            if not rest:
                return ()
            self._keep(rest)
            return entries

    def _keep(self, rest: Sequence[Entry]) -> None:
        """Have these alone wait for the next write. Under the lock."""
        self._entries.clear()
        self._entries.extend(rest)
        self._chunks = None

    def put_back(self, entries: tuple[Entry, ...]) -> None:
        """What could not be stored goes back, before what was reported since."""
        with self.lock:
            self._entries = deque([*entries, *self._entries], maxlen=MAX_WAITING_ENTRIES)  # the oldest go first
            self.dirty = True

    def forget_stored(self, events: Sequence[Event]) -> None:
        """Of what waits for the store, take out what is there already: the history since a write of unknown outcome."""
        stored = {_identity(event) for event in events if event.attempt == self.attempt}
        with self.lock:
            self._keep([entry for entry in self._entries if _identity(entry) not in stored])

    def _progress(self) -> Progress:
        now = self._monotonic()
        node = self._node
        top = node
        while top.parent is not None and top.parent.parent is not None:
            top = top.parent
        details = node.details
        if node is not top:
            nested = KEY_SEPARATOR.join(node.path[1:])
            details = f"{nested}: {details}" if details else nested
        elif node is self.plan.root and node.last is not None:
            top = node.last  # between two steps: the last one is still what is shown
            details = top.details
        percentage = self.plan.percentage(now)
        if self.behind is not None:
            reached, note = self.behind
            if percentage > reached:
                self.behind = None
            else:
                room = MAX_TEXT - len(note) - 3
                details = f"{clean(details, room)} ({note})" if details else note
        return Progress(
            updated_at=self._clock(),
            attempt=self.attempt,
            percentage=percentage,
            step=top.name or None,
            step_number=top.number,
            total_steps=self.plan.total_steps,
            details=optional_text(details),
            eta_seconds=self.plan.eta_seconds(now),
        )


def _identity(report: Entry | Event) -> tuple[EventType, datetime, bytes]:
    """What tells a report from all others of its attempt. The mark may have been taken back since it was stored."""
    data = {name: value for name, value in report.data.items() if name != CHECKPOINT}
    return report.type, report.at, json_values.dumps(data)
