"""The worker process, ``flask bgtasks worker``: runs the tasks that web processes on the same store accept.

The same parts as in a web process, with threads for a runner whatever the app's setting says, and nothing before them.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any

from flask import Flask

from ..app.factory import rebuild
from ..app.state import KEY, AppState, state_of
from ..runtime import processes
from ..wording import counted

LOOK_SECONDS = 0.2
"""A worker is told of nothing: it looks for work this often, which costs two reads of small indexes."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)

AWAKE_SECONDS = 1.0
"""How often the main thread runs a line of Python while it waits for a signal. The kernel may hand one to any thread,
as it does while the main one still wakes from a SIGSTOP, and Python calls handlers in the main thread only."""


def serve(
    app: Flask, *, workers: int | None = None, queues: Collection[str] | None = None, say: Callable[[str], Any]
) -> None:
    """Run tasks until a signal says to stop. Called in the main thread.

    :param workers: threads; None for the setting.
    :param queues: only tasks of these; None for all.
    :param say: prints a line.
    :raises ConfigurationError: the store cannot be opened, or the app's set-up is wrong.
    """
    state = _own_state(app, workers, queues)
    state.store.check()
    stop = _Stop()
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        state.lifecycle.start()
        where = f"queues {', '.join(sorted(queues))}" if queues else "all queues"
        app_id, threads = state.settings.app_id, state.settings.workers
        say(f"{processes.me()}: app {app_id!r}, {counted(threads, 'thread')}, {where}. Stop with SIGTERM or Ctrl-C")
        stop.wait()
        say("stopping: running tasks get time to finish; signal again to leave at once")
        state.close()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _own_state(app: Flask, workers: int | None, queues: Collection[str] | None) -> AppState:
    """The app's parts once more, with a runner of their own, in the place of those that were built for the web."""
    web = state_of(app)
    overrides: dict[str, Any] = {"runner": "threads"}
    if workers is not None:
        overrides["workers"] = workers
    state = rebuild(web, overrides, queues=queues, look_seconds=LOOK_SECONDS)
    state.completion.check()
    app.extensions[KEY] = state
    return state


class _Stop:
    """The signals' handler: the first asks, the second does not."""

    def __init__(self) -> None:
        self._asked = False
        # Not an Event: its lock may be held by the very line that the signal interrupts. A SimpleQueue's put() is safe
        # there (docs.python.org, "queue": reentrant).
        self._word: queue.SimpleQueue[int] = queue.SimpleQueue()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            os._exit(128 + number)  # leases that are not given back are found at once by who looks on this host
        self._asked = True
        self._word.put(number)

    def wait(self) -> int:
        """Wait for the first signal; its number."""
        while True:
            with contextlib.suppress(queue.Empty):
                return self._word.get(timeout=AWAKE_SECONDS)
