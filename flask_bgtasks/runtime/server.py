"""Tells whether this process serves an app, when the app is complete, and when its server was told to stop.

Tasks have to resume when a server starts, not with its first request; but not in gunicorn's master, the reloader's
parent, or a shell command, which load the same app. WSGI does not tell them apart, so this looks at the stack: the
server's function that loads the app is there while the app is made. Under an unknown server, work starts with the first
request, or when ``bgtasks.start(app)`` is called.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class Server:
    """The server that this process is a part of.

    :param ready: whether the app is complete, and the server about to serve.
    :param stopping: whether it was told to stop.
    :param own_signals: whether it sees to ``SIGTERM`` itself; else that ends the process without a word.
    :param told_last: whether it ends the process as soon as its connections have ended, whatever else runs: it gets
        the signal only when the tasks have.
    """

    ready: Callable[[], bool]
    stopping: Callable[[], bool]
    own_signals: bool
    told_last: bool = False


def server(frame: FrameType | None = None) -> Server | None:
    """The server that is loading the app in this process, or that forked it; None if there is none to be seen.

    :param frame: where to begin looking; by default the caller's frame.
    """
    below: FrameType | None = None
    frame = frame or sys._getframe(1)
    while frame is not None:
        module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if (module, function) in _GUNICORN:
            worker = frame.f_locals.get(_GUNICORN[module, function])
            return None if worker is None or _is_green(worker) else _gunicorn(worker)
        if module == "gunicorn.arbiter":
            return None  # the master, which loads the app for its children (--preload)
        if (module, function) == ("flask.cli", "run_command"):
            if frame.f_locals.get("reload") is not False and _reloader_will_run(frame):
                return None
            return Server(_left(below), lambda: False, own_signals=False)
        if (module, function) == ("waitress.runner", "run"):
            return Server(_left(below), lambda: False, own_signals=False)
        if (module, function) in _UVICORN:
            return _uvicorn(frame, _UVICORN[module, function])
        below, frame = frame, frame.f_back
    return None


def server_of_fork() -> Server | None:
    """The server that has just forked this process, if it was one; for :func:`os.register_at_fork`."""
    frame = _forking()
    return None if frame is None else server(frame)


def patch_in_fork() -> None:
    """Patch this process ahead of the gevent worker that it is about to become; for :func:`os.register_at_fork`.

    With ``gunicorn --preload`` the app is loaded before the worker patches. What is made anew in the child would still
    have the system's locks and queues, and the first to wait for one would stop every greenlet.
    """
    frame = _forking()
    worker = None if frame is None else frame.f_locals.get("worker")
    if worker is None or not _is_gevents(worker):
        return
    import gevent
    import gevent.monkey

    gevent.monkey.patch_all()  # as the worker is about to; a second time it changes nothing
    gevent.reinit()  # the loop is the parent's, if that was patched already


def _forking() -> FrameType | None:
    """Gunicorn's function that has just forked this process; None if something else has.

    Only the fork itself is looked at: a view that forks stands on gunicorn's stack too.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(("flask_bgtasks.", "gevent.")):
        frame = frame.f_back  # gevent's: what it puts in the place of os.fork
    if frame is None or (frame.f_globals.get("__name__"), frame.f_code.co_name) != ("gunicorn.arbiter", "spawn_worker"):
        return None
    return frame


def in_command() -> bool:
    """Whether this code runs in a command of the shell that serves nothing (``flask shell``, an app's own command).

    A command stores tasks and leaves them to those that serve; it may be over in a moment.
    """
    context = click.get_current_context(silent=True)
    return context is not None and context.info_name not in ("run", "worker") and "flask.cli" in sys.modules


_GUNICORN = {
    ("gunicorn.workers.base", "load_wsgi"): "self",
    ("gunicorn.arbiter", "spawn_worker"): "worker",
}
"""Gunicorn's functions below which an app is loaded, or a worker begins its life, and the variable with the worker.

Tried with gunicorn 22, 23 and 27.
"""


def _gunicorn(worker: Any) -> Server:
    """``booted`` is set when the app is loaded, the user is changed and the signals are set; ``alive`` is cleared by
    the signals that stop a worker.
    """
    return Server(
        ready=lambda: bool(getattr(worker, "booted", True)),
        stopping=lambda: not getattr(worker, "alive", True),
        own_signals=True,
    )


_UVICORN = {
    ("uvicorn.main", "run"): "server",
    ("uvicorn.server", "_serve"): "self",
}
"""Uvicorn's functions below which an app is loaded, and the variable with the server: with one process before there is
a server, with several in each of them, when that has taken the signals.

Tried with uvicorn 0.54.
"""


def _uvicorn(frame: FrameType, variable: str) -> Server:
    """It ends by the signal that stopped it, which it sends again to whoever had it before, when its connections have
    ended. Streams end when it is seen to stop.

    :param frame: of the function, which goes on as long as the server does.
    """

    def tells(attribute: str) -> Callable[[], bool]:
        return lambda: bool(getattr(frame.f_locals.get(variable), attribute, False))

    return Server(tells("started"), tells("should_exit"), own_signals=False, told_last=variable == "self")


def _is_green(worker: Any) -> bool:
    """Whether the worker will replace the threading module under us, after a fork: it begins with its first request."""
    return _is_gevents(worker) and not _patched()


def _is_gevents(worker: Any) -> bool:
    return any("gevent" in kind.__module__ for kind in type(worker).__mro__)  # an app's own worker class too


def _patched() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def _reloader_will_run(frame: FrameType) -> bool:
    """Whether ``flask run`` is about to start the reloader here: then another process serves."""
    if os.environ.get("WERKZEUG_RUN_MAIN") == "true":  # this is the one that the reloader started
        return False
    reload = frame.f_locals.get("reload")
    if reload is not None:
        return bool(reload)
    from flask.helpers import get_debug_flag

    return get_debug_flag()


def _left(loading: FrameType | None) -> Callable[[], bool]:
    """Whether the thread that loads the app has left that function: then the app is complete."""
    thread = threading.get_ident()

    def left() -> bool:
        frame = sys._current_frames().get(thread)
        while frame is not None:
            if frame is loading:
                return False
            frame = frame.f_back
        return True

    return left
