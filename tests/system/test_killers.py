"""A task that kills its process, with others beside it: the killer fails, the others are completed."""

import os
import subprocess
import sys
import threading
import time

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, Status
from tests.support.paths import ROOT

pytestmark = [pytest.mark.system, pytest.mark.slow]

PATIENCE = 90

APP = """
import os, signal, threading
from pathlib import Path
from flask import Flask
from flask_bgtasks import BackgroundTasks, current_task

folder = Path({folder!r})
app = Flask("killers", instance_path=str(folder))
bgtasks = BackgroundTasks()

@bgtasks.task(max_attempts=2)
def kill():
    for _ in range(20):  # let the others begin, if they may
        if len(list(folder.glob(f"began-{{os.getpid()}}-*"))) >= 3:
            break
        threading.Event().wait(0.02)
    os.kill(os.getpid(), signal.SIGKILL)

@bgtasks.task(max_attempts=1)
def innocent(n):
    (folder / f"began-{{os.getpid()}}-{{n}}").touch()
    threading.Event().wait(0.5)
    return n

bgtasks.init_app(app, workers=4)
"""


def test_a_task_that_kills_its_process_fails_and_what_ran_beside_it_is_completed(tmp_path):
    (tmp_path / "served.py").write_text(APP.format(folder=str(tmp_path)))
    app, bgtasks = Flask("killers", instance_path=str(tmp_path)), BackgroundTasks()
    kill = bgtasks.task(name="kill", max_attempts=2)(lambda: None)
    innocent = bgtasks.task(name="innocent", max_attempts=1)(lambda n: n)
    bgtasks.init_app(app, runner="external")
    with app.app_context():
        killer, others = kill.submit(), [innocent.submit(n) for n in range(3)]
        deaths, deadline = 0, time.monotonic() + PATIENCE
        command = [sys.executable, "-m", "flask", "--app", "served", "bgtasks", "worker"]
        env = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
        while not all(handle.task.done for handle in [killer, *others]):
            with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL) as worker:
                try:
                    while worker.poll() is None and not all(handle.task.done for handle in [killer, *others]):
                        assert time.monotonic() < deadline
                        threading.Event().wait(0.02)
                    deaths += worker.poll() is not None
                finally:
                    worker.kill()
        task, statuses = killer.task, [handle.task.status for handle in others]
        app.extensions["bgtasks"].close(grace=1)

        assert statuses == [Status.COMPLETED] * 3
        assert (task.status, task.crashes) == (Status.FAILED, 2)
        assert "died in 2 attempts of 2 (max_attempts)" in task.error_message
        assert deaths <= 4
