"""Fills a database with a little of everything, by whichever version of flask-bgtasks is imported, and dies in it.

How the dumps beside this file were made; see README.md.
"""

import os
import sys
import threading
import time
from datetime import timedelta

from flask import Flask, abort, request

import flask_bgtasks
from flask_bgtasks import BackgroundTasks, Undeliverable, hookimpl, step

PATIENCE = 60
checkpoint = getattr(flask_bgtasks, "checkpoint", lambda name, function: function())  # since layout 2


class Phone:
    """A sink whose service takes nothing: its deliveries wait. Of failures it wants none: dead letters."""

    @hookimpl
    def bgtasks_task_event(self, task, event):
        if task.name == "fail":
            raise Undeliverable("the phone takes no failures")
        raise flask_bgtasks.RetryLater("the phone is off")


app = Flask("shop")
app.secret_key = "of a test"
bg = BackgroundTasks()
phone = Phone()
bg.register(phone, name="phone")
bg.init_app(app, store=sys.argv[1], workers=1, progress_interval=0.02, expires_after=timedelta(days=36_500))
reached = threading.Event()


@bg.owner_loader
def owner():
    return request.headers.get("X-User")


@app.post("/write")
@bg.background(steps=["Outline", "Write"])
def write():
    with step("Outline"):
        pass
    with step("Write", details="8 sections"):
        flask_bgtasks.current_task.emit("Once upon a time")
    return {"text": request.get_json()["text"]}


@app.post("/fail")
@bg.background()
def fail():
    abort(422, "out of paper")


@app.post("/draw")
@bg.background(steps=["Sketch", "Ink"])
def draw():
    def sketch():
        return {"lines": 3}

    with step("Sketch"):
        sketched = checkpoint("sketch", sketch)
    with step("Ink"):
        reached.set()
        threading.Event().wait()
    return sketched


client = app.test_client()


def post(path, **json):
    answer = client.post(
        path, json=json, headers={"X-User": "ada", "Idempotency-Key": "-".join([path, *json.values()])}
    )
    assert answer.status_code == 202, answer.text
    return answer.headers["Task-Id"]


def ended(request_id):
    while store.get(request_id).status.value not in ("completed", "failed"):
        time.sleep(0.01)
    return store.get(request_id).status.value


store = app.extensions["bgtasks"].store
assert ended(post("/write", text="completed")) == "completed"
assert ended(post("/fail")) == "failed"
if client.get("/tasks/devices", headers={"X-User": "ada"}).status_code == 200:  # since layout 3
    phone_of_ada = {"kind": "fcm_token", "value": "token-of-ada", "platform": "ios", "app": "studio", "lang": "en"}
    assert client.post("/tasks/devices", json=phone_of_ada, headers={"X-User": "ada"}).status_code in (200, 201)
    quiet = {"kinds": ["failed"]}
    assert client.put("/tasks/preferences", json=quiet, headers={"X-User": "ada"}).status_code == 200
interrupted = post("/draw")
assert reached.wait(PATIENCE)
cancelled = post("/write", text="cancelled")
assert client.post(f"/tasks/{cancelled}/cancel", headers={"X-User": "ada"}).status_code == 200
post("/write", text="waiting")
while store.get(interrupted).progress is None or store.get(interrupted).progress.step != "Ink":
    time.sleep(0.01)
while not store.dead_deliveries(limit=10):
    time.sleep(0.01)
os._exit(0)  # as a process that is killed
