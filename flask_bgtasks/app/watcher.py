"""Follows tasks for everything in this process that waits for one: streams, long polls, ``wait``.

One watcher per process. Changes of this process are passed on at once. Changes of other processes are announced by
them; where that is not heard they are found by one query of the store for all followed tasks, however many clients
follow them. Reads the store, writes nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from types import TracebackType

from ..announcements.announcement import Announcement
from ..core.model import Event, Task
from ..errors import BackgroundTasksError, TaskNotFound
from ..runtime.background_thread import BackgroundThread
from ..runtime.fork import after_fork_in_child
from ..runtime.log_lines import Recurring
from ..stores.base import Store

log = logging.getLogger("flask_bgtasks")

TOKEN_LOOK_SECONDS = 0.02
"""How often the store's change token is compared: microseconds each, so that a change elsewhere is seen in 20 ms."""

QUERY_LOOK_SECONDS = 0.25
"""How often a store without a token is queried: one query, whatever the number of clients."""

NET_LOOK_SECONDS = 4.0
"""How often the store is queried while other processes announce their changes: what is lost of that costs as much."""

CLOSE_SECONDS = 2.0  # that close() waits for the thread, so that nobody asks a closed store

EVENTS_PER_READ = 100  # that a follower far behind gets at once: a hundred followers do not hold all of a history

KEPT_EVENTS = 512  # per followed task, in memory, for streams that are at its end


class _Topic:
    """One followed task: the newest of it, and who follows. Changed under the watcher's lock only."""

    __slots__ = ("events", "followers", "task")

    def __init__(self) -> None:
        self.task: Task | None = None  # until it was read, or changed
        # Without a gap, and up to the newest; or none.
        self.events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self.followers: set[Watch] = set()

    @property
    def seq(self) -> int:
        """The newest event that is known here."""
        return 0 if self.task is None else self.task.seq

    def take(self, task: Task, events: Iterable[Event]) -> bool:
        """Take what is new; False if events are missing between those that are here and these."""
        if self.task is None:
            self.task = task
            return True
        if task.seq <= self.task.seq:
            return True
        fresh = [event for event in events if event.seq > self.task.seq]
        if [event.seq for event in fresh] != list(range(self.task.seq + 1, task.seq + 1)):
            return False
        self.events.extend(fresh)
        self.task = task
        return True

    def precede(self, events: Sequence[Event]) -> None:
        """Keep what a follower has read, if it goes before what is kept: the next one needs it too."""
        first = self.events[0].seq if self.events else self.seq + 1
        earlier = [event for event in events if event.seq < first]
        gap_free = [event.seq for event in earlier] == list(range(first - len(earlier), first))
        if earlier and gap_free and len(self.events) + len(earlier) <= KEPT_EVENTS:
            self.events.extendleft(reversed(earlier))


class Watcher:
    """What feeds every follower in this process.

    :param holds: whether what other processes announce is heard.
    """

    def __init__(self, store: Store, *, holds: Callable[[], bool] = lambda: False) -> None:
        self._store = store
        self._holds = holds
        self._reset()
        store.on_commit(self._committed)
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        # _lock protects the topics, their contents and followers, and what was announced of them. Never held over a
        # read of the store.
        self._lock = threading.Lock()
        self._topics: dict[str, _Topic] = {}
        self.thread = BackgroundThread("bgtasks-watcher", self._serve)
        self._wanted = threading.Event()
        self._stale: set[str] = set()  # followed tasks of which something newer was announced
        self._all_stale = False  # something newer of any of them
        self._announced = threading.Event()  # wakes the thread where either says so, and where it is closed
        self._look_by = float("-inf")  # by time.monotonic; the thread's alone
        self._outage = Recurring(log)
        self._token: Hashable | None = None

    def follow(self, request_ids: Sequence[str]) -> Watch:
        """Follow these tasks, in a ``with`` block.

        :raises TaskNotFound: one of them does not exist.
        """
        following = Watch(self, request_ids)
        for request_id in request_ids:
            self._join(request_id, following)
        return following

    def _join(self, request_id: str, following: Watch) -> None:
        with self._lock:
            topic = self._topics.get(request_id)
            if topic is None:
                topic = self._topics[request_id] = _Topic()
            topic.followers.add(following)
            self._wanted.set()
        self.thread.start()
        if topic.task is not None:
            return
        # Read after the topic is known: what is committed from here on is announced to it.
        try:
            task = self._store.get(request_id)
        except BackgroundTasksError:
            following.close()
            raise
        with self._lock:
            if task.seq > topic.seq:
                topic.events.clear()  # of commits that came meanwhile, and not up to this one
                topic.task = task

    def _leave(self, following: Watch) -> None:
        with self._lock:
            for request_id in following.request_ids:
                topic = self._topics.get(request_id)
                if topic is not None:
                    topic.followers.discard(following)
                    if not topic.followers:
                        del self._topics[request_id]
            if not self._topics:
                self._wanted.clear()

    def _committed(self, task: Task, events: tuple[Event, ...]) -> None:
        """This process changed a task. In the thread that did: quick, and no reading."""
        topic = self._topics.get(task.request_id)
        if topic is None or (topic.task is not None and task.seq <= topic.task.seq):
            return
        with self._lock:
            contiguous = topic.take(task, events)
            following = list(topic.followers)
        if not contiguous:  # commits of two threads arrive here in any order; the gap is filled from the store
            self._refresh(task.request_id, topic)
            return
        for one in following:
            one.wake()

    def announced(self, said: Announcement) -> None:
        """Another process changed tasks. In the exchange's thread: quick, and no reading."""
        with self._lock:
            if not self._topics:
                return
            for request_id, seq in said.tasks.items():
                topic = self._topics.get(request_id)
                if topic is not None and (topic.task is None or topic.task.seq < seq):
                    self._stale.add(request_id)
            self._all_stale = self._all_stale or said.everything
            if self._stale or self._all_stale:
                self._announced.set()

    def _refresh(self, request_id: str, topic: _Topic) -> None:
        """Bring a topic up to date from the store."""
        after = topic.seq
        try:
            task = self._store.get(request_id)
            events = self._store.events(request_id, after=after) if task.seq > after else []
        except TaskNotFound:
            with self._lock:
                following = list(topic.followers)
            for one in following:
                one.lose(request_id)
            return
        with self._lock:
            changed = task.seq > topic.seq
            newest = events[-1].seq if events else after
            if changed and not topic.take(task, [e for e in events if e.seq <= task.seq]):
                # Trimmed history, or more than one page of it: followers read what they need from the store.
                topic.events.clear()
                topic.task = task
            if newest > task.seq:  # more came between the two reads; the next look takes it
                self._token = None
            following = list(topic.followers) if changed else []
        for one in following:
            one.wake()

    def close(self) -> None:
        """Have the thread end; the next follower starts another."""
        self.thread.close(wake=self._wake, timeout=CLOSE_SECONDS)

    def _wake(self) -> None:
        self._wanted.set()
        self._announced.set()

    def _serve(self, closed: threading.Event) -> None:
        while not closed.is_set():
            self._wanted.wait()
            try:
                self._look(closed)
            except BackgroundTasksError as error:
                self._outage.note("tasks cannot be followed: %s", error)
                self._look_by = float("-inf")  # whatever was announced meanwhile: all of them are looked at
                closed.wait(1.0)
            except BaseException:
                self._outage.note("following tasks failed", level=logging.ERROR, exc_info=True)
                self._look_by = float("-inf")
                closed.wait(1.0)
            else:
                self._outage.over("tasks are followed again")

    def _look(self, closed: threading.Event) -> None:
        """One look at what other processes did."""
        if closed.is_set():
            return
        token = self._store.change_token()
        heard = self._announced.wait(self._pause(token))
        if closed.is_set():
            return
        if heard:
            if not self._take_announced() and self._holds() and time.monotonic() < self._look_by:
                return
        elif token is not None and not self._holds():
            token = self._store.change_token()
            if token == self._token:
                return
        self._look_by = time.monotonic() + NET_LOOK_SECONDS
        with self._lock:
            topics = dict(self._topics)
        versions = self._store.versions(list(topics)) if topics else {}
        self._token = token
        for request_id, topic in topics.items():
            if versions.get(request_id, -1) != topic.seq:
                self._refresh(request_id, topic)

    def _pause(self, token: Hashable | None) -> float:
        """Seconds until the store is asked, if nobody announces anything."""
        if self._holds():
            return max(0.0, self._look_by - time.monotonic())
        return QUERY_LOOK_SECONDS if token is None else TOKEN_LOOK_SECONDS

    def _take_announced(self) -> bool:
        """Bring up to date what was announced; whether anything else may have changed too."""
        with self._lock:
            self._announced.clear()
            every, self._all_stale = self._all_stale, False
            stale = {request_id: self._topics.get(request_id) for request_id in self._stale}
            self._stale.clear()
        for request_id, topic in stale.items():
            if topic is not None and not every:
                self._refresh(request_id, topic)
        return every

    def events(self, request_id: str, after: int) -> list[Event]:
        """A followed task's events above ``after``: from memory if it reaches back that far, else from the store."""
        with self._lock:
            topic = self._topics.get(request_id)
            if topic is not None:
                if topic.seq <= after:
                    return []
                kept, wanted = topic.events, topic.seq - after
                if len(kept) >= wanted:  # without a gap, up to the newest
                    return [kept[place] for place in range(-wanted, 0)]
        events = self._store.events(request_id, after=after, limit=EVENTS_PER_READ)
        with self._lock:
            topic = self._topics.get(request_id)
            if topic is not None:
                topic.precede(events)
        return events


class Watch:
    """Some tasks followed by one client. Use it in one thread, in a ``with`` block."""

    def __init__(self, watcher: Watcher, request_ids: Sequence[str]) -> None:
        self.request_ids = tuple(request_ids)
        self._watcher = watcher
        self._changed = threading.Event()
        self._lost: set[str] = set()

    def wait(self, timeout: float) -> bool:
        """Wait for a change of any of the tasks since the last time; whether there was one.

        :param timeout: seconds.
        """
        changed = self._changed.wait(timeout)
        self._changed.clear()
        return changed

    def task(self, request_id: str) -> Task:
        """The newest known of a followed task. :raises TaskNotFound: it was deleted."""
        topic = self._watcher._topics.get(request_id)
        if topic is None or topic.task is None or request_id in self._lost:
            raise TaskNotFound(request_id)
        return topic.task

    def events(self, request_id: str, after: int) -> list[Event]:
        """The events above ``after``, oldest first. :raises TaskNotFound: the task was deleted."""
        if request_id in self._lost:
            raise TaskNotFound(request_id)
        return self._watcher.events(request_id, after)

    def wake(self) -> None:
        """Something changed."""
        self._changed.set()

    def lose(self, request_id: str) -> None:
        """A task is gone."""
        self._lost.add(request_id)
        self.wake()

    def close(self) -> None:
        """Follow no more. Can be called twice."""
        self._watcher._leave(self)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
