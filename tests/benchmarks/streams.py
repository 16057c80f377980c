"""A thousand event streams of one server process: what each costs in memory, and how late what is told arrives.

The app is served by gunicorn with a thread, or a greenlet, for each stream. :func:`measure` opens the streams, all of
one task that begins and ends a step every quarter of a second, and reads them in one thread of its own, which asks for
the task's state now and then, as other clients do. The server notes when each event was committed.
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
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask

from flask_bgtasks import BackgroundTasks, step
from flask_bgtasks.app.state import state_of
from flask_bgtasks.core.model import Event, Task

from . import servers
from .harness import RowFailed

STREAMS = 1_000
SPARE_THREADS = 8  # of the server, for whatever else is asked of it
SETTLE_SECONDS = 3.0
SECONDS = 10.0  # that the streams are read
PATIENCE_SECONDS = 60.0
STEP_SECONDS = 0.25
ASK_SECONDS = 0.05  # between two ordinary requests

bgtasks = BackgroundTasks()
_NUMBER = re.compile(rb"\nid: ?([0-9]+)")


@bgtasks.task
def steps() -> None:
    """A step after the other, until the process ends."""
    for number in range(100_000):
        with step(f"Step {number}"):
            time.sleep(STEP_SECONDS)


def create_app() -> Flask:
    """The app that is served, with its files in ``BENCH_FOLDER``."""
    app = Flask("streams", instance_path=os.environ["BENCH_FOLDER"])
    streams = int(os.environ["BENCH_STREAMS"]) + SPARE_THREADS
    store = {"store": os.environ["BENCH_STORE"]} if os.environ.get("BENCH_STORE") else {}
    bgtasks.init_app(app, shutdown_grace=0, max_streams=streams, max_streams_per_owner=streams, **store)
    app.add_url_rule("/", "start", lambda: {"request_id": steps.submit().request_id}, methods=["POST"])
    committed: dict[int, float] = {}

    def note(task: Task, events: tuple[Event, ...]) -> None:
        now = time.time()
        committed.update((event.seq, now) for event in events)

    state_of(app).store.on_commit(note, first=True)  # before the streams are woken
    app.add_url_rule("/committed", "committed", lambda: {str(seq): at for seq, at in committed.items()})
    return app


@dataclass
class Figures:
    """What the streams cost."""

    kib: float
    """Resident memory of the server for each stream."""

    cpu: float
    """Percent of a core that the server used while they were read."""

    late: list[float]
    """Milliseconds from an event's commit to its arrival, of each."""

    answers: list[float]
    """Milliseconds until an ordinary request was answered meanwhile."""


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which so much of them is."""
    return statistics.quantiles(values, n=1000)[round(share * 1000) - 1]


def measure(
    folder: Path,
    worker: str,
    *,
    streams: int = STREAMS,
    seconds: float = SECONDS,
    store: str = "",
    app: str = "streams",
    meanwhile: Callable[[], None] = lambda: None,
) -> Figures:
    """Open the streams, and read them for a while.

    :param worker: gunicorn's worker class. :param seconds: that they are read.
    :param store: what ``BGTASKS_STORE`` takes, the default store without it.
    :param app: the module of this package whose ``create_app`` makes what is served.
    :param meanwhile: called when all have been read, and are open still.
    :raises RowFailed: not all of them are open.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * streams)), hard))  # the server's too
    options = ("--threads", str(streams + SPARE_THREADS), "--worker-connections", str(2 * streams))
    with (
        servers.gunicorn(
            f"{__package__}.{app}:create_app()",
            folder,
            environ={"BENCH_STREAMS": str(streams), "BENCH_STORE": store},
            options=(*options, "--worker-class", worker),
        ) as server,
        ExitStack() as stack,
    ):
        with urllib.request.urlopen(server.url + "/", data=b"", timeout=PATIENCE_SECONDS) as answer:
            request_id = json.load(answer)["request_id"]
        before = server.resident_bytes()
        readers = _Readers(stack, server.url, f"/tasks/{request_id}")
        for _ in range(streams):
            readers.open()
        readers.read(PATIENCE_SECONDS, until_all_told=True)
        readers.read(SETTLE_SECONDS)  # what was told to the first while the last were being opened
        readers.arrived.clear()
        readers.answers.clear()
        used, begun = server.cpu_seconds(), time.monotonic()
        begun_at = time.time()
        readers.read(seconds)
        passed = time.monotonic() - begun
        spent = (server.cpu_seconds() or 0.0) - (used or 0.0)
        memory = server.resident_bytes() - before
        meanwhile()
        with urllib.request.urlopen(server.url + "/committed", timeout=PATIENCE_SECONDS) as answer:
            committed = {int(seq): at for seq, at in json.load(answer).items()}
    told = [(at, committed[int(number)]) for at, data in readers.arrived for number in _NUMBER.findall(b"\n" + data)]
    late = [1000 * (at - since) for at, since in told if since >= begun_at]
    if not late:
        raise RowFailed("nothing was told")
    return Figures(memory / streams / 1024, 100 * spent / passed, late, readers.answers)


class _Readers:
    """Clients of one task: those that follow it, and one that asks for its state now and then."""

    def __init__(self, stack: ExitStack, url: str, path: str) -> None:
        self.arrived: list[tuple[float, bytes]] = []
        """When something came, and what: only noted, since the next stream is read after it."""

        self.answers: list[float] = []
        """Milliseconds until the client that asks had its answer."""

        self._stack = stack
        self._address = urlsplit(url)
        self._path = path
        self._selector = stack.enter_context(selectors.DefaultSelector())
        self._streams = 0
        self._asking = self._connected()
        self._selector.register(self._asking, selectors.EVENT_READ)
        self._asked_at: float | None = None

    def open(self) -> None:
        """Follow the task by one more stream."""
        connection = self._connected()
        self._send(connection, "/events", accept="text/event-stream")
        self._selector.register(connection, selectors.EVENT_READ)
        self._streams += 1

    def read(self, seconds: float, *, until_all_told: bool = False) -> None:
        """Read for so long, or until every stream has told something. :raises RowFailed: a stream ended."""
        heard: set[int] = set()
        now = time.time()
        stop, ask_at = now + seconds, now
        while now < stop:
            if now >= ask_at and self._asked_at is None:
                self._asked_at, ask_at = now, now + ASK_SECONDS
                self._send(self._asking, "")
            for key, _ in self._selector.select(timeout=ASK_SECONDS / 10):
                connection: socket.socket = key.fileobj  # type: ignore[assignment]
                data = connection.recv(65536)
                now = time.time()
                if not data or data.startswith((b"HTTP/1.1 5", b"HTTP/1.1 4")):
                    raise RowFailed(f"a connection ended: {data[:60]!r}")
                if connection is self._asking:
                    if self._asked_at is not None:
                        self.answers.append(1000 * (now - self._asked_at))
                    self._asked_at = None
                else:
                    heard.add(key.fd)
                    self.arrived.append((now, data))
            now = time.time()
            if until_all_told and len(heard) == self._streams:
                return
        if until_all_told:
            raise RowFailed(f"{len(heard)} of {self._streams} streams are open after {seconds:g} s")

    def _connected(self) -> socket.socket:
        address = (str(self._address.hostname), int(self._address.port or 80))
        return self._stack.enter_context(socket.create_connection(address, timeout=PATIENCE_SECONDS))

    def _send(self, connection: socket.socket, path: str, accept: str = "application/json") -> None:
        lines = (f"GET {self._path}{path} HTTP/1.1", f"Host: {self._address.netloc}", f"Accept: {accept}", "", "")
        connection.sendall("\r\n".join(lines).encode())
