"""flask-bgtasks with a PostgreSQL store and one ``flask bgtasks worker``, which imports this module for its ``app``.

The environment says where the server is (``BENCH_POSTGRESQL``, as psycopg takes it without a database's name).
"""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask

from . import ours, ours_elsewhere

DATABASE = "ours"
THREADS = 4


def make(folder: Path) -> Flask:
    """The app: submits here, runs in a worker."""
    app = Flask("ours", instance_path=str(folder))
    store = os.environ["BENCH_POSTGRESQL"].replace("postgresql:", "postgresql+psycopg:") + f"/{DATABASE}"
    ours.bgtasks.init_app(app, store=store, runner="external", max_queued=10**6, max_queued_anonymous=10**6)
    return app


class Measured(ours_elsewhere.Measured):
    """One worker of four threads."""

    def _make(self) -> Flask:
        import psycopg

        with psycopg.connect(os.environ["BENCH_POSTGRESQL"] + "/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        app = make(self.folder)
        command = ["-m", "flask", "--app", f"{__name__}:app", "bgtasks", "worker", "--workers", str(THREADS)]
        self._work(*command, "--queue", "default", BENCH_SERVED="1")
        return app

    def versions(self) -> str:
        return "the same on PostgreSQL alone"


if os.environ.get("BENCH_SERVED"):  # in the worker
    app = make(Path(os.environ["BENCH_FOLDER"]))
