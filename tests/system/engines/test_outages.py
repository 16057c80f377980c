"""The example app over each engine: workers are killed, Redis is away, forgets everything, and says things twice.

So it is in the library's own workers, which know no Redis. The long form, fifty lessons and half a minute without
Redis, runs with ``make soak``.
"""

import importlib
import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing

import pytest

from flask_bgtasks import Status
from tests.support.paths import ROOT
from tests.support.waiting import until
from tests.system.engines.conftest import command, kill
from tests.system.engines.test_engines import ENGINES

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

STUDIO = "tests.support.processes.studio"
TEXT = (ROOT / "example_app" / "sample.txt").read_text("utf-8")


@pytest.fixture
def studio(redis, engine, request, tmp_path, monkeypatch):
    """The app in this process, as a web process has it."""
    on_sqlite = f"sqlite:///{tmp_path}/tasks.sqlite3"
    names = {
        "ENGINE": engine,
        "FOLDER": tmp_path,
        "STORE": on_sqlite if engine == "threads" else request.getfixturevalue("new_postgresql_database")(),
        "BROKER": redis.url,
        "ID": "studio",
    }
    for name, value in names.items():
        monkeypatch.setenv(f"SHOP_{name}", str(value))
    from example_app.pipeline import Work

    for name, method in list(vars(Work).items()):
        if not name.startswith("_"):
            monkeypatch.setattr(Work, name, method)  # as it was, afterwards
    sys.modules.pop(STUDIO, None)
    studio = importlib.import_module(STUDIO)
    with studio.app.app_context():
        yield studio
    studio.app.extensions["bgtasks"].close(grace=0)
    sys.modules.pop(STUDIO, None)


class Workers:
    """Two workers, of RQ four, whose workers run one thing at a time; one that is killed is started anew."""

    def __init__(self, engine, folder):
        own = ["flask", "--app", f"{STUDIO}:app", "bgtasks", "worker", "--workers", "4"]
        words = own if engine == "threads" else command(engine, concurrency=4, module=STUDIO)
        self._words = [sys.executable, "-m", *words]
        self._folder = folder
        self.running = [self._start() for _ in range(4 if engine == "rq" else 2)]

    def _start(self):
        with (self._folder / "workers.log").open("a") as out:
            env = {**os.environ, "PYTHONPATH": str(ROOT), "C_FORCE_ROOT": "1"}
            return subprocess.Popen(self._words, cwd=ROOT, env=env, stdout=out, stderr=out, start_new_session=True)

    def kill_one(self, pids):
        """Kill the first, and what it has forked. :param pids: of the processes that tasks are in."""
        first = self.running.pop(0)
        children = subprocess.run(["pgrep", "-P", str(first.pid)], capture_output=True, text=True, check=False).stdout
        kill(first, *{int(child) for child in children.split()} & set(pids))
        self.running.append(self._start())

    def mend(self):
        """Start what has ended by itself: without its Redis a worker may."""
        self.running = [one if one.poll() is None else self._start() for one in self.running]

    def close(self):
        for one in self.running:
            kill(one)


@pytest.fixture
def workers(studio, engine, tmp_path):
    started = Workers(engine, tmp_path)
    yield started
    started.close()
    print((tmp_path / "workers.log").read_text()[-4000:])


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["celery"])  # RQ has a chaos run of its own
def test_whatever_happens_to_the_queue_every_lesson_is_made_once(studio, workers, redis, tmp_path):
    _made_in_spite_of_everything(studio, workers, redis, tmp_path, lessons=6, outage=1.0)


@pytest.mark.soak
@pytest.mark.parametrize("engine", ["threads", *ENGINES])
def test_fifty_lessons_are_made_once_with_half_a_minute_without_redis(studio, workers, redis, tmp_path):
    _made_in_spite_of_everything(studio, workers, redis, tmp_path, lessons=50, outage=30.0)


def _made_in_spite_of_everything(studio, workers, redis, tmp_path, *, lessons, outage):
    client, store = studio.app.test_client(), studio.app.extensions["bgtasks"].store
    runner, luck = studio.app.extensions["bgtasks"].runner, random.Random(7)

    def order(count):
        for _ in range(count):
            given = {"input_text": TEXT, "user_token": f"phone-{len(ids)}"}
            answer = client.post("/process", json=given)
            assert answer.status_code == 202
            ids.append(answer.json["request_id"])

    def tasks():
        return [store.get(request_id) for request_id in ids]

    def begun(count):
        """As many lessons are being made, or are ready."""
        workers.mend()
        return sum(task.attempt > 0 for task in tasks()) >= count

    def pids():
        return [int(task.worker.split(":")[1]) for task in tasks() if task.held]

    ids = []
    order(lessons - lessons // 3)
    until(lambda: begun(2), every=0.1)
    workers.kill_one(pids())
    redis.kill()
    order(lessons // 3)
    threading.Event().wait(outage)
    redis.start()
    workers.mend()
    until(lambda: begun(lessons // 2), timeout=300, every=0.1)
    redis.empty()
    for task in tasks():
        if runner.publishes and task.held and luck.random() < 0.8:
            runner.publish(task.request_id, "default")
    workers.kill_one(pids())

    def ended():
        workers.mend()
        return all(task.done for task in tasks())

    until(ended, timeout=600, every=0.2, says=lambda: str(Counter(task.status for task in tasks())))
    assert Counter(task.status for task in tasks()) == {Status.COMPLETED: lessons}
    assert max(task.attempt for task in tasks()) > 1  # some were in a worker that was killed
    starts = [line.split() for line in (tmp_path / "steps.log").read_text().splitlines()]
    assert {(start[0], start[1]) for start in starts} == {(one, step) for one in ids for step in studio.STEPS}
    # One that was cut off starts again; none whose checkpoint is stored does, nor one before those in front of it are.
    assert [start for start in starts if int(start[2]) != studio.STEPS.index(start[1])] == []
    until(lambda: not store.stats().deliveries_pending, every=0.1)
    with closing(sqlite3.connect(tmp_path / "phone.sqlite3")) as phone:
        told = phone.execute("SELECT request_id, COUNT(*) FROM messages GROUP BY request_id").fetchall()
    assert sorted(told) == sorted((request_id, 1) for request_id in ids)
