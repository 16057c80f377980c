"""Runs tasks in threads of this process: the default, with nothing else to install or start.

Threads are made on first need, hence after a fork of the server's; a process that submits nothing has none.
"""

from __future__ import annotations

import contextvars
import heapq
import itertools
import logging
import threading
import time

from ..errors import ShuttingDown
from ..forks import after_fork_in_child
from .base import Run, Runner

log = logging.getLogger("flask_bgtasks")


class ThreadRunner(Runner):
    """``BGTASKS_RUNNER = "threads"``: ``workers`` daemon threads serve one queue, highest priority first."""

    def __init__(self, run: Run, *, workers: int) -> None:
        self._run = run
        self._workers = workers
        self._reset()
        # A child of fork has none of the parent's threads, and its queue is the parent's to run.
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        # _lock protects everything below; _work wakes one idle worker, _idle wakes stop().
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._idle = threading.Condition(self._lock)
        self._ready: list[tuple[int, int, str]] = []  # heap of (-priority, order, request_id)
        self._later: list[tuple[float, int, int, str]] = []  # heap of (monotonic due, -priority, order, request_id)
        self._dropped: set[str] = set()
        self._order = itertools.count()
        self._threads: list[threading.Thread] = []
        self._idle_threads = 0
        self._busy = 0
        self._stopped = False

    def submit(self, request_id: str, *, delay: float = 0.0, priority: int = 0, queue: str = "default") -> None:
        with self._lock:
            if self._stopped:
                raise ShuttingDown()
            self._dropped.discard(request_id)
            if delay > 0:
                due = time.monotonic() + delay
                heapq.heappush(self._later, (due, -priority, next(self._order), request_id))
            else:
                heapq.heappush(self._ready, (-priority, next(self._order), request_id))
            if self._idle_threads:
                self._work.notify()
            elif len(self._threads) < self._workers:
                self._start_one()

    def cancel(self, request_id: str) -> bool:
        with self._lock:
            waiting = any(request_id == entry[-1] for entry in itertools.chain(self._ready, self._later))
            if waiting:
                self._dropped.add(request_id)
            return waiting

    def start(self) -> None:
        with self._lock:
            self._stopped = False
            while len(self._threads) < self._workers:
                self._start_one()

    def stop(self, grace: float) -> bool:
        deadline = time.monotonic() + grace
        with self._lock:
            self._stopped = True
            self._work.notify_all()
            while self._busy:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._idle.wait(left)
            return True

    @property
    def draining(self) -> bool:
        return self._stopped

    @property
    def waiting(self) -> int:
        with self._lock:
            return len(self._ready) + len(self._later) - len(self._dropped)

    def _start_one(self) -> None:
        thread = threading.Thread(target=self._serve, name=f"bgtasks-worker-{len(self._threads) + 1}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        me = threading.current_thread()
        while (request_id := self._next()) is not None:
            try:
                # A fresh context each: what one task leaves in a context variable does not reach the next.
                contextvars.Context().run(self._run, request_id)
            except Exception:
                log.exception("the run of task %s broke", request_id)
            finally:
                with self._lock:
                    self._busy -= 1
                    if self._stopped:
                        self._idle.notify_all()
        with self._lock:
            if me in self._threads:
                self._threads.remove(me)

    def _next(self) -> str | None:
        """The next task to run, None when it is time to end. What still waits at a stop stays in the store."""
        with self._lock:
            while not self._stopped:
                request_id, wait = self._pop()
                if request_id is not None:
                    self._busy += 1
                    return request_id
                self._idle_threads += 1
                self._work.wait(wait)
                self._idle_threads -= 1
            return None

    def _pop(self) -> tuple[str | None, float | None]:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            _, priority, order, request_id = heapq.heappop(self._later)
            heapq.heappush(self._ready, (priority, order, request_id))
        while self._ready:
            request_id = heapq.heappop(self._ready)[-1]
            if request_id not in self._dropped:
                return request_id, None
            self._dropped.discard(request_id)
        return None, (self._later[0][0] - now if self._later else None)
