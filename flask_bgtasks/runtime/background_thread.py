"""A background thread of the library: it survives all exceptions, and is restarted if it dies nevertheless.

Code of the app and of its plugins runs in these threads, and may raise anything; ``SystemExit`` would end a thread
silently. The module that owns a thread defines what it does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")

log = logging.getLogger("flask_bgtasks")

FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.1, 5.0
"""Before a thread that broke goes on, doubled each time: what breaks at once must not take a whole core."""

STEADY_SECONDS = 60.0
"""After which a thread that breaks again has gone on well in between: it is said again, and the pause is short."""


def may_end_process(error: BaseException) -> bool:
    """Whether an exception may be the end of the process, and not only the doing of the code that was called.

    Python and servers end a process by an exception in the main thread: Ctrl-C, gunicorn's timeout. In other threads
    nobody has a reason to; what is raised there is contained, whatever it is.
    """
    ends = isinstance(error, (SystemExit, KeyboardInterrupt))
    return ends and threading.current_thread() is threading.main_thread()


class Contained:
    """Around a call of the app's or a plugin's code: what it raises is logged, unless it may end the process.

    :param message: what failed, for the log; formatted with ``args``.
    """

    def __init__(self, message: str, *args: object) -> None:
        self._message = message
        self._args = args

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if error is None or may_end_process(error):
            return False
        log.error(self._message, *self._args, exc_info=error)
        return True


def ticks(
    closed: threading.Event, awake: threading.Event, seconds: float, work: Callable[[], Collection[T]]
) -> Iterator[Collection[T]]:
    """What there is to do, every so many seconds until it is closed; asleep while there is nothing.

    :param awake: set by who adds work.
    """
    while not closed.is_set():
        awake.wait()
        if closed.wait(seconds):
            return
        found = work()
        if found:
            yield found
            continue
        awake.clear()
        if work():  # some came between the look and the clearing
            awake.set()


def ended_within(seconds: float, function: Callable[[], object], *, name: str) -> bool:
    """Run what may hang in a thread of its own, as :func:`late_after` does; whether it has ended in that time."""
    return not late_after(seconds, {name: function})


def late_after(seconds: float, functions: Mapping[str, Callable[[], object]]) -> list[str]:
    """Run several functions that may hang, each in a thread of its own; those that have not ended in that time.

    In this thread, without a limit, where none can be begun: at the end of an interpreter (from Python 3.12 on), or
    where there are as many as the system allows.

    :param functions: by the names of their threads.
    """
    deadline = time.monotonic() + seconds
    threads, refused = [], []
    for name, function in functions.items():
        thread = threading.Thread(target=function, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            refused.append(function)
        else:
            threads.append(thread)
    for function in refused:
        function()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [thread.name for thread in threads if thread.is_alive()]


class BackgroundThread:
    """One daemon thread, begun on first need, and again whenever it is found dead.

    :param serve: what it does until it returns; it is given the event that says that it has to.
    """

    def __init__(self, name: str, serve: Callable[[threading.Event], object]) -> None:
        self.name = name
        self._serve = serve
        # _lock protects the three below, and keeps two threads that find this one missing from both beginning it.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()  # of the thread that runs; set when it has to end
        self._wanted = False
        self._told_at: float | None = None  # when it was said last that it broke, by time.monotonic

    @property
    def missing(self) -> bool:
        """Whether it should be there, and is not. One that is being begun, or ended, at this moment is not missing."""
        if self.is_alive():  # asked at each request
            return False
        with self._lock:
            return self._wanted and not self.is_alive()

    def is_alive(self) -> bool:
        """Whether it is there."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def start(self) -> None:
        """Begin the thread, unless it is there. Cheap where it is; where none can be begun, that is in the log."""
        if self.is_alive():
            return
        with self._lock:
            if self.is_alive():
                return
            thread = threading.Thread(target=self._run, args=(self._closed,), name=self.name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # as many threads as the system allows, or the interpreter is ending
                if self._is_news():
                    log.error("thread %s cannot be started: %s. Trying again", self.name, error)
            else:
                self._thread = thread
            self._wanted = True

    def close(self, *, wake: Callable[[], object] = lambda: None, timeout: float = 0.0) -> None:
        """Have the thread end; the next :meth:`start` begins another.

        :param wake: called when the thread has been told: wakes it where it waits for something else.
        :param timeout: seconds to wait for it; not where it calls this itself.
        """
        with self._lock:
            thread, self._thread = self._thread, None
            self._closed.set()
            self._closed = threading.Event()
            self._wanted = False
        wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def retire(self) -> None:
        """Called by the thread itself, under a lock of its own, before it returns: from now on another is begun."""
        with self._lock:
            self._thread = None
            self._wanted = False

    def join(self, timeout: float) -> None:
        """Wait for its end; not where it calls this itself."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _run(self, closed: threading.Event) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not closed.is_set():
            begun = time.monotonic()
            try:
                self._serve(closed)
            except BaseException:
                if self._is_news():
                    log.exception("thread %s failed; it goes on", self.name)
            else:
                break
            if time.monotonic() - begun > STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            closed.wait(pause)
            pause = min(MAX_PAUSE_SECONDS, pause * 2)
        with self._lock:
            if self._thread is threading.current_thread():
                self._wanted = False

    def _is_news(self) -> bool:
        now = time.monotonic()
        if self._told_at is not None and now - self._told_at < STEADY_SECONDS:
            return False
        self._told_at = now
        return True
