"""Pushes from real processes: what becomes of them when those die."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading

import pytest

from tests.support.paths import ROOT
from tests.support.processes.gunicorn_server import gunicorn

pytest.importorskip("firebase_admin")

pytestmark = [pytest.mark.system, pytest.mark.slow]

KILLS = 24
ANSWER_SECONDS = 0.03  # that the stand-in takes
LATEST_SECONDS = 0.3  # after the completion, or after the push has arrived, that the kill comes


class ForkedSenders:
    def __init__(self, folder, url):
        command = [sys.executable, "-m", "tests.support.processes.forked_senders", str(folder), url]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        with (folder / "senders.log").open("w") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=log, **pipes)

    def child(self):
        """A new process; its pid and the task that it completed first."""
        self.process.stdin.write("go\n")
        told = dict(self.process.stdout.readline().split() for _ in range(2))
        return int(told["child"]), told["completed"]

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(20)


@pytest.mark.timeout(300)
def test_whoever_is_killed_between_the_end_and_the_push_the_push_is_sent(tmp_path, fcm):
    luck, pause = random.Random(5), threading.Event()
    fcm.before = lambda message: pause.wait(ANSWER_SECONDS)
    senders = ForkedSenders(tmp_path, fcm.url)
    completed, before, pid = [], 0, None
    try:
        for number in range(KILLS):
            pid, request_id = senders.child()
            completed.append(request_id)
            if number % 2:
                fcm.wait_for(lambda fcm, id=request_id: pushes(fcm, id), timeout=60)
            pause.wait(luck.uniform(0, LATEST_SECONDS))  # the instant of the kill: no condition, that is the point
            os.kill(pid, signal.SIGKILL)
            before += not pushes(fcm, request_id)
        pid, request_id = senders.child()
        completed.append(request_id)
        fcm.wait_for(lambda fcm: all(pushes(fcm, one) for one in completed), timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError, TypeError):
            os.kill(pid, signal.SIGKILL)
        senders.close()

    assert len(set(completed)) == KILLS + 1
    assert 0 < before <= KILLS / 2, "no kill came between the end and the push"
    for one in completed:  # sent again where nobody knew whether it had got through: the device shows one
        tags = {message["android"]["notification"]["tag"] for message in pushes(fcm, one)}
        assert tags == {one}
    print(f"{before} of {KILLS} killed before their push; {len(fcm.messages)} messages for {len(completed)} tasks")


def pushes(fcm, request_id):
    return [one["message"] for one in list(fcm.messages) if one["message"]["data"]["request_id"] == request_id]


EXAMPLE = """
from example_app import create_app
app = create_app({{"BGTASKS_SINKS": ["fcm"], "BGTASKS_FCM_ENDPOINT": {url!r}, "BGTASKS_STORE": "sqlite:///{folder}/t.db",
                   "BGTASKS_NOTIFICATION_LINK": "https://lessons.example/{{request_id}}", "LESSON_PACE": 0}})
@app.extensions["bgtasks"].extension.owner_loader
def owner():
    from flask import request
    return request.headers.get("X-User")
"""


def test_one_run_of_the_example_app_is_one_push_for_each_device(tmp_path, fcm):
    httpx = pytest.importorskip("httpx")
    code = EXAMPLE.format(url=fcm.url, folder=tmp_path)
    phone, tablet, new = (f"{letter}{'x' * 21}" for letter in "abc")
    with gunicorn(tmp_path, code, "--workers", "2", "--threads", "4") as server:
        anna = httpx.Client(base_url=server.url, headers={"X-User": "anna"}, timeout=30)
        for value, lang in ((phone, "de-DE"), (tablet, "en-US")):
            body = {"kind": "fid", "value": value, "lang": lang, "platform": "ios"}
            assert anna.post("/tasks/devices", json=body).status_code == 201
        text = anna.get("/sample").text
        body = {"input_text": text, "user_token": new}
        request_id = anna.post("/process", json=body).json()["request_id"]
        result = anna.get(f"/tasks/{request_id}/result", params={"wait": 30})
        fcm.wait_for(lambda fcm: len(fcm.messages) >= 3)
        seq = anna.get(f"/tasks/{request_id}").json()["seq"]
        anna.close()

    assert result.status_code == 200
    assert fcm.counts() == {
        phone: 1,
        tablet: 1,
        new: 1,
    }  # until the servers have ended, with all their pending deliveries
    titles = {to: fcm.sent_to(to)[0]["notification"]["title"] for to in (phone, tablet, new)}
    assert titles == {phone: "Deine Lektion ist fertig", tablet: "Your lesson is ready", new: "Your lesson is ready"}
    assert fcm.sent_to(phone)[0]["data"] == {
        "request_id": request_id,
        "status": "completed",
        "name": "process",
        "seq": str(seq),
        "attempt": "1",
        "link": f"https://lessons.example/{request_id}",
    }
