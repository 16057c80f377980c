"""The body of an event stream: the history of one or several tasks, then their new events, live.

Made inside the request and read outside of it: it takes what it needs when it is made, and touches no request, no
``current_app`` and no ``g`` (``stream_with_context`` leaves them current on the server's thread: Flask issue 6123).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...app.watcher import Watch, Watcher
from ...core.model import Event, Task
from ...errors import BackgroundTasksError, TaskNotFound
from ...runtime.connection import LOOK_SECONDS
from ..responses.representation import brief, dumps
from . import sse
from .frame_cache import FrameCache
from .slots import Slot

log = logging.getLogger("flask_bgtasks")

RETRY_MS, RETRY_JITTER_MS = 1000, 500
"""When a client connects again: not all of them at once after a restart."""

PIECE_BYTES = 16 * 1024
"""What is given to the server at once: less than the room of a connection that takes more at all."""

Told = Callable[[str, int], None]
"""Takes note that the client was told how a task ended, by the event of that number."""

Name = Callable[[str, Mapping[str, int]], str]
"""Makes the ``id:`` of an event of a task, from where the client is in each task with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What a client asked to be told.

    :param places: where it is in each task: the number of the last event that it has.
    :param ahead: tasks in which it claims to be further than the task is: they begin with a snapshot.
    :param missing: ids that it asked for and that are not there.
    :param name: makes the events' ids.
    :param seconds: the lifetime of the stream.
    :param base: the path of the blueprint, for links.
    """

    places: Mapping[str, int]
    ahead: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()
    name: Name
    seconds: float
    base: str


class EventStream:
    """The iterable that the server sends, in small pieces. Until it is iterated it holds its slot and nothing else.

    :param chunks: what :meth:`Teller.tell` gives.
    :param slot: given back by :meth:`close`, which every server calls (PEP 3333), or with the last reference.
    :param takes: waits until the client takes more, and tells whether it does: asked before each piece.
    :param on_close: called by :meth:`close`, each time.
    """

    def __init__(
        self,
        chunks: Generator[bytes, None, None],
        slot: Slot,
        *,
        takes: Callable[[], bool] = lambda: True,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._chunks = chunks
        self._slot = slot
        self._takes = takes
        self._on_close = on_close
        self._rest = memoryview(b"")  # of the chunk of which a part was given

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._rest:
            self._rest = memoryview(next(self._chunks))
        if not self._takes():
            log.info("an event stream ends: its client reads nothing")
            self.close()
            raise StopIteration
        piece, self._rest = self._rest[:PIECE_BYTES], self._rest[PIECE_BYTES:]
        return bytes(piece)

    def close(self) -> None:
        """End the stream, whether it was ever iterated or not. Can be called twice."""
        self._chunks.close()
        self._slot.release()
        self._on_close()


class Teller:
    """Tells one client what happens to its tasks.

    :param ended: tells whether the stream has to end now: the client has left, or the process stops.
    :param told: called for each task whose end the server has taken from here, and asked for more; None for nobody.
    """

    def __init__(
        self,
        watcher: Watcher,
        frames: FrameCache,
        subscription: Subscription,
        *,
        ended: Callable[[], bool],
        told: Told | None = None,
    ) -> None:
        self._watcher = watcher
        self._frames = frames
        self._asked = subscription
        self._ended = ended
        self._told = told
        self._ends: list[tuple[str, int]] = []  # of tasks, which are in the chunk that is about to be given
        self._places = dict(subscription.places)
        self._ahead = set(subscription.ahead)
        self._open = [request_id for request_id in self._places if request_id not in subscription.missing]

    def tell(self) -> Generator[bytes, None, None]:
        """The stream's bytes, until its time is over or nothing more is to come."""
        yield self._first()
        try:
            with self._follow() as following:
                yield from self._live(following)
        except BackgroundTasksError as error:  # the store: the client comes back for the rest
            log.warning("an event stream ends early: %s", error)

    def _first(self) -> bytes:
        first = sse.retry(RETRY_MS + random.randrange(RETRY_JITTER_MS))
        if self._asked.missing:
            first += sse.event("missing", dumps({"missing": self._asked.missing}).decode())
        return first

    def _follow(self) -> Watch:
        while True:
            try:
                return self._watcher.follow(self._open)
            except TaskNotFound as deleted:  # since the request was checked
                self._open.remove(deleted.request_id)

    def _live(self, following: Watch) -> Generator[bytes, None, None]:
        now = time.monotonic()
        end, silent_until = now + self._asked.seconds, now + sse.PING_SECONDS
        while True:
            told = False
            for chunk in self._news(following):
                if told and (now >= end or self._ended()):  # a client that reads slowly comes back for the rest
                    break
                yield chunk
                told, now = True, time.monotonic()
                silent_until = now + sse.PING_SECONDS
            now = time.monotonic()
            if now >= silent_until:
                yield sse.PING
                silent_until = now + sse.PING_SECONDS
            while self._ends:  # whoever closes the stream at that yield, because the write failed, does not come here
                end_of, seq = self._ends.pop(0)
                if self._told is not None:
                    self._told(end_of, seq)
            if not self._open or now >= end or self._ended():
                return
            following.wait(max(0.0, min(LOOK_SECONDS, end - now, silent_until - now)))

    def _news(self, following: Watch) -> Iterator[bytes]:
        """What the client does not have yet, of all its tasks: small events together, so that they are one write."""
        waiting, size = list[bytes](), 0
        for request_id in list(self._open):
            try:
                for event in self._news_of(request_id, following):
                    waiting.append(event)
                    size += len(event)
                    if size >= PIECE_BYTES:
                        yield b"".join(waiting)
                        waiting, size = [], 0
            except TaskNotFound:  # deleted: there is no more to come
                self._open.remove(request_id)
        if waiting:
            yield b"".join(waiting)

    def _news_of(self, request_id: str, following: Watch) -> Iterator[bytes]:
        task = following.task(request_id)
        if request_id in self._ahead:
            self._ahead.remove(request_id)
            yield self._snapshot(task, terminal_follows=task.done)
        while (after := self._places[request_id]) < task.seq:
            events = following.events(request_id, after)
            if not events or events[0].seq > after + 1:  # the history does not reach back that far
                yield self._snapshot(task, terminal_follows=task.done and bool(events))
                continue
            for event in events:
                if event.seq > self._places[request_id] + 1:  # whatever happens, a gap is told and not passed over
                    break
                yield self._event(request_id, event)
            task = following.task(request_id)
        # A terminal event that is not the newest was followed by a retry, so the task's own state decides. A place
        # beyond it: the request read the store when the watcher had not looked yet; it will.
        if task.done and self._places[request_id] == task.seq:
            self._open.remove(request_id)
            self._ends.append((request_id, task.seq))

    def _event(self, request_id: str, event: Event) -> bytes:
        self._places[request_id] = event.seq
        return sse.with_id(self._asked.name(request_id, self._places), self._frames.frame(request_id, event))

    def _snapshot(self, task: Task, *, terminal_follows: bool) -> bytes:
        """The task as it stands, in place of events that are no longer kept.

        Of a finished task it stands just before the terminal event, so that every stream of it ends with that.
        """
        self._places[task.request_id] = task.seq - 1 if terminal_follows else task.seq
        data = dumps(brief(task, self._asked.base)).decode()
        return sse.event("snapshot", data, id=self._asked.name(task.request_id, self._places))


def page(request_id: str, events: list[Event], *, after: int, task: Task) -> dict[str, Any]:
    """A page of the same events as JSON, which are put into it: what is above ``after``, and where to go on.

    ``trimmed`` says that events between ``after`` and the first one are no longer kept.
    """
    first = events[0].seq if events else task.seq + 1
    return {
        "request_id": request_id,
        "after": after,
        "next": events[-1].seq if events else min(after, task.seq),
        "trimmed": first > after + 1,
        "seq": task.seq,
        "done": task.done,
    }
