"""A small app whose views wait until a test lets them go on, for the tests of the HTTP layer."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, abort, jsonify, request

from flask_bgtasks import BackgroundTasks, current_task, step
from flask_bgtasks.app.state import AppState, state_of
from flask_bgtasks.http.context import parts_of
from tests.support.sse_reader import read
from tests.support.waiting import PATIENCE


def _open_gate() -> threading.Event:
    gate = threading.Event()
    gate.set()
    return gate


class _Gates(defaultdict[str, threading.Event]):
    """A gate for each name, made when it is first asked for: the same one for a view and for a test that ask at once.

    A plain defaultdict makes one for each of them, and keeps the last.
    """

    def __missing__(self, name: str) -> threading.Event:
        assert self.default_factory is not None
        return self.setdefault(name, self.default_factory())


@dataclass
class Studio:
    """The app, its extension, and the gates at which its views wait."""

    app: Flask
    bgtasks: BackgroundTasks
    gates: _Gates = field(default_factory=lambda: _Gates(threading.Event))
    reached: _Gates = field(default_factory=lambda: _Gates(threading.Event))
    calls: list[str] = field(default_factory=list)
    owner: str | None = None

    @property
    def state(self) -> AppState:
        return state_of(self.app)

    def stop_at(self, gate: str) -> None:
        """Called by a view: wait here."""
        self.reached[gate].set()
        assert self.gates[gate].wait(PATIENCE), f"nobody opened {gate!r}"

    def open(self, gate: str) -> None:
        """Called by a test: let the views go on."""
        self.gates[gate].set()

    def close(self) -> None:
        """Let every view pass its gates, also those that none has reached yet, and close the app."""
        self.gates.default_factory = _open_gate
        for gate in list(self.gates.values()):
            gate.set()
        self.state.close(grace=PATIENCE)

    def submit(self, path: str = "/process", **kwargs: Any) -> str:
        """A request that is answered with 202; its id."""
        answer = self.app.test_client().post(path, **{"json": {"input_text": "x"}, **kwargs})
        assert answer.status_code == 202, answer.text
        return answer.json["request_id"]

    def finish(self, request_id: str) -> str:
        """Wait for the end of a task; its id."""
        with self.app.app_context():
            self.bgtasks.get(request_id).wait_until_done(timeout=PATIENCE)
        parts_of(self.app).answers.look_again()  # a poll may share a look of 2 ms ago, and miss the end by that
        return request_id

    def done(self, path: str = "/process", **kwargs: Any) -> str:
        """A task that has ended; its id."""
        return self.finish(self.submit(path, **kwargs))

    def running(self, gate: str = "gate") -> str:
        """A task that waits at a gate; its id."""
        request_id = self.submit("/wait", json={"gate": gate})
        assert self.reached[gate].wait(PATIENCE)
        return request_id

    def count(self) -> int:
        """How many tasks are stored."""
        return sum(self.state.store.stats().by_status.values())

    def advance(self, time: timedelta) -> None:
        """Have the store believe that it is so much later."""
        store = self.state.store
        now = store.now
        store.now = lambda: now() + time  # type: ignore[method-assign]

    def events(self, path: str, **kwargs: Any) -> list[Any]:
        """The events of a stream that ends."""
        answer = self.app.test_client().get(path, **kwargs)
        assert answer.status_code == 200, answer.text
        return read(answer.data)


def make(store: str, folder: Path, *, config: dict[str, Any] | None = None, **settings: Any) -> Studio:
    """The app with its views.

    :param config: of the Flask app.
    :param settings: of the extension, by lower-case name.
    """
    app = Flask("studio", instance_path=str(folder))
    app.config.update({"SECRET_KEY": "for tests", **(config or {})})
    bgtasks = BackgroundTasks()
    studio = Studio(app, bgtasks)
    _add_views(studio)
    bgtasks.init_app(app, store=store, **{"endpoints": ["legacy", "boards.save"], "show_errors": True, **settings})
    return studio


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Studio]:
    """An app in memory; in the end it is closed."""
    made = make("memory://", folder)
    yield made
    made.close()


def with_owners(studio: Studio) -> Studio:
    """Have the ``X-User`` header name the owner."""
    studio.bgtasks.owner_loader(lambda: request.headers.get("X-User"))
    return studio


def _add_views(studio: Studio) -> None:
    app, bgtasks = studio.app, studio.bgtasks

    @app.post("/process")
    @bgtasks.background(steps=["Outline", "Write"])
    def process() -> dict[str, Any]:
        with step("Outline"):
            text = request.get_json()["input_text"]
        with step("Write"):
            current_task.emit(text)
        return {"blocks": [text]}

    @app.post("/wait")
    @bgtasks.background
    def wait() -> dict[str, Any]:
        gate = request.get_json()["gate"]
        with step("Before"):
            studio.stop_at(gate)
        with step("After"):
            pass
        return {"gate": gate}

    @app.post("/odd")
    @bgtasks.background
    def odd() -> Response:
        response = Response(b"\x00\xff\r\n", 299, content_type="image/x-odd; q=1")
        response.headers["Content-Disposition"] = "attachment; filename=odd.bin"
        response.set_cookie("lost", "1")
        return response

    @app.post("/refuse/<int:status>")
    @bgtasks.background
    def refuse(status: int) -> None:
        abort(status, description="because of that")

    @app.post("/break")
    @bgtasks.background
    def break_() -> None:
        raise RuntimeError("the pen broke")

    @app.post("/async")
    @bgtasks.background(name="asynchronous")
    async def asynchronous() -> dict[str, str]:
        return {"async": "yes"}

    def check(name: str) -> Any:
        studio.calls.append(f"validate {name}")
        if name == "abort":
            abort(400, description="no such name")
        return {"error": "too short"}, 422 if name == "tuple" else None

    @app.post("/checked/<name>")
    @bgtasks.background(validate=lambda name: check(name) if name != "good" else studio.calls.append("validate good"))
    def checked(name: str) -> dict[str, str]:
        return {"name": name}

    @app.post("/hold")
    @bgtasks.background(respond="hold")
    def hold() -> dict[str, bool]:
        studio.calls.append("hold")
        return {"held": True}

    @app.get("/report")
    @bgtasks.background
    def report() -> dict[str, Any]:
        return {"q": request.args.get("q")}

    @app.route("/board", methods=["GET", "POST"])
    @bgtasks.background
    def board() -> dict[str, str]:
        return {"method": request.method}

    @app.post("/upload")
    @bgtasks.background
    def upload() -> dict[str, Any]:
        file = request.files["file"]
        return {"name": file.filename, "size": len(file.read()), "title": request.form["title"]}

    # Views of an app that has never heard of background tasks; wrapped by endpoints=[…].
    @app.post("/legacy/<kind>")
    def legacy(kind: str) -> Any:
        studio.calls.append(f"legacy {kind}")
        if kind == "gate":
            studio.stop_at("legacy")
        if kind == "abort":
            abort(422, description="not that")
        if kind == "break":
            raise RuntimeError("the pen broke")
        return jsonify(kind=kind, text=request.get_json(silent=True)), 201, {"X-Extra": "1"}

    boards = Blueprint("boards", __name__)

    @boards.post("/boards/<name>")
    def save(name: str) -> dict[str, str]:
        return {"saved": name}

    app.register_blueprint(boards)
