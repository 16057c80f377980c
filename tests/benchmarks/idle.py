"""What a server process costs that has nothing to do: with the library, after a first task, and without it."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path

from flask import Flask

from . import servers
from .harness import RowFailed, Series

SETTLED_SECONDS = 5.0
SECONDS = 30.0  # the processor's time is told in hundredths of a second

ROWS = {"ours": ("wrapped:create_app()", "/named"), "plain Flask": ("idle:create_app()", "/")}
NOTES = {
    "ours": "gunicorn, 1 × 8 threads, SQLite; it looks for lost work twice a second",
    "plain Flask": "the same gunicorn without us",
}


def create_app() -> Flask:
    """An app without the library."""
    app = Flask("idle")
    app.add_url_rule("/", "nothing", lambda: "nothing", methods=["POST"])
    return app


def measure(folder: Path) -> tuple[dict[str, Series], dict[str, Series]]:
    """By row the share of a core, in percent, and the calls that write, per second."""
    shares, writes = {name: Series() for name in ROWS}, {name: Series() for name in ROWS}
    for name, (app, path) in ROWS.items():
        try:
            shares[name].values[0], writes[name].values[0] = _watch(app, path, folder / name.partition(" ")[0])
        except (servers.ServerFailed, OSError, RowFailed) as failure:
            shares[name].failed = str(failure)
            del writes[name]
    return shares, writes


def _watch(app: str, path: str, folder: Path) -> tuple[float, float]:
    with servers.gunicorn(f"{__package__}.{app}", folder, environ={}) as server:
        with urllib.request.urlopen(server.url + path, data=b"", timeout=10) as answer:  # a POST: it makes a task
            answer.read()
        time.sleep(SETTLED_SECONDS)
        before, written, begun = server.cpu_seconds(), server.writes(), time.monotonic()
        time.sleep(SECONDS)
        after, passed = server.cpu_seconds(), time.monotonic() - begun
        if before is None or after is None:
            raise RowFailed("this system does not tell what a process uses")
        return 100 * (after - before) / passed, (server.writes() - written) / passed
