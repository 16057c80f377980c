"""Runs tasks in threads of this process: the default, with nothing else to install or start.

Threads are started on first use, hence after the server has forked; a process that submits nothing has none. The queue
is in the store: a task that is submitted while all threads are busy is forgotten here, and a thread that has finished
one fetches the next from the store, in the order that holds across all processes.
"""

from __future__ import annotations

import contextvars
import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence

from ..errors import BackgroundTasksError, ShuttingDown, StoreUnavailable
from ..runtime.fork import after_fork_in_child
from ..runtime.log_lines import Recurring
from .base import Fetch, Run, Runner
from .isolation import Isolation, seconds_alone

log = logging.getLogger("flask_bgtasks")

FETCH_AHEAD = 4
"""Tasks per thread that are fetched at once, so that a look into the store serves several short ones."""

FETCHED_SECONDS = 0.5
"""How long what was fetched ahead is taken for the order of the queue; then the store is asked again."""


class ThreadRunner(Runner):
    """``BGTASKS_RUNNER = "threads"``: ``workers`` daemon threads."""

    def __init__(self, run: Run, *, workers: int, fetch: Fetch | None = None) -> None:
        self._run = run
        self._workers = workers
        self._fetch = fetch
        self._reset()
        # A child of fork has none of the parent's threads, and its queue is the parent's to run.
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        # _lock protects everything below; _work wakes one idle worker, _idle wakes stop().
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._idle = threading.Condition(self._lock)
        self._ready: deque[str] = deque()  # given to a thread that was free
        self._fetched: deque[str] = deque()  # fetched from the store, in its order
        self._fetched_at = 0.0
        self._more = False  # whether there may be work in the store
        self._fetching = False  # whether a thread is asking it
        self._later: list[tuple[float, int, str]] = []  # heap of (monotonic due, order, request_id)
        self._mine: set[str] = set()  # what runs here, or is about to
        self._order = itertools.count()
        self._threads: list[threading.Thread] = []
        self._running: dict[str, threading.Thread] = {}
        self._given_up: set[threading.Thread] = set()  # those whose task was ended, and that did not notice
        self._idle_threads = 0
        self._busy = 0
        self._reserved = 0  # places for tasks that are being stored
        self._isolation = Isolation()
        self._stopped = False
        self._outage = Recurring(log)

    def submit(self, request_id: str, *, delay: float = 0.0, priority: int = 0, queue: str = "default") -> None:
        with self._lock:
            if self._stopped:
                raise ShuttingDown()
            if delay > 0:
                heapq.heappush(self._later, (time.monotonic() + delay, next(self._order), request_id))
                self._wake(1)
            elif request_id in self._mine:
                return
            elif self._free() > 0 or self._fetch is None:
                self._mine.add(request_id)
                self._ready.append(request_id)
                self._wake()
            else:
                self._more = True

    def reserve(self) -> bool:
        with self._lock:
            if self._stopped or self._free() <= 0:
                return False
            self._reserved += 1
            return True

    def begin(self, request_id: str) -> None:
        with self._lock:
            self._reserved -= 1
            if self._stopped:
                raise ShuttingDown()
            self._mine.add(request_id)
            self._ready.append(request_id)
            self._wake()

    def give_back(self) -> None:
        with self._lock:
            self._reserved -= 1
            if self._more:  # who came meanwhile found no place
                self._wake(1)

    def isolate(self, request_id: str, *, seconds: float, priority: int = 0, queue: str = "default") -> None:
        if self._fetch is None:
            super().isolate(request_id, seconds=seconds, priority=priority, queue=queue)
            return
        with self._lock:
            if self._stopped:
                raise ShuttingDown()
            self._isolation.wanted = self._more = True  # it is fetched, and what else was found after it
            self._wake(1)

    def cancel(self, request_id: str) -> bool:
        with self._lock:
            for queue in (self._ready, self._fetched):
                if request_id in queue:
                    queue.remove(request_id)
                    self._mine.discard(request_id)
                    return True
            kept = [entry for entry in self._later if entry[-1] != request_id]
            found = len(kept) < len(self._later)
            self._later = kept
            heapq.heapify(kept)
            return found

    def stop(self, grace: float) -> bool:
        deadline = time.monotonic() + grace
        with self._lock:
            self._stopped = True
            self._work.notify_all()
            while self._busy or self._fetching:  # a store that is asked must not be closed meanwhile
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._idle.wait(left)
            return True

    def look(self) -> None:
        with self._lock:
            self._more = True
            self._wake(1)

    def give_up(self, request_id: str) -> None:
        with self._lock:
            thread = self._running.pop(request_id, None)
            if thread is None:
                return
            self._threads.remove(thread)
            self._given_up.add(thread)
            self._busy -= 1
            self._mine.discard(request_id)
            self._isolation.end(request_id)
            if self._stopped:
                self._idle.notify_all()
            elif self._ready or self._fetched or self._more:
                self._start_one()

    @property
    def draining(self) -> bool:
        return self._stopped

    @property
    def waiting(self) -> int:
        with self._lock:
            return len(self._ready) + len(self._fetched) + len(self._later)

    @property
    def fetches(self) -> bool:
        return self._fetch is not None

    @property
    def free(self) -> int:
        with self._lock:
            return 0 if self._stopped else self._free()

    def _free(self) -> int:
        if self._isolation.wanted or self._left_to_wait(time.monotonic()) > 0:
            return 0
        return self._workers - self._busy - self._reserved - len(self._ready) - len(self._fetched)

    def _wake(self, looking: int = 0) -> None:
        """See that a thread comes for each task that is here, as far as there are threads.

        A thread that was woken counts as idle until it runs, so those that are free are counted by what they are not:
        busy. One that sleeps is woken, and where all that are free have a task to come for, one more is started.

        :param looking: how many threads are to look into the store besides.
        """
        wanted = len(self._ready) + len(self._fetched) + looking
        self._work.notify(wanted)
        while len(self._threads) - self._busy < wanted and len(self._threads) < self._workers and not self._stopped:
            self._start_one()

    def _start_one(self) -> None:
        thread = threading.Thread(target=self._survive, name=f"bgtasks-worker-{len(self._threads) + 1}", daemon=True)
        self._threads.append(thread)
        try:
            thread.start()
        except RuntimeError as error:  # as many as the system allows; `mend` tries again
            log.warning("thread %s cannot be started: %s", thread.name, error)

    @property
    def missing(self) -> Sequence[str]:
        with self._lock:
            return [thread.name for thread in self._threads if not thread.is_alive()]

    def mend(self) -> None:
        with self._lock:
            for thread in [thread for thread in self._threads if not thread.is_alive()]:
                self._forget(thread)
                if not self._stopped:
                    self._start_one()

    def _forget(self, thread: threading.Thread) -> None:
        """A thread has ended, or will: what it held is free."""
        if thread not in self._threads:
            return
        self._threads.remove(thread)
        for request_id, runner in list(self._running.items()):
            if runner is thread:
                del self._running[request_id]
                self._mine.discard(request_id)
                self._isolation.end(request_id)
                self._busy -= 1
                self._idle.notify_all()

    def _survive(self) -> None:
        """What a thread does: serve, and have another one in its place where it breaks."""
        me = threading.current_thread()
        try:
            self._serve(me)
        except BaseException:  # whatever comes out of it: the process has as many threads as before
            log.exception("thread %s failed; another one takes its place", me.name)
            with self._lock:
                self._forget(me)
                if not self._stopped:
                    self._start_one()

    def _serve(self, me: threading.Thread) -> None:
        while (request_id := self._next(me)) is not None:
            try:
                # A fresh context each: what one task leaves in a context variable does not reach the next.
                contextvars.Context().run(self._run, request_id)
            except StoreUnavailable as error:  # it stays in the store; whoever looks next finds it
                log.warning("task %s cannot be begun: %s", request_id, error)
                self._forget_picked()
            except BaseException:  # SystemExit too: a task that calls sys.exit() must not cost the process a thread
                log.exception("the run of task %s broke", request_id)
            finally:
                with self._lock:
                    if me in self._given_up:  # another has its place
                        self._given_up.remove(me)
                        return  # noqa: B012 - what was raised is logged above
                    if self._running.get(request_id) is me:
                        del self._running[request_id]
                    self._busy -= 1
                    self._mine.discard(request_id)
                    self._isolation.end(request_id)
                    if self._more or self._ready or self._fetched:  # what had to wait for this one to be alone
                        self._wake()
                    if self._stopped:
                        self._idle.notify_all()
        with self._lock:
            if me in self._threads:
                self._threads.remove(me)

    def _forget_picked(self) -> None:
        with self._lock:
            self._mine.difference_update(self._fetched)
            self._fetched.clear()
            self._more = self._isolation.wanted = False

    def _next(self, me: threading.Thread) -> str | None:
        """The next task to run, None when it is time to end. What still waits at a stop stays in the store."""
        with self._lock:
            while not self._stopped:
                request_id, wait = self._pop()
                if request_id is not None:
                    self._busy += 1
                    self._running[request_id] = me
                    if self._later or self._ready or self._fetched:  # another thread has to come for what is left
                        self._wake(1 if self._later else 0)
                    return request_id
                asks = self._more and not self._fetching and not self._isolation.closed(time.monotonic())
                if asks and self._fetch is not None:
                    self._fetch_more(self._fetch)
                    continue
                self._idle_threads += 1
                try:
                    self._work.wait(wait)
                finally:
                    self._idle_threads -= 1
            return None

    def _fetch_more(self, fetch: Fetch) -> None:
        """Ask the store, without the lock; one thread at a time, or all would be given the same."""
        self._fetching, self._more = True, False  # who submits from now on says so once more
        limit = self._workers * FETCH_AHEAD
        self._lock.release()
        found: list[str] | None = None
        suspects: dict[str, float] = {}
        try:
            tasks = fetch(limit)
            found = [task.request_id for task in tasks]
            suspects = {task.request_id: seconds for task in tasks if (seconds := seconds_alone(task))}
        except BackgroundTasksError as error:
            self._outage.note("cannot look for work: %s", error)
        except BaseException:
            self._outage.note("looking for work failed", level=logging.ERROR, exc_info=True)
        else:
            self._outage.over("work can be looked for again")
        finally:
            self._lock.acquire()
            self._fetching = False
            if self._stopped:
                self._idle.notify_all()
        if found is None:
            self._isolation.wanted = False
            return
        self._isolation.fetched({one: suspects[one] for one in suspects if one not in self._running})
        new = [request_id for request_id in found if request_id not in self._mine]
        self._more = self._more or (len(found) >= limit and bool(new))
        self._fetched.extend(new)
        self._mine.update(new)
        self._fetched_at = time.monotonic()
        self._wake()

    def _left_to_wait(self, now: float) -> float:
        """For how many seconds nothing may begin: a suspect runs alone, or waits for what runs to end."""
        closed = self._isolation.closed(now)
        if not closed and self._fetched and self._fetched[0] in self._isolation:
            return self._isolation.left(self._fetched[0], now, busy=self._busy)
        return closed

    def _pop(self) -> tuple[str | None, float | None]:
        now = time.monotonic()
        if self._fetched and now - self._fetched_at > FETCHED_SECONDS:
            self._mine.difference_update(self._fetched)
            self._fetched.clear()
            self._more = True
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[-1])
        left = self._left_to_wait(now)
        if left > 0:  # what was fetched is asked for again meanwhile: another process may have taken it
            return None, min(left, FETCHED_SECONDS)
        if self._fetched and self._fetched[0] in self._isolation:
            self._isolation.begin(self._fetched[0], now)
            return self._fetched.popleft(), None
        if self._ready:
            return self._ready.popleft(), None
        if self._fetched:
            return self._fetched.popleft(), None
        return None, (self._later[0][0] - now if self._later else None)
