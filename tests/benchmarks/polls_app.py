"""The app whose status polls are measured: gunicorn serves it, :mod:`.load` asks it.

Beside the library's own address it answers a constant, one plain SQLite read as a developer would write it by hand, and
what each peer that is there offers for the state of one task.
"""

from __future__ import annotations

import importlib
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, Response, jsonify

from flask_bgtasks import BackgroundTasks, current_task, step

SCHEMA = "CREATE TABLE tasks (request_id TEXT PRIMARY KEY, status TEXT, step TEXT, fraction REAL, updated_at TEXT)"
HELD_SECONDS = 600.0

bgtasks = BackgroundTasks()


@bgtasks.task
def generate() -> None:
    """A task that has reported, and goes on until the process ends."""
    with step("Drawing"):
        current_task.update(details="section 3 of 8", fraction=0.375)
        threading.Event().wait(HELD_SECONDS)


def create_app() -> Flask:
    """The app, with its files in ``BENCH_FOLDER``."""
    folder = Path(os.environ["BENCH_FOLDER"])
    app = Flask("polls", instance_path=str(folder))
    app.config["BGTASKS_SHUTDOWN_GRACE"] = 0
    bgtasks.init_app(app)

    @app.get("/constant")
    def constant() -> str:
        return "ok"

    @app.post("/start")
    def start() -> dict[str, str]:
        return {"request_id": generate.submit().request_id}

    _add_same(app)
    _add_plain(app, folder / "plain.sqlite3")
    for peer, state_of in _peers().items():
        app.add_url_rule(f"/{peer}/<task_id>", peer, _view(state_of))
    return app


def _add_same(app: Flask) -> None:
    """``/same/<id>``: what the library answers, kept as it was the first time."""
    kept: dict[str, tuple[bytes, list[tuple[str, str]]]] = {}

    @app.get("/same/<request_id>")
    def same(request_id: str) -> Response:
        known = kept.get(request_id)
        if known is None:
            answer = app.test_client().get(f"/tasks/{request_id}")
            headers = [(name, value) for name, value in answer.headers if name != "Content-Length"]
            known = kept[request_id] = (answer.data, headers)
        return Response(known[0], 200, known[1])


def _add_plain(app: Flask, path: Path) -> None:
    """``/plain/<id>``: one read by ``sqlite3``, as JSON. Its task is made here, and named by ``/plain``."""
    task_id = str(uuid.uuid4())
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(SCHEMA)
        connection.execute("INSERT INTO tasks VALUES (?, 'processing', 'Drawing', 0.375, '2025-01-01')", (task_id,))
    local = threading.local()
    app.add_url_rule("/plain", "plain_id", lambda: {"request_id": task_id})

    @app.get("/plain/<request_id>")
    def plain(request_id: str) -> Response:
        connection = getattr(local, "connection", None)
        if connection is None:
            connection = local.connection = sqlite3.connect(path)
            connection.row_factory = sqlite3.Row
        row = connection.execute("SELECT * FROM tasks WHERE request_id = ?", (request_id,)).fetchone()
        return jsonify(dict(row))


def _view(state_of: Callable[[str], Any]) -> Callable[[str], Response]:
    return lambda task_id: jsonify({"request_id": task_id, "state": state_of(task_id)})


def _peers() -> dict[str, Callable[[str], Any]]:
    """What each peer named in ``BENCH_PEERS`` offers; each task is ``"polled"``."""
    makers = {"huey": _huey, "rq": _rq, "celery": _celery}
    wanted = os.environ.get("BENCH_PEERS", "").split(",")
    return {
        name: make(importlib.import_module(f"{__package__}.peers.{name}_peer"))
        for name, make in makers.items()
        if name in wanted
    }


def _huey(module: Any) -> Callable[[str], Any]:
    module.huey.put("polled", "processing")
    return lambda task_id: module.huey.result(task_id, preserve=True)


def _rq(module: Any) -> Callable[[str], Any]:
    from rq.job import Job

    redis = module.Redis.from_url(module.URL)
    Job.create(module.noop, id="polled", connection=redis, meta={"fraction": 0.375}).save()

    def state_of(task_id: str) -> Any:
        job = Job.fetch(task_id, connection=redis)
        return [job.get_status(refresh=False), job.meta]

    return state_of


def _celery(module: Any) -> Callable[[str], Any]:
    module.app.backend.store_result("polled", {"fraction": 0.375}, "PROGRESS")

    def state_of(task_id: str) -> Any:
        result = module.app.AsyncResult(task_id)
        return [result.state, result.info]

    return state_of
