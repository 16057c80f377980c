"""The app: a few views, and what flask-bgtasks adds to them. Newcomers start reading here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, current_app, render_template, request
from werkzeug.exceptions import HTTPException

from flask_bgtasks import BackgroundTasks, Notification

from .demo_key import demo_secret_key
from .pace import Pace
from .page import page_config
from .phone import Phone
from .pipeline import STEPS, make_lesson
from .summary import quick_summary
from .writers import choose_writer

MAX_CHARACTERS = 200_000  # some hundred pages; a section's work grows with the square of its sentences
DEFAULT_PACE = 0.25  # seconds per unit of work: the sample text then takes about half a minute
SAMPLE = Path(__file__).with_name("sample.txt")

# What the user's devices are told: in their own language, and of failure too.
NOTIFY = {
    "completed": Notification(
        {"en": "Your lesson is ready", "de": "Deine Lektion ist fertig", "es": "Tu lección está lista"}, "{title}"
    ),
    "failed": Notification(
        {"en": "Your lesson could not be made", "de": "Die Lektion ist nicht gelungen"}, "{error_message}"
    ),
}

bgtasks = BackgroundTasks()


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Make the app.

    :param config: Flask's, the library's (``BGTASKS_…``) and the studio's own settings: ``LESSON_PACE``,
        ``LESSON_WRITER`` and ``LESSON_PHONE``. Without, the environment is read: ``LESSON_PACE``,
        ``FLASK_BGTASKS_STORE`` and so on.
    """
    app = Flask(__name__)
    app.config.from_mapping(LESSON_PACE=float(os.environ.get("LESSON_PACE", DEFAULT_PACE)))
    app.config.from_prefixed_env()
    app.config.from_mapping(config or {})
    if not app.config["SECRET_KEY"]:
        app.config["SECRET_KEY"] = demo_secret_key(Path(app.instance_path))
    app.config.setdefault("LESSON_WRITER", choose_writer(os.environ))
    app.config.setdefault("LESSON_PHONE", str(Path(app.instance_path, "phone.sqlite3")))
    app.config.setdefault("BGTASKS_NOTIFICATION_LINK", "/?task={request_id}")
    app.config.setdefault("BGTASKS_SHOW_ERRORS", True)  # a demo has no secrets: why a lesson failed is on its page
    phone = plug_in_phone(app)

    @app.get("/")
    def index() -> str:
        writer, pace = app.config["LESSON_WRITER"].name, app.config["LESSON_PACE"]
        config = page_config(app, has_phone=phone is not None)
        return render_template("index.html", config=config, steps=STEPS, writer=writer, pace=pace)

    # A service worker may only answer for what lies below its own address.
    @app.get("/worker.js")
    def worker() -> Response:
        return app.send_static_file("worker.js")

    @app.get("/sample")
    def sample() -> tuple[str, dict[str, str]]:
        return SAMPLE.read_text("utf-8"), {"Content-Type": "text/plain; charset=utf-8"}

    # A view with a decorator below its route: its body runs as a task, and the client gets 202 at once.
    @app.post("/process")
    @bgtasks.background(validate=check_text, steps=STEPS, notify=NOTIFY)
    def process() -> dict[str, Any]:
        return lesson_of(request.get_json()["input_text"])

    # An existing view, not a line of it touched: init_app names it below. A plain request gets its plain answer;
    # "Prefer: respond-async" makes a task of it.
    @app.post("/summary")
    def summary() -> dict[str, Any]:
        check_text()
        return {"summary": quick_summary(request.get_json()["input_text"])}

    # A function under @bgtasks.task, submitted from wherever the app likes: here, from a view.
    @app.post("/sample")
    def process_sample() -> tuple[dict[str, str], int]:
        return {"request_id": sample_lesson.submit().request_id}, 202

    # What the phone of the page that asks has got. In the demo there is one for each browser, and its token names it.
    @app.get("/phone")
    def phone_messages() -> dict[str, Any]:
        if phone is None:
            abort(404, description="Pushes go to real phones here.")
        token = request.args.get("token", "")
        return {"messages": phone.messages(token, lang=request.args.get("lang"))}

    @app.errorhandler(400)
    @app.errorhandler(422)
    def refused(error: HTTPException) -> tuple[dict[str, Any], int, dict[str, str]]:
        problem = {"status": error.code, "title": error.name, "detail": error.description}
        return problem, error.code or 400, {"Content-Type": "application/problem+json"}

    bgtasks.init_app(app, endpoints=["summary"])
    return app


@bgtasks.task(steps=STEPS, notify="The sample lesson is ready")
def sample_lesson() -> dict[str, Any]:
    """The lesson of the text that the demo ships."""
    return lesson_of(SAMPLE.read_text("utf-8"))


def plug_in_phone(app: Flask) -> Phone | None:
    """The stand-in for phones, registered as a sink; None where there is FCM, and phones are phones."""
    sinks = app.config.get("BGTASKS_SINKS") or []
    if isinstance(sinks, str):  # as the environment has it, with commas
        sinks = [name.strip() for name in sinks.split(",")]
    phone = None if "fcm" in sinks else Phone(Path(app.config["LESSON_PHONE"]))
    app.config["BGTASKS_SINKS"] = [*sinks, *([phone] if phone else [])]
    return phone


def lesson_of(text: str) -> dict[str, Any]:
    """The lesson of a text, by this app's writer and at its pace."""
    config = current_app.config
    return make_lesson(text, writer=config["LESSON_WRITER"], pace=Pace(config["LESSON_PACE"]))


def check_text() -> None:
    """Refuse what no lesson can be made of. Runs in the request, before anything is stored."""
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        abort(400, description='Send JSON: {"input_text": "…"}.')
    text = body.get("input_text")
    if not isinstance(text, str) or not text.strip():
        abort(422, description="input_text is missing or empty. Paste a chapter or an article.")
    if len(text) > MAX_CHARACTERS:
        abort(422, description=f"input_text has {len(text):,} characters; {MAX_CHARACTERS:,} are the most.")
    if not isinstance(body.get("user_token"), (str, type(None))):
        abort(422, description="user_token is a text, or is left out.")
