"""Gunicorn as a real process, for the tests that need one."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import httpx

from tests.backends import free_port
from tests.support.paths import ROOT

START_SECONDS = 40


class Server:
    """A running gunicorn: its address, and what it logged."""

    def __init__(self, port, process, log):
        self.port = port
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self._log = log

    @property
    def log(self):
        return self._log.read_text()


@contextlib.contextmanager
def gunicorn(folder, app_code, *arguments, ready="/tasks/health", port=None):
    """Run an app's code under gunicorn on the loopback.

    :param port: None for one that is free. :param ready: what is asked until it answers; None to ask nothing.
    """
    (folder / "served.py").write_text(app_code)
    port, log = port or free_port(), folder / "gunicorn.log"
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread"]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "GUNICORN_CMD_ARGS": ""}
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "--no-control-socket", *arguments, "served:app"], cwd=folder, env=env, stdout=out, stderr=out
        )
    server = Server(port, process, log)
    try:
        if ready is not None:
            _wait_until_ready(server, ready)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _wait_until_ready(server, path):
    deadline, pause = time.monotonic() + START_SECONDS, threading.Event()
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(server.url + path, timeout=5).status_code == 200:
                return
        assert server.process.poll() is None, server.log
        assert time.monotonic() < deadline, server.log
        pause.wait(0.05)
