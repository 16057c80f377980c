"""The official Firestore emulator, one for each session (of each xdist worker); a project of its own for each test.

Started with Java from the jar of Debian's package google-cloud-cli-firestore-emulator, on a free port of the loopback.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
import uuid
from pathlib import Path

import pytest

from tests.backends import free_port, missing

JAR = Path("/usr/lib/google-cloud-sdk/platform/cloud-firestore-emulator/cloud-firestore-emulator.jar")
START_SECONDS = 60
FLAGS = ("-Duser.language=en", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")  # half the time to start
MAIN = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"


class Emulator:
    """A running emulator: can be killed, frozen and started again on its port."""

    def __init__(self, folder):
        self._folder = folder
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}"
        self.process = None

    def start(self):
        jar = os.environ.get("FIRESTORE_EMULATOR_JAR") or str(JAR)
        command = ["java", *FLAGS, "-cp", jar, MAIN, "start", "--host=127.0.0.1", f"--port={self.port}"]
        with (self._folder / "emulator.log").open("ab") as log:  # it writes a line for each call: never a pipe
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)
        deadline, pause = time.monotonic() + START_SECONDS, threading.Event()
        while not self._answers():
            assert self.process.poll() is None, (self._folder / "emulator.log").read_text()[-2000:]
            assert time.monotonic() < deadline
            pause.wait(0.05)

    def _answers(self):
        try:
            with urllib.request.urlopen(self.url, timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def kill(self):
        self.process.kill()
        self.process.wait(10)

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def set_rules(self, project, text):
        body = json.dumps({"rules": {"files": [{"name": "firestore.rules", "content": text}]}}).encode()
        address = f"{self.url}/emulator/v1/projects/{project}:securityRules"
        headers = {"Content-Type": "application/json"}
        asked = urllib.request.Request(address, body, headers, method="PUT")
        with urllib.request.urlopen(asked, timeout=10) as answer:
            assert json.load(answer).get("issues", []) == []  # a misspelt method is a warning, and denies everything


def jar():
    """The emulator's jar, None if it is not installed."""
    named = Path(os.environ.get("FIRESTORE_EMULATOR_JAR") or JAR)
    return named if named.is_file() and shutil.which("java") else None


@pytest.fixture(scope="session")
def firestore_emulator():
    """The emulator of this session."""
    pytest.importorskip("google.cloud.firestore")
    if jar() is None:
        missing("the Firestore emulator", "tests/backends/install.sh firestore")
    folder = Path(tempfile.mkdtemp(prefix="bgtasks-firestore-"))
    emulator = Emulator(folder)
    try:
        emulator.start()
        _warm_up(emulator)
        yield emulator
    finally:
        if emulator.process is not None:
            emulator.thaw()
            emulator.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _warm_up(emulator):
    """Make its first calls, which take seconds on a busy machine: more than the library waits for one."""
    from google.cloud import firestore

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", emulator.host)
        client = firestore.Client(project="demo-warm-up")
    client.document("warm/up").set({"warm": True}, timeout=START_SECONDS)
    list(client.collection("warm").limit(1).stream(timeout=START_SECONDS))
    client.close()


_numbers = itertools.count(1)


@pytest.fixture
def firestore_project(firestore_emulator, monkeypatch):
    """The name of an empty project, with the environment set so that every client finds the emulator."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)
    return f"demo-{next(_numbers)}-{uuid.uuid4().hex[:6]}"
