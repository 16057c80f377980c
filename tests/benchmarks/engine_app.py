"""flask-bgtasks on the workers of another queue over Redis; they import this module, and find ``workers`` in it.

The environment says which (``BENCH_ENGINE``), where the SQLite store lies (``BENCH_FOLDER``), and the Redis.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flask import Flask

from tests.support.processes import queues

from . import ours, ours_elsewhere

ENGINES = ("celery", "dramatiq", "huey", "rq")

COMMANDS = {
    "celery": ["celery", "--app", f"{__name__}:workers", "worker", "--concurrency", "4", "--loglevel", "WARNING"],
    "rq": ["rq.cli", "worker", "--config", __name__, "--url", "{redis}", "--quiet", "bench"],
    "dramatiq": ["dramatiq", __name__],
    "huey": ["huey.bin.huey_consumer", f"{__name__}.workers", "--workers", "4", "--quiet"],
}
"""As the peers' own rows have them."""


def make(engine: str, folder: Path, redis: str) -> tuple[Flask, Any]:
    """The app, and what its workers work for."""
    app = Flask("ours", instance_path=str(folder))
    workers = queues.make(engine, redis, "bench")
    app.config["BGTASKS_RUNNER"], app.config[f"BGTASKS_{engine.upper()}"] = engine, workers
    ours.bgtasks.init_app(app)
    return app, workers["default"] if isinstance(workers, dict) else workers


class Measured(ours_elsewhere.Measured):
    """:param engine: whose workers."""

    def _make(self) -> Flask:
        engine, redis = self.options["engine"], os.environ["BENCH_REDIS"] + "/2"
        app, _ = make(engine, self.folder, redis)
        command = [word.format(redis=redis) for word in COMMANDS[engine]]
        self._work("-m", *command, BENCH_ENGINE=engine, BENCH_REDIS=redis)
        return app

    def versions(self) -> str:
        return f"the same on {self.options['engine']}"


if os.environ.get("BENCH_ENGINE"):  # in a worker
    app, workers = make(os.environ["BENCH_ENGINE"], Path(os.environ["BENCH_FOLDER"]), os.environ["BENCH_REDIS"])
