"""Real processes that never had a request run the tasks of a view that was registered after init_app."""

import os
import subprocess
import sys

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, Status, TaskHandle
from tests.support.paths import ROOT
from tests.support.processes.gunicorn_server import gunicorn
from tests.support.waiting import PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.slow]

APP = """
from flask import Blueprint, Flask
from flask_bgtasks import BackgroundTasks

def create_app(endpoints):
    app = Flask(__name__, instance_path={folder!r})
    bgtasks = BackgroundTasks(app, endpoints=endpoints, app_id="lessons")
    lessons = Blueprint("lessons", __name__)

    @lessons.post("/lesson")
    @bgtasks.background
    def lesson():
        return {{"by": "the blueprint"}}

    @app.post("/process")
    def process():
        return {{"by": "the late view"}}

    app.register_blueprint(lessons)
    return app

app = create_app({endpoints!r})
"""


@pytest.fixture
def accepted(tmp_path):
    """Tasks that a process of a web tier has accepted; their handles."""
    web = Flask("web", instance_path=str(tmp_path / "instance"))
    bgtasks = BackgroundTasks()
    bgtasks.init_app(web, endpoints=["process"], runner="external", app_id="lessons")
    web.add_url_rule("/process", "process", lambda: "", methods=["POST"])
    web.add_url_rule("/lesson", "lesson", bgtasks.background(name="lesson")(lambda: ""), methods=["POST"])
    state = web.extensions["bgtasks"]
    answers = [web.test_client().post(path, headers={"Prefer": "respond-async"}) for path in ("/process", "/lesson")]
    yield [TaskHandle(state, answer.headers["Task-Id"]) for answer in answers]
    state.close(grace=1)


def code(tmp_path, endpoints=("process",)):
    return APP.format(folder=str(tmp_path / "instance"), endpoints=list(endpoints))


def worker(tmp_path, app_code):
    """The command that starts a worker process of this app, and where."""
    (tmp_path / "served.py").write_text(app_code)
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    command = [sys.executable, "-m", "flask", "--app", "served:app", "bgtasks", "worker"]
    return command, {"cwd": tmp_path, "env": env}


def test_a_gunicorn_worker_runs_them_before_its_first_request(tmp_path, accepted):
    with gunicorn(tmp_path, code(tmp_path), "--workers", "1", ready=None):
        for handle in accepted:
            assert handle.wait_until_done(timeout=PATIENCE).status is Status.COMPLETED


def test_a_worker_process_runs_them(tmp_path, accepted):
    command, where = worker(tmp_path, code(tmp_path))
    process = subprocess.Popen(command, **where)
    try:
        for handle in accepted:
            assert handle.wait_until_done(timeout=PATIENCE).status is Status.COMPLETED
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_a_worker_process_with_a_misspelt_endpoint_does_not_start(tmp_path):
    command, where = worker(tmp_path, code(tmp_path, ["proces"]))

    done = subprocess.run(command, **where, capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert done.returncode != 0
    assert "no view has the endpoint 'proces'" in done.stderr
    assert "Traceback" not in done.stderr


def test_gunicorn_logs_a_misspelt_endpoint_and_serves(tmp_path):
    import httpx

    with gunicorn(tmp_path, code(tmp_path, ["proces"]), "--workers", "1", ready=None) as server:
        transport = httpx.HTTPTransport(retries=0)
        with httpx.Client(transport=transport, timeout=10) as client:
            for _ in range(400):
                try:
                    answer = client.post(server.url + "/process")
                    break
                except httpx.TransportError:  # not listening yet: a moment, or until it has died
                    with pytest.raises(subprocess.TimeoutExpired):
                        server.process.wait(0.1)
        assert answer.json() == {"by": "the late view"}
        assert httpx.get(server.url + "/tasks/health").status_code == 503
        assert server.log.count("no view has the endpoint 'proces'") == 1
