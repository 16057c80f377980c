"""The app that the pages of these tests talk to: tasks whose steps end when a test says so, and one page.

A gate is a name that a test made up: step number 2 of a task with gate ``g`` ends when the file ``gates/g.2`` is there,
so that a server that was killed and started again finds its gates as they were.
"""

import threading
from pathlib import Path

from flask import Flask, abort, request

from flask_bgtasks import BackgroundTasks, checkpoint, current_task
from flask_bgtasks.http.streaming import sse

sse.PING_SECONDS = 0.4  # so that a watchdog need not wait for 40 s either: see visit() in conftest.py
STEPS = ["Read", "Write", "Draw"]
PAGE = Path(__file__).with_name("page.html")


def only_for_members():
    if request.headers.get("Authorization") != "Bearer good":
        abort(401)


def nothing_will_do():
    abort(422, "Nothing can be made of that.")


def make_app(folder, *, members=False, sessions=False, **settings):
    """Makes the app.

    :param members: each task is its member's, by a token; and nobody else's.
    :param sessions: each task is somebody's, by a cookie. Whose cookie came with which work stands in ``sent.log``.
    """
    folder = Path(folder)
    gates = folder / "gates"
    gates.mkdir(exist_ok=True)
    app = Flask(__name__, instance_path=str(folder))
    bgtasks = BackgroundTasks()

    def take_note(gate):
        with (folder / "made.log").open("a") as log:
            log.write(f"{gate}\n")

    def wait_at(gate, number):
        pause = threading.Event()
        while not (gates / f"{gate}.{number}").exists():
            pause.wait(0.02)
        return number

    @app.get("/")
    def page():
        return PAGE.read_text("utf-8")

    @app.post("/work")
    @bgtasks.background(steps=STEPS)
    def work():
        gate = request.get_json()["gate"]
        checkpoint("Note", take_note, gate)
        for number, step in enumerate(STEPS, 1):
            checkpoint(step, wait_at, gate, number)
        return {"made": request.get_json().get("title", "a lesson")}

    @app.post("/told")
    @bgtasks.background(notify="Your lesson is ready")
    def told():
        wait_at(request.get_json()["gate"], len(STEPS))
        return {"made": "a lesson"}

    @app.get("/pushed")
    def pushed():
        """The tasks whose notifications reached the sink of this process."""
        return [told.request_id for told in app.extensions["bgtasks"].plugins.get("memory").notifications]

    @app.post("/count")
    @bgtasks.background
    def count():
        for number in range(request.get_json()["to"]):
            current_task.emit(f"{number} ")
            threading.Event().wait(request.get_json()["every"])
        return {}

    @app.get("/hang/<gate>")
    def hang(gate):
        return str(wait_at(gate, "hanging"))

    @app.post("/private")
    @bgtasks.background(validate=only_for_members)
    def private():
        return {"made": "a secret"}

    @app.before_request
    def only_when_free():
        if request.path == "/busy" and not (gates / f"{request.get_json()['gate']}.free").exists():
            status = request.get_json()["status"]
            return {"detail": "Too many lessons are made just now."}, status, {"Retry-After": "2"}
        return None

    @app.post("/busy")
    @bgtasks.background
    def busy():
        return {"made": "a lesson"}

    @app.post("/picky")
    @bgtasks.background(validate=nothing_will_do)
    def picky():
        return {}

    if members:

        @bgtasks.owner_loader
        def owner():
            return "ann" if request.headers.get("Authorization") == "Bearer good" else None

    if sessions:

        @app.get("/login/<name>")
        def login(name):
            answer = app.make_response("")
            answer.set_cookie("user", name)
            return answer

        @app.get("/logout")
        def logout():
            answer = app.make_response("")
            answer.delete_cookie("user")
            return answer

        @app.before_request
        def only_for_users():
            if request.path != "/work":
                return
            with (folder / "sent.log").open("a") as log:
                log.write(f"{request.cookies.get('user')} {request.get_json()['gate']}\n")
            if "user" not in request.cookies:
                abort(401)

        @bgtasks.owner_loader
        def user():
            return request.cookies.get("user")

    bgtasks.init_app(app, progress_interval=0.02, workers=8, **settings)
    return app
