"""A thousand event streams of one server process: what each costs in memory, and how late what is told arrives.

The app is served by gunicorn with a thread for each stream; :func:`measure` opens the streams, all of one task that
begins and ends a step every quarter of a second, and reads them in one thread of its own.
"""

from __future__ import annotations

import json
import os
import re
import resource
import selectors
import socket
import statistics
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask

from flask_bgtasks import BackgroundTasks, step

from . import servers
from .harness import RowFailed

STREAMS = 1_000
SPARE_THREADS = 8  # of the server, for whatever else is asked of it
SECONDS = 10.0  # that the streams are read
PATIENCE_SECONDS = 60.0
STEP_SECONDS = 0.25

bgtasks = BackgroundTasks()
_AT = re.compile(rb'"at": ?"([^"]+)"')


@bgtasks.task
def steps() -> None:
    """A step after the other, until the process ends."""
    for number in range(100_000):
        with step(f"Step {number}"):
            time.sleep(STEP_SECONDS)


def create_app() -> Flask:
    """The app that is served, with its files in ``BENCH_FOLDER``."""
    app = Flask("streams", instance_path=os.environ["BENCH_FOLDER"])
    most = {"max_streams": STREAMS + SPARE_THREADS, "max_streams_per_owner": STREAMS + SPARE_THREADS}
    bgtasks.init_app(app, shutdown_grace=0, **most)
    app.add_url_rule("/", "start", lambda: {"request_id": steps.submit().request_id}, methods=["POST"])
    return app


@dataclass
class Figures:
    """What the streams cost."""

    kib: float
    """Resident memory of the server for each stream."""

    cpu: float
    """Percent of a core that the server used while they were read."""

    late: list[float]
    """Milliseconds from an event's time to its arrival, of each."""

    def quantile(self, share: float) -> float:
        """Of the lateness."""
        return statistics.quantiles(self.late, n=1000)[round(share * 1000) - 1]


def measure(folder: Path, *, streams: int = STREAMS) -> Figures:
    """Open the streams, and read them for a while. :raises RowFailed: not all of them are open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * streams)), hard))  # the server's too
    options = ("--threads", str(streams + SPARE_THREADS), "--worker-connections", str(2 * streams))
    with (
        servers.gunicorn(f"{__package__}.streams:create_app()", folder, environ={}, options=options) as server,
        ExitStack() as stack,
    ):
        with urllib.request.urlopen(server.url + "/", data=b"", timeout=10) as answer:
            request_id = json.load(answer)["request_id"]
        before = server.resident_bytes()
        readers = selectors.DefaultSelector()
        stack.callback(readers.close)
        path = f"/tasks/{request_id}/events"
        for _ in range(streams):
            readers.register(stack.enter_context(_opened(server.url, path)), selectors.EVENT_READ)
        _read(readers, streams, seconds=PATIENCE_SECONDS, told_all=True)
        used, begun = server.cpu_seconds(), time.monotonic()
        late = _read(readers, streams, seconds=SECONDS)
        passed = time.monotonic() - begun
        spent = (server.cpu_seconds() or 0.0) - (used or 0.0)
        memory = server.resident_bytes() - before
    if not late:
        raise RowFailed("nothing was told")
    return Figures(memory / streams / 1024, 100 * spent / passed, late)


@contextmanager
def _opened(url: str, path: str) -> Iterator[socket.socket]:
    parts = urlsplit(url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 80)), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream\r\n\r\n".encode())
        yield connection


def _read(readers: selectors.BaseSelector, streams: int, *, seconds: float, told_all: bool = False) -> list[float]:
    """Read for so long, or until every stream has told something; how late each event was."""
    late: list[float] = []
    heard: set[int] = set()
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        for key, _ in readers.select(timeout=0.1):
            connection: socket.socket = key.fileobj  # type: ignore[assignment]
            data = connection.recv(65536)
            now = time.time()
            if not data or data.startswith((b"HTTP/1.1 5", b"HTTP/1.1 4")):
                raise RowFailed(f"a stream ended: {data[:60]!r}")
            heard.add(connection.fileno())
            late += [1000 * (now - _seconds(found.decode())) for found in _AT.findall(data)]
        if told_all and len(heard) == streams:
            return late
    if told_all:
        raise RowFailed(f"{len(heard)} of {streams} streams are open after {seconds:g} s")
    return late


def _seconds(rfc3339: str) -> float:
    return datetime.fromisoformat(rfc3339.replace("Z", "+00:00")).astimezone(timezone.utc).timestamp()
