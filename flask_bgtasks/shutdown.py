"""Ends a process in good order: at ``SIGTERM``, where no server sees to it, and before the interpreter ends.

Handlers that are there are called, never replaced. A handler only leaves word: it may interrupt any line of code, one
that holds a lock too.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - it must register its own end before ours: see before_exit
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType


def before_exit(function: Callable[[], None]) -> None:
    """Have a function called when the main thread has ended, while threads can still do anything.

    :mod:`atexit` is too late: by then executors take no work, so that a pipeline with a thread pool could not finish.
    CPython calls what ``threading._register_atexit`` was given in reverse order, before it ends anything, and executors
    register themselves there when they are imported; hence the import above. It is private; without it, atexit.
    """
    register = getattr(threading, "_register_atexit", atexit.register)
    register(function)


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
