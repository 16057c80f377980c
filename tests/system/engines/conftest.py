"""An app here, as a web process has it, and real workers of Celery, RQ, Dramatiq and Huey over Redis."""

import importlib
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE, until

SHOP = "tests.support.processes.engine_shop"

KEEP = 'while :; do "$@"; done'
"""Starts workers again that have ended, as systemd does."""


@pytest.fixture
def store():
    """Where tasks are kept, if a test names nothing else."""
    return "sqlite:///tasks.sqlite3"


@pytest.fixture
def engine():
    """Whose workers, and of which kind; tests parametrize it."""
    return "celery"


@pytest.fixture
def shop(redis, store, engine, tmp_path, monkeypatch):
    """The app in this process, as a web process has it."""
    name = engine.partition("-")[0]
    pytest.importorskip(name)
    monkeypatch.setenv("SHOP_ENGINE", name)
    monkeypatch.setenv("SHOP_FOLDER", str(tmp_path))
    monkeypatch.setenv("SHOP_STORE", store)
    monkeypatch.setenv("SHOP_BROKER", redis.url)
    monkeypatch.setenv("SHOP_ID", "shop")
    sys.modules.pop(SHOP, None)
    shop = importlib.import_module(SHOP)
    with shop.app.app_context():
        yield shop
    shop.app.extensions["bgtasks"].close(grace=0)
    sys.modules.pop(SHOP, None)


def command(engine, *, queue="default", concurrency=2, module=SHOP):
    """The command line of a worker.

    :param queue: of the tasks' queues, the one that it serves. :param module: that it imports.
    """
    name, _, kind = engine.partition("-")
    mine = os.environ["SHOP_ID"] if queue == "default" else queue
    if name == "celery":
        quiet = ["--without-mingle", "--without-gossip", "--without-heartbeat", "--loglevel", "INFO"]
        kind = kind or "prefork"
        words = ["celery", "--app", f"{module}:workers", "worker", "-Q", mine, "--pool", kind]
        return [*words, "--concurrency", str(concurrency), *quiet]
    if name == "rq":
        return ["rq.cli", "worker", "--config", module, "--url", os.environ["SHOP_BROKER"], mine]
    if name == "dramatiq":
        return ["dramatiq", module, "--processes", "1", "--threads", str(concurrency), "--queues", queue]
    instance = "workers" if queue == "default" else f"{queue}_workers"
    words = ["huey.bin.huey_consumer", f"{module}.{instance}", "--workers", str(concurrency), "--no-periodic"]
    return [*words, "--worker-type", kind or "thread", "--health-check-interval", "1"]


@pytest.fixture
def worker(shop, engine, tmp_path):
    """Starts workers. With ``kept``, somebody starts them again when they end."""
    started = []

    def start(kind=None, *, concurrency=2, queue="default", kept=False):
        words = [sys.executable, "-m", *command(kind or engine, queue=queue, concurrency=concurrency)]
        log = tmp_path / f"worker-{len(started)}.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                ["sh", "-c", KEEP, "sh", *words] if kept else words,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "C_FORCE_ROOT": "1"},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        kill(process)
    for pid in _running(shop):  # RQ's horses have a group of their own
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for log in tmp_path.glob("worker-*.log"):
        print(log.name, log.read_text()[-4000:])  # shown where the test fails


def kill(process, *more):
    """Kill a worker, and the processes that it has forked; and these."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
    for pid in more:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _running(shop):
    return [int(line.rpartition(" ")[2]) for line in shop.diary() if "waits in" in line]


@pytest.fixture
def waiting(shop):
    """Waits until a task waits; gives the process that it runs in."""

    def wait(count=1):
        return until(lambda: len(_running(shop)) >= count and _running(shop), every=0.05)[-1]

    return wait


@pytest.fixture
def steps(shop):
    """Gives the steps that were made."""
    return lambda: [line for line in shop.diary() if "waits" not in line]
