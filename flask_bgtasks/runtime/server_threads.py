"""Finds out how many threads the server has, so that streams never take all of them.

WSGI tells an app whether there are several threads (``wsgi.multithread``), not how many. Servers keep the number in the
objects whose methods call the app. So the stack of the first request is the one reliable source, whether the number
came from a command line, an environment variable or a Python file. Read once per process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

MIN_STREAMS = 2  # streams, where there are threads for them at all
UNBOUNDED = 128
"""What is reckoned with where a server makes a thread for each request (Werkzeug's), or runs in a test client."""


def streams(environ: Mapping[str, Any], frame: FrameType | None = None) -> int:
    """How many streams and long polls may be open in this process: half of its threads, never all.

    :param environ: the WSGI environment of any request.
    :param frame: where to begin looking; by default the caller's frame.
    """
    threads = _known_threads(environ, frame or sys._getframe(1))
    if threads <= 1:
        return 0  # a stream would be the only request that is served
    return min(max(MIN_STREAMS, threads // 2), threads - 1)


def _known_threads(environ: Mapping[str, Any], frame: FrameType | None) -> int:
    while frame is not None:
        look = _SERVERS.get((frame.f_globals.get("__name__", ""), frame.f_code.co_name))
        if look is not None:
            try:
                return int(look(frame.f_locals))
            except (KeyError, AttributeError, TypeError, ValueError):  # another version of that server
                pass
        frame = frame.f_back
    uwsgi = sys.modules.get("uwsgi")  # made by the server itself, in C: it has no frames
    if uwsgi is not None:
        return int(uwsgi.opt.get("threads", 1))
    # An unknown server: what it does say, and no more than the least.
    return 2 * MIN_STREAMS if environ.get("wsgi.multithread") else 1


_SERVERS: dict[tuple[str, str], Callable[[Mapping[str, Any]], int]] = {
    ("gunicorn.workers.gthread", "handle"): lambda local: local["self"].cfg.threads,
    ("gunicorn.workers.base_async", "handle"): lambda local: local["self"].cfg.worker_connections,  # greenlets
    ("gunicorn.workers.sync", "handle"): lambda local: 1,
    ("waitress.channel", "service"): lambda local: local["self"].adj.threads,
    ("cheroot.workers.threadpool", "run"): lambda local: local["self"].server.requests.min,
    ("werkzeug.serving", "run_wsgi"): lambda local: UNBOUNDED if local["self"].server.multithread else 1,
    ("werkzeug.test", "run_wsgi_app"): lambda local: UNBOUNDED,
    # a2wsgi, asgiref and whoever else calls apps in an executor's threads
    ("concurrent.futures.thread", "_worker"): lambda local: local["executor_reference"]()._max_workers,
}
"""Module and function that called the app, and where the number of threads is in its local variables.

Tried with gunicorn 20.1, 22, 23 and 27 (gevent under 27), waitress 3.0, cheroot 11.1 and Werkzeug 3. An entry that no
longer fits is passed over.
"""
