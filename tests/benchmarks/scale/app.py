"""The app that is measured. gunicorn serves it, and workers of every kind import it: they find ``app`` and ``workers``.

The environment says where its files and its store are (``BENCH_FOLDER``, ``BENCH_STORE``), whose workers run its tasks
(``BENCH_ENGINE``; "external" for ``flask bgtasks worker``), and which Redis those have (``BENCH_REDIS``).
"""

from __future__ import annotations

import os

from flask import Flask

from flask_bgtasks import BackgroundTasks
from tests.support.processes import queues

from .setups import APP_ID

NO_LIMIT = 10**7

engine = os.environ["BENCH_ENGINE"]
app = Flask(APP_ID, instance_path=os.environ["BENCH_FOLDER"])
app.config.from_mapping(
    BGTASKS_STORE=os.environ["BENCH_STORE"],
    BGTASKS_RUNNER=engine,
    BGTASKS_APP_ID=APP_ID,
    BGTASKS_MAX_QUEUED=NO_LIMIT,
    BGTASKS_MAX_QUEUED_ANONYMOUS=NO_LIMIT,
    BGTASKS_SHUTDOWN_GRACE=2,
)
if engine != "external":
    # Of a name of its own, so that what one measurement leaves in Redis is not found by the next.
    made = queues.make(engine, os.environ["BENCH_REDIS"], os.environ["BENCH_NAME"])
    app.config[f"BGTASKS_{engine.upper()}"] = made
    workers = made
bgtasks = BackgroundTasks(app)


@app.post("/noop")
@bgtasks.background(name="noop")
def noop() -> dict[str, int]:
    """A view whose task does nothing."""
    return {"answer": 1}
