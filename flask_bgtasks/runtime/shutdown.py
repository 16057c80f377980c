"""Shuts a process down cleanly: at ``SIGTERM``, if no server handles it, and before the interpreter exits.

Existing handlers are still called. A handler only sets a flag: it may interrupt any line of code, even one that holds a
lock.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - it must register its own end before ours: see before_exit
import os
import queue
import signal
import threading
from collections.abc import Callable
from types import FrameType

from .background_thread import BackgroundThread

TICK_SECONDS = 0.2
"""How often the server is asked whether it stops."""


def before_exit(function: Callable[[], None]) -> None:
    """Have a function called when the main thread has ended, while threads can still do anything.

    :mod:`atexit` is too late: by then executors take no work, so that a pipeline with a thread pool could not finish.
    CPython calls what ``threading._register_atexit`` was given in reverse order, before it ends anything, and executors
    register themselves there when they are imported; hence the import above. It is private; without it, atexit.
    """
    register = getattr(threading, "_register_atexit", atexit.register)
    register(function)


class StopWatch:
    """A thread that only waits for the word to stop, and so heeds it whatever other threads hang in.

    :param stop: called in it; again, if it breaks.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self.reset()

    def reset(self) -> None:
        """Begin anew, in a child of fork: the thread is the parent's."""
        self.thread = BackgroundThread("bgtasks-stop", self._serve)
        self._stopping: Callable[[], bool] | None = None
        self._told = False
        # put() may be called in a signal handler, whatever the main thread was at (docs.python.org, SimpleQueue.put).
        self._word: queue.SimpleQueue[None] = queue.SimpleQueue()

    def start(self, stopping: Callable[[], bool] | None) -> None:
        """Begin to watch. :param stopping: asked again and again whether the server stops."""
        self._stopping = self._stopping or stopping
        self.thread.start()

    def tell(self) -> None:
        """Have the process stopped. Safe in a signal handler."""
        self._told = True
        self._word.put(None)

    def close(self) -> None:
        """Have the thread end."""
        self.thread.close(wake=lambda: self._word.put(None))

    def _serve(self, closed: threading.Event) -> None:
        while not self._told and not closed.is_set():
            try:
                self._word.get(timeout=None if self._stopping is None else TICK_SECONDS)
            except queue.Empty:
                self._told = self._stopping is not None and self._stopping()
        if self._told:
            self._stop()


class Sigterm:
    """Chains ``SIGTERM``: the first has the process drained, a second one ends it at once.

    :param begin: called in the handler, at the first signal; may only leave word.
    """

    def __init__(self, begin: Callable[[], None]) -> None:
        self._begin = begin
        self._before: Callable[[int, FrameType | None], object] | int | None = None
        self._told = False
        self._told_last = False

    def install(self, *, told_last: bool = False) -> bool:
        """Take the signal; whether it could be taken: only in the main thread, and not where it is ignored.

        :param told_last: whoever has it now is told when the process is drained, or at a second signal; else at once.
        """
        if threading.current_thread() is not threading.main_thread():
            return False
        self._before = signal.getsignal(signal.SIGTERM)
        if self._before is signal.SIG_IGN or self._before is None:  # None: a handler that Python did not set
            return False
        self._told_last = told_last and callable(self._before)
        signal.signal(signal.SIGTERM, self._handle)
        return True

    def go(self) -> None:
        """What was begun is done: let the process end by the signal, where nobody else sees to that yet."""
        if self._told and (self._told_last or self._before is signal.SIG_DFL):
            os.kill(os.getpid(), signal.SIGTERM)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first, self._told = not self._told, True
        if first:
            self._begin()
        if callable(self._before):
            if not (first and self._told_last):
                self._before(number, frame)
        elif not first:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
