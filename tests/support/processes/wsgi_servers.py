"""The servers that the matrix in the docs names, each as a real process that serves the same app."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.backends import free_port
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE, until

THREADS = 8


@dataclass(frozen=True)
class Kind:
    """A server, and what the docs say of it.

    :param command: its command line, for a port; it serves `app` of `served.py`, or `asgi`.
    :param streams: how many streams it has places for, where nothing is set.
    :param sees_clients_leave: whether the place of a client that has left is free before a ping fails.
    :param looks_out: whether it takes up what others left before its first request.
    """

    name: str
    command: Callable[[int], list[str]]
    streams: int
    sees_clients_leave: bool = True
    looks_out: bool = True

    def __str__(self):
        return self.name


class Running:
    """A server's process."""

    def __init__(self, url, process, log):
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self.process = process
        self._log = log

    @property
    def log(self):
        return self._log.read_text()

    def answers(self):
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(self.url + "/tasks/health", timeout=5).status_code == 200
        return False


def uwsgi_command():
    """Where uWSGI is, which is a program."""
    found = shutil.which("uwsgi", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("uwsgi is not installed")
    return found


@contextlib.contextmanager
def running(folder, kind, *, asked=True):
    """Run the app that `served.py` in the folder makes.

    :param asked: whether it is waited for by asking it, which begins work where nothing else does.
    """
    port, log = free_port(), folder / "server.log"
    path = os.pathsep.join([str(ROOT), str(folder), *filter(None, sys.path)])  # uWSGI's Python knows none of it
    with log.open("a") as out:
        process = subprocess.Popen(
            kind.command(port),
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path, "GUNICORN_CMD_ARGS": ""},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    server = Running(f"http://127.0.0.1:{port}", process, log)
    try:
        if asked:
            until(lambda: process.poll() is not None or server.answers(), says=lambda: server.log)
            assert process.poll() is None, server.log
        yield server
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def gunicorn(worker, *arguments):
    """Gunicorn's command line, with one worker of that class."""
    fixed = [sys.executable, "-m", "gunicorn", "--no-control-socket", "--worker-class", worker, *arguments]
    return lambda port: [*fixed, "--bind", f"127.0.0.1:{port}", "served:app"]


def waitress(port):
    """Waitress, which looks at the connection of a request that is being answered only if it may take another one."""
    options = [f"--listen=127.0.0.1:{port}", f"--threads={THREADS}", "--channel-request-lookahead=1"]
    return [sys.executable, "-m", "waitress", *options, "served:app"]


def uwsgi(port):
    """uWSGI with a master."""
    options = ["--master", "--die-on-term", "--enable-threads", "--threads", str(THREADS)]
    return [uwsgi_command(), "--http-socket", f"127.0.0.1:{port}", *options, "--module", "served:app"]


def uvicorn(*arguments):
    """Uvicorn with an adapter, a2wsgi."""
    return lambda port: [sys.executable, "-m", "uvicorn", "--port", str(port), *arguments, "served:asgi"]


def flask_run(port):
    """The development server."""
    return [sys.executable, "-m", "flask", "--app", "served", "run", "--port", str(port)]


KINDS = (
    Kind("gunicorn sync", gunicorn("sync"), streams=0),
    Kind("gunicorn gthread", gunicorn("gthread", "--threads", str(THREADS)), streams=THREADS // 2),
    Kind("gunicorn gevent", gunicorn("gevent"), streams=500),
    Kind("gunicorn gevent preloaded", gunicorn("gevent", "--preload"), streams=500),
    Kind("waitress", waitress, streams=THREADS // 2),
    Kind("uwsgi", uwsgi, streams=THREADS // 2, sees_clients_leave=False, looks_out=False),
    Kind("uvicorn", uvicorn(), streams=THREADS // 2),
    Kind("uvicorn with two processes", uvicorn("--workers", "2"), streams=THREADS // 2),
    Kind("flask run", flask_run, streams=64),
)
