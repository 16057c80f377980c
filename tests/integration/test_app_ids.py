"""Two apps that share a database, by default the file in one instance folder: each runs its own tasks."""

import gc
import logging
import os
import signal
import subprocess
import sys

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, ConfigurationError, TaskHandle, hookimpl
from flask_bgtasks.cli.worker import _own_state
from flask_bgtasks.stores.memory.store import MemoryStore
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

APP = """
import sys
import threading
from flask import Flask
from flask_bgtasks import BackgroundTasks, current_task

app = Flask(sys.argv[1], instance_path=sys.argv[2])
bgtasks = BackgroundTasks(app)

@bgtasks.task
def process():
    print(current_task.request_id, flush=True)
    threading.Event().wait()

with app.app_context():
    process.submit()
threading.Event().wait()
"""


def make(name, folder, **settings):
    app = Flask(name, instance_path=str(folder))
    app.secret_key = "x"
    bgtasks = BackgroundTasks()

    @bgtasks.task
    def process():
        return name

    @app.post("/process")
    @bgtasks.background(name="view")
    def view():
        return name

    bgtasks.init_app(app, **settings)
    app.process = process
    return app


@pytest.fixture
def make_app(tmp_path):
    made = []

    def make_one(name, **settings):
        made.append(make(name, tmp_path, **settings))
        return made[-1]

    yield make_one
    for app in made:
        state_of(app).close(grace=10)


def state_of(app):
    return app.extensions["bgtasks"]


def submit(app):
    with app.app_context():
        return app.process.submit()


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_each_of_two_apps_on_one_file_runs_its_own_tasks(make_app):
    shop, blog = make_app("shop", runner="external"), make_app("blog")
    waiting, own = submit(shop), submit(blog)
    state_of(blog).lifecycle.start()

    assert own.wait(timeout=PATIENCE) == "blog"
    assert state_of(blog).lifecycle.recovery.look() == 0
    assert waiting.task.status.value == "started"
    state_of(shop).close()
    at_work = make_app("shop")
    state_of(at_work).lifecycle.start()
    assert TaskHandle(state_of(at_work), waiting.request_id).wait(timeout=PATIENCE) == "shop"


def test_a_killed_process_is_followed_by_one_of_its_own_app(make_app, tmp_path):
    command = [sys.executable, "-c", APP, "shop", str(tmp_path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    request_id = child.stdout.readline().strip()  # it has begun
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    child.stdout.close()

    blog = make_app("blog")
    assert state_of(blog).lifecycle.recovery.look() == 0
    assert submit(blog).wait(timeout=PATIENCE) == "blog"
    shop = make_app("shop", runner="external")
    assert state_of(shop).store.get(request_id).held
    state_of(shop).close()

    at_work = make_app("shop")
    state_of(at_work).lifecycle.recovery.look()
    handle = TaskHandle(state_of(at_work), request_id)
    assert handle.wait(timeout=PATIENCE) == "shop"
    assert handle.task.attempt == 2


def test_another_apps_task_is_not_found_over_http(make_app):
    shop, blog = make_app("shop"), make_app("blog")
    task = shop.test_client().post("/process", headers={"Prefer": "wait=10"}).headers["Task-Id"]

    for path in (f"/tasks/{task}", f"/tasks/{task}/result", f"/tasks/{task}/events", f"/tasks/{task}/progress"):
        assert shop.test_client().get(path).status_code == 200, path
        assert blog.test_client().get(path).status_code == 404, path
    for call in ("cancel", "retry", "seen"):
        assert blog.test_client().post(f"/tasks/{task}/{call}").status_code == 404, call
    assert blog.test_client().delete(f"/tasks/{task}").status_code == 404
    assert blog.test_client().get(f"/tasks?ids={task}").json["missing"] == [task]


def test_the_id_is_the_apps_name_unless_it_is_set(make_app):
    assert state_of(make_app("shop")).settings.app_id == "shop"
    assert state_of(make_app("shop", app_id="the shop")).store.app_id == "the shop"


def test_a_file_that_is_run_has_the_same_id_as_the_one_that_is_imported(tmp_path):
    (tmp_path / "studio.py").write_text(
        "from flask import Flask\nfrom flask_bgtasks import BackgroundTasks\napp = Flask(__name__)\n"
        "BackgroundTasks(app, store='memory://')\nprint(app.extensions['bgtasks'].settings.app_id)\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path)))}
    for how in (["studio.py"], ["-c", "import studio"]):
        found = subprocess.run(
            [sys.executable, *how], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=True
        )
        assert found.stdout == "studio\n"


def test_a_name_that_can_be_no_id_is_refused_with_the_setting(tmp_path):
    with pytest.raises(ConfigurationError, match=r"BGTASKS_APP_ID \(by default the app's import name\)"):
        make("x" * 101, tmp_path, store="memory://")


# -- the default file --------------------------------------------------------------------------------------------------


def test_an_app_that_meets_another_in_its_default_file_says_so_once(make_app, caplog):
    submit(make_app("shop"))
    assert said(caplog) == []

    blog = make_app("blog")
    submit(blog)
    state_of(blog).store.stats()

    (message,) = said(caplog)
    for part in ("app 'blog'", "'shop'", "bgtasks.sqlite3", "BGTASKS_STORE", "BGTASKS_APP_ID", "flask bgtasks adopt"):
        assert part in message


def test_a_file_that_is_named_may_be_shared_in_silence(make_app, tmp_path, caplog):
    for app_id in ("shop", "blog"):
        submit(make_app(app_id, store=f"sqlite:///{tmp_path}/shared.sqlite3"))

    assert said(caplog) == []


def test_an_app_that_left_long_ago_is_not_met_any_more(make_app, caplog):
    state_of(make_app("shop")).store.check()
    past = "UPDATE bgtasks_meta SET value = '1000' WHERE key = 'app:shop'"
    blog = make_app("blog", app_id="wiki")
    state_of(blog).store.check()
    state_of(blog).store._database.write(lambda connection: connection.write(past, {}), durable=False)
    caplog.clear()

    third = make_app("third", app_id="wiki")
    state_of(third).store.check()

    assert said(caplog)[1:] == []  # what is said is that both are called 'wiki'
    assert state_of(third).store.apps() == {"wiki": 0}


def doctor(app):
    return app.test_cli_runner().invoke(args=["bgtasks", "doctor"]).output.splitlines()


def line_of_app(app):
    return next(line for line in doctor(app) if line[6:].startswith("app: "))


def test_doctor_says_whose_file_it_is(make_app, tmp_path):
    shop = make_app("shop")
    submit(shop).wait(timeout=PATIENCE)
    assert line_of_app(shop) == "ok    app: 'shop', 1 task in this store"

    blog = make_app("blog")
    assert line_of_app(blog).startswith("warn  app: 'blog', 0 tasks in this store; here too: 'shop', 1 task: each app")
    assert "BGTASKS_APP_ID" in line_of_app(blog)
    submit(blog).wait(timeout=PATIENCE)
    assert line_of_app(shop).startswith("warn  app: 'shop', 1 task in this store; here too: 'blog', 1 task: give each")
    named = make_app("blog", store=f"sqlite:///{tmp_path}/bgtasks.sqlite3")
    assert line_of_app(named) == "ok    app: 'blog', 1 task in this store; here too: 'shop', 1 task"


def test_an_app_under_a_new_name_adopts_its_tasks_from_the_shell(make_app):
    waiting = submit(make_app("app", runner="external"))
    renamed = make_app("studio")
    shell = renamed.test_cli_runner()

    unknown = shell.invoke(args=["bgtasks", "adopt", "nobody"])
    assert unknown.exit_code == 1
    assert "'nobody' is not another app in this store. This is 'studio'; others: 'app'" in unknown.output
    assert shell.invoke(args=["bgtasks", "adopt", "studio"]).exit_code == 1
    adopted = shell.invoke(args=["bgtasks", "adopt", "app"])

    assert adopted.output == "tasks that were of 'app' and are of 'studio' now: 1\n"
    state_of(renamed).lifecycle.start()
    assert TaskHandle(state_of(renamed), waiting.request_id).wait(timeout=PATIENCE) == "studio"


# -- two apps of one process -------------------------------------------------------------------------------------------


def test_two_apps_alive_with_one_id_and_one_store_are_warned_of_once(make_app, caplog):
    made = [make_app("twins", store="sqlite:///twins.sqlite3") for _ in range(4)]

    (message,) = said(caplog)
    for part in ("'twins'", "twins.sqlite3", "BGTASKS_APP_ID"):
        assert part in message
    assert len(made) == 4


@pytest.mark.parametrize(
    "others",
    [
        {"store": "memory://"},
        {"store": "sqlite:///b.sqlite3"},
        {"store": "sqlite:///a.sqlite3", "app_id": "another"},
    ],
    ids=["memory", "another file", "another id"],
)
def test_apps_that_share_nothing_are_not_warned_of(make_app, caplog, others):
    first = make_app("quiet", **{**others, "store": others["store"].replace("b.", "a."), "app_id": "quiet"})
    second = make_app("quiet", **others)

    assert said(caplog) == []
    assert first is not second


def test_apps_that_were_made_one_after_another_are_not_warned_of(tmp_path, caplog):
    gc.disable()  # they are found to be gone all the same
    try:
        for _ in range(5):
            make("serial", tmp_path, store="sqlite:///serial.sqlite3")
    finally:
        gc.enable()

    assert said(caplog) == []


def test_an_app_that_was_closed_is_not_warned_of(make_app, caplog):
    first = make_app("closed", store="sqlite:///closed.sqlite3")
    state_of(first).close(grace=1)
    make_app("closed", store="sqlite:///closed.sqlite3")

    assert said(caplog) == []


def test_the_worker_of_an_app_is_no_twin_of_it(make_app, caplog):
    app = make_app("single", store="sqlite:///single.sqlite3")
    _own_state(app, 1, None)

    assert said(caplog) == []


# -- stores of plugins -------------------------------------------------------------------------------------------------


class OneStore:
    """A plugin that gives every app the same store."""

    name = "one-store"

    def __init__(self):
        self.store = MemoryStore()

    @hookimpl
    def bgtasks_open_store(self, url):
        return self.store if url.startswith("one:") else None


def test_a_store_of_a_plugin_is_told_whose_it_is_and_refused_to_another_app(tmp_path):
    plugin = OneStore()

    def make_with(app_id):
        bgtasks = BackgroundTasks()
        bgtasks.register(plugin)
        app = Flask(app_id, instance_path=str(tmp_path))
        bgtasks.init_app(app, store="one:")
        return app

    assert state_of(make_with("shop")).store.app_id == "shop"
    assert state_of(make_with("shop")).store is plugin.store
    with pytest.raises(ConfigurationError, match=r"opened for app 'blog' belongs to app 'shop'.*settings\.app_id"):
        make_with("blog")
