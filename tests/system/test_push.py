"""Pushes from real processes: what becomes of them when those die."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading

import pytest

from tests.system.gunicorn_server import ROOT

pytest.importorskip("firebase_admin")

pytestmark = [pytest.mark.system, pytest.mark.slow]

KILLS = 50
ANSWER_SECONDS = 0.03  # that the stand-in takes
LATEST_SECONDS = 0.25  # after the completion that the kill comes; a push of a new process takes about half as long


class Nursery:
    def __init__(self, folder, url):
        command = [sys.executable, "-m", "tests.system.push_nursery", str(folder), url]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        with (folder / "nursery.log").open("w") as log:
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


def test_whoever_is_killed_between_the_end_and_the_push_the_push_is_sent(tmp_path, fcm):
    luck, pause = random.Random(5), threading.Event()
    fcm.before = lambda message: pause.wait(ANSWER_SECONDS)
    nursery = Nursery(tmp_path, fcm.url)
    completed, before, pid = [], 0, None
    try:
        for _ in range(KILLS):
            pid, request_id = nursery.child()
            completed.append(request_id)
            pause.wait(luck.uniform(0, LATEST_SECONDS))  # the instant of the kill: no condition, that is the point
            os.kill(pid, signal.SIGKILL)
            before += not pushes(fcm, request_id)
        pid, request_id = nursery.child()
        completed.append(request_id)
        fcm.wait_for(lambda fcm: all(pushes(fcm, one) for one in completed), timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError, TypeError):
            os.kill(pid, signal.SIGKILL)
        nursery.close()

    assert len(set(completed)) == KILLS + 1
    assert 5 <= before <= KILLS - 5, "the kills are not spread over what happens between the end and the push"
    for one in completed:  # sent again where nobody knew whether it had got through: the device shows one
        tags = {message["android"]["notification"]["tag"] for message in pushes(fcm, one)}
        assert tags == {one}
    print(f"{before} of {KILLS} killed before their push; {len(fcm.messages)} messages for {len(completed)} tasks")


def pushes(fcm, request_id):
    return [one["message"] for one in list(fcm.messages) if one["message"]["data"]["request_id"] == request_id]
