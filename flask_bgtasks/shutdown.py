"""Ends a process in good order: at ``SIGTERM``, where no server sees to it, and before the interpreter ends.

Handlers that are there are called, never replaced. A handler only leaves word: it may interrupt any line of code, one
that holds a lock too.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - it must register its own end before ours: see before_exit
import logging
import os
import queue
import signal
import threading
from collections.abc import Callable
from types import FrameType

log = logging.getLogger("flask_bgtasks")

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

    :param stop: called in it, once.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self.reset()

    def reset(self) -> None:
        """Begin anew, in a child of fork: the thread is the parent's."""
        self._lock = threading.Lock()  # protects _thread's creation
        self._thread: threading.Thread | None = None
        # put() may be called in a signal handler, whatever the main thread was at (docs.python.org, SimpleQueue.put).
        self._word: queue.SimpleQueue[str] = queue.SimpleQueue()

    def start(self, stopping: Callable[[], bool] | None) -> None:
        """Begin to watch, if that has not begun. :param stopping: asked again and again whether the server stops."""
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(
                    target=self._serve, args=(self._word, stopping), name="bgtasks-stop", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as error:  # as many threads as the system allows: the next start tries again
                    log.warning("thread %s cannot be started: %s", thread.name, error)
                else:
                    self._thread = thread

    def tell(self) -> None:
        """Have the process stopped. Safe in a signal handler."""
        self._word.put("stop")

    def close(self) -> None:
        """Have the thread end."""
        with self._lock:
            self._thread = None
        self._word.put("end")

    def _serve(self, word: queue.SimpleQueue[str], stopping: Callable[[], bool] | None) -> None:
        heard = ""
        while not heard:
            try:
                heard = word.get(timeout=None if stopping is None else TICK_SECONDS)
            except queue.Empty:
                heard = "stop" if stopping is not None and stopping() else ""
        if heard == "stop":
            self._stop()


class Sigterm:
    """Chains ``SIGTERM``: the first has the process drained, a second one ends it at once.

    :param begin: called in the handler, at the first signal; may only leave word.
    """

    def __init__(self, begin: Callable[[], None]) -> None:
        self._begin = begin
        self._before: Callable[[int, FrameType | None], object] | int | None = None
        self._told = False

    def install(self) -> bool:
        """Take the signal; whether it could be taken: only in the main thread, and not where it is ignored."""
        if threading.current_thread() is not threading.main_thread():
            return False
        self._before = signal.getsignal(signal.SIGTERM)
        if self._before is signal.SIG_IGN or self._before is None:  # None: a handler that Python did not set
            return False
        signal.signal(signal.SIGTERM, self._handle)
        return True

    def go(self) -> None:
        """What was begun is done: let the process end by the signal, where nobody else sees to that."""
        if self._told and self._before is signal.SIG_DFL:
            os.kill(os.getpid(), signal.SIGTERM)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first, self._told = not self._told, True
        if first:
            self._begin()
        if callable(self._before):
            self._before(number, frame)
        elif not first:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
