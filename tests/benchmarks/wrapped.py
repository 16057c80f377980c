"""What a request costs that a view answers: plain, wrapped by name, and with ``@background``, in one app.

Measured in process, by the processor time of all threads, so that what is done for a request after its answer counts
too; and under gunicorn, as :mod:`.polls` measures polls.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask, request
from werkzeug.test import EnvironBuilder, run_wsgi_app

from flask_bgtasks import BackgroundTasks

from . import servers
from .polls import Polls
from .subject import Subject

CONNECTIONS = 4
AT_ONCE = 50  # requests to one view, before it is the other's turn

VIEWS = {"wrapped by name": "/named", "@background": "/decorated"}
NOTES = {
    "wrapped by name": "init_app(app, endpoints=[…]), a client of today",
    "@background": "@bgtasks.background(respond='prefer'), the same client",
}

bgtasks = BackgroundTasks()


def create_app(folder: Path | None = None) -> Flask:
    """The app, with its files in ``BENCH_FOLDER`` by default."""
    folder = Path(os.environ["BENCH_FOLDER"]) if folder is None else folder
    app = Flask("wrapped", instance_path=str(folder))

    def answer() -> dict[str, Any]:
        return {"text": "a lesson", "fields": sorted(request.get_json(silent=True) or {})}

    app.add_url_rule("/plain", "plain", answer, methods=["GET", "POST"])
    app.add_url_rule("/named", "named", answer, methods=["GET", "POST"])
    decorated = bgtasks.background(respond="prefer", name="decorated")(lambda: answer())
    app.add_url_rule("/decorated", "decorated", decorated, methods=["GET", "POST"])
    bgtasks.init_app(app, endpoints=["named"])
    return app


class Measured(Subject):
    """The app in this process."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.app = create_app(folder)

    def versions(self) -> str:
        return "a view, plain and wrapped"

    def submit_one(self) -> Any:
        self._ask("/named", 1)
        self._ask("/decorated", 1)

    def wait_for(self, handle: Any) -> None:
        """It was answered."""

    def _ask(self, path: str, count: int) -> float:
        """Seconds of processor time for so many requests."""
        body = {"input_text": "Whales", "user_token": None}
        environs = [EnvironBuilder(path=path, method="POST", json=body).get_environ() for _ in range(count)]
        begun = time.process_time()
        for environ in environs:
            _, status, _ = run_wsgi_app(self.app, environ, buffered=True)
            assert status == "200 OK", status
        return time.process_time() - begun

    def added(self, *, path: str, seconds: float) -> float:
        """Microseconds that a request to this view costs more than one to the plain view."""
        plain = wrapped = 0.0
        rounds, stop = 0, time.perf_counter() + seconds
        while rounds < 3 or time.perf_counter() < stop:
            plain += self._ask("/plain", AT_ONCE)
            wrapped += self._ask(path, AT_ONCE)
            rounds += 1
        return (wrapped - plain) / (rounds * AT_ONCE) * 1e6


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Polls]:
    """The app under gunicorn, its wrapped views asked in bursts as polls are, beside the plain view."""
    with servers.gunicorn(f"{__package__}.wrapped:create_app()", folder, environ={}) as server:
        asked = {name: (server.url + path, None) for name, path in VIEWS.items()}
        yield Polls(server, asked, constant="/plain", connections=CONNECTIONS, method="POST")
