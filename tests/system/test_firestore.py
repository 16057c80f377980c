"""The Firestore mirror of real servers, and a reader that knows nothing but Firestore."""

import os
import subprocess
import sys

import httpx
import pytest

from tests.support.processes.gunicorn_server import gunicorn

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(300)]

APP = """
import pathlib, threading
from flask import Flask, request
from flask_bgtasks import BackgroundTasks, current_task, step, track

app = Flask(__name__, instance_path={folder!r})
bgtasks = BackgroundTasks(app, sinks=["firestore"], firebase_project={project!r})

@app.post("/process")
@bgtasks.background(steps=["Read", "Write"])
def process():
    with step("Read"):
        threading.Event().wait(0.2)
    followed = pathlib.Path({folder!r}, current_task.request_id)
    with step("Write"):
        for number in track(range(10)):
            for _ in range(600):  # a busy machine's reader takes its time to start
                if number < 5 or followed.exists():
                    break
                threading.Event().wait(0.1)
    return {{"text": "x" * request.get_json()["size"]}}
"""

READER = """
import json, pathlib, sys, time
from google.cloud import firestore
from flask_bgtasks.firebase.firestore.documents import read_result

project, request_id, followed = sys.argv[1:]
db, shown = firestore.Client(project=project), []
task, progress = (db.collection(name).document(request_id) for name in ("background_tasks", "request_progress"))
deadline = time.monotonic() + 90
document = None
while time.monotonic() < deadline:
    ended = document and document["status"] == "completed"
    found = progress.get().to_dict()
    if found and (not shown or shown[-1] != found["progress_percentage"]):
        shown.append(found["progress_percentage"])
        if found["progress_percentage"] > 0:
            pathlib.Path(followed).touch()
    if ended:
        break
    document = task.get().to_dict()
    time.sleep(0.02)
chunks = [chunk.to_dict()["data"] for chunk in task.collection("chunks").order_by("number").stream()]
print(json.dumps({"shown": shown, "status": document["status"], "size": len(read_result(document, chunks)["text"])}))
"""


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["", "preload"])
def test_a_reader_of_firestore_alone_follows_tasks_of_two_processes(firestore_project, tmp_path, preload):
    code = APP.format(folder=str(tmp_path), project=firestore_project)
    sizes = [10, 1000, 5 * 2**20, 10]
    with gunicorn(tmp_path, code, "--workers", "2", "--threads", "4", *preload) as server:
        ids = [
            httpx.post(server.url + "/process", json={"size": size}, timeout=20).json()["request_id"] for size in sizes
        ]
        readers = [
            subprocess.Popen(
                [sys.executable, "-c", READER, firestore_project, request_id, str(tmp_path / request_id)],
                env={**os.environ},
                stdout=subprocess.PIPE,
                text=True,
            )
            for request_id in ids
        ]
        seen = [httpx.Response(200, text=reader.communicate(timeout=200)[0]).json() for reader in readers]

    assert [one["status"] for one in seen] == ["completed"] * 4
    assert [one["size"] for one in seen] == sizes
    for one in seen:
        assert one["shown"] == sorted(one["shown"])
        assert len(one["shown"]) >= 2
