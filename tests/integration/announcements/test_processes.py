"""Announcements and the life of processes: commands, kills, forks, closing, and what an idle one asks for."""

import os
import subprocess
import sys
import threading
import time

import pytest

from flask_bgtasks.execution.finding import recovery
from flask_bgtasks.stores.sql.drivers.postgresql import PostgresDatabase
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE, until

NEVER = 3600.0

COMMAND = """
import sys
from flask import Flask
from flask_bgtasks import BackgroundTasks

app, bgtasks = Flask("app", instance_path=sys.argv[0]), BackgroundTasks()

@bgtasks.task(retries=1)
def work(n):
    return n

@app.cli.command()
def seed():
    work.submit(4)

bgtasks.init_app(app, store={store!r}, announcements={announcements!r})
"""


def test_what_a_command_of_the_shell_stores_is_announced_before_it_is_over(carrier, make, rare_polls, tmp_path):
    other = make(carrier.store, carrier.announcements)
    until(other.state.exchange.holds)
    names = {"store": carrier.store, "announcements": carrier.announcements}
    (tmp_path / "shell_app.py").write_text(COMMAND.replace("sys.argv[0]", repr(str(tmp_path))).format(**names))

    command = [sys.executable, "-m", "flask", "--app", "shell_app", "seed"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=PATIENCE)

    until(lambda: other.ran)
    assert other.ran == [(4, 1)]


HOLDER = """
import sys, threading
from flask import Flask
from flask_bgtasks import BackgroundTasks
from tests.support.waiting import until

app, bgtasks = Flask("app", instance_path={folder!r}), BackgroundTasks()

@bgtasks.task(retries=1)
def work(n):
    print("begun", flush=True)
    threading.Event().wait()

bgtasks.init_app(app, store={store!r}, announcements={announcements!r})
state = app.extensions["bgtasks"]
state.lifecycle.start()
until(state.exchange.holds)
with app.app_context():
    work.submit(6)
threading.Event().wait()
"""


def test_a_killed_process_of_this_host_is_noticed_without_a_query(carrier, make, rare_polls, tmp_path):
    other = make(carrier.store, carrier.announcements)
    until(other.state.exchange.holds)
    looks = []
    look = other.state.lifecycle.recovery.look
    other.state.lifecycle.recovery.look = lambda: (looks.append(time.monotonic()), look())[1]
    code = HOLDER.format(folder=str(tmp_path), store=carrier.store, announcements=carrier.announcements)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as holder:
        assert holder.stdout.readline() == "begun\n"
        until(lambda: other.state.lifecycle.recovery._times._neighbours)
        before = len(looks)

        holder.kill()

        until(lambda: other.ran)
    assert other.ran == [(6, 2)]
    assert len(looks) == before + 1


FORKED = """
import os, sys, warnings
from flask import Flask
from flask_bgtasks import BackgroundTasks
from flask_bgtasks.announcements.announcement import Announcement
from tests.support.waiting import until

app, bgtasks = Flask("app", instance_path={folder!r}), BackgroundTasks()

@bgtasks.task
def work(n):
    return n

bgtasks.init_app(app, store={store!r}, announcements={announcements!r}, runner="external")
state = app.extensions["bgtasks"]
state.lifecycle.start()
until(state.exchange.holds)
heard = []
state.exchange.hear(heard.append)
warnings.simplefilter("ignore")
child = os.fork()
if child == 0:
    assert not state.exchange.holds() and not state.exchange.thread.is_alive()
    state.exchange.listen()
    until(state.exchange.holds)
    with app.app_context():
        request_id = work.submit(1).request_id
    state.close(grace=0)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
until(lambda: any(said.tasks for said in heard))
assert state.exchange.holds()
state.close(grace=0)
print("well")
"""


def test_a_forked_process_has_a_connection_of_its_own_and_leaves_the_parents_alone(
    carrier, new_postgresql_database, tmp_path
):
    store = carrier.store
    if store.startswith("sqlite"):  # whose open file does not go over a fork
        store = new_postgresql_database()
    code = FORKED.format(folder=str(tmp_path), store=store, announcements=carrier.announcements)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=PATIENCE, check=False
    )
    assert done.stdout == "well\n", done.stderr


def test_an_app_that_serves_nothing_and_stores_nothing_opens_no_connection(carrier, make):
    app = make(carrier.store, carrier.announcements, serve=False)

    assert not app.state.exchange.thread.is_alive()


def test_a_closed_app_has_no_thread_left(carrier, make):
    app = make(carrier.store, carrier.announcements)
    until(app.state.exchange.holds)
    thread = app.state.exchange.thread

    app.state.close(grace=5)

    assert not thread.is_alive()
    assert "bgtasks-announcements" not in {one.name for one in threading.enumerate()}


def test_an_idle_process_asks_postgresql_once_in_some_seconds(make, new_postgresql_database, monkeypatch):
    pytest.importorskip("psycopg")
    monkeypatch.setattr(recovery, "PURGE_SECONDS", NEVER)
    asked = []
    use = PostgresDatabase._use_one
    monkeypatch.setattr(
        PostgresDatabase, "_use_one", lambda self, operation: (asked.append(time.monotonic()), use(self, operation))[1]
    )
    app = make(new_postgresql_database())
    until(app.state.exchange.holds)
    until(lambda: asked and time.monotonic() - asked[-1] > 1)  # what a beginning asks for is over
    begun = len(asked)

    until(lambda: len(asked) > begun)  # the first look
    first = asked[begun]
    until(lambda: asked[-1] - first > 1)  # the next

    assert next(at for at in asked if at - first > 1) - first > 2.5
