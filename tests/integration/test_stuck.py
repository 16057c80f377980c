"""Tasks whose function was renamed or removed: shown, cancelled at once, and failed after a long time."""

import json
from datetime import timedelta

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, Status
from flask_bgtasks.app import stuck


@pytest.fixture
def make(tmp_path):
    made = []

    def build(*names, **settings):
        app, bgtasks = Flask("studio", instance_path=str(tmp_path)), BackgroundTasks()
        app.secret_key = "x"
        for name in names:
            setattr(app, name, bgtasks.task(name=name)(lambda: None))
        bgtasks.init_app(app, **{"runner": "external", **settings})
        app.state = app.extensions["bgtasks"]
        made.append(app)
        return app

    yield build
    for app in made:
        app.state.close(grace=1)


@pytest.fixture
def renamed(make, monkeypatch):
    """A deploy after which nobody knows the task; and a task of that name."""
    with (before := make("draw")).app_context():
        task = before.draw.submit()
    before.state.close(grace=1)
    return make("paint"), task.request_id


@pytest.fixture
def no_grace(monkeypatch):
    monkeypatch.setattr(stuck.stuck_tasks, "__kwdefaults__", {"after": timedelta(0)})


def cli(app, *arguments):
    return app.test_cli_runner().invoke(args=["bgtasks", *arguments]).output


@pytest.mark.usefixtures("no_grace")
def test_health_names_it_and_the_process_stays_ready(renamed):
    answer = renamed[0].test_client().get("/tasks/health")

    assert (answer.status_code, answer.json["status"]) == (200, "degraded")
    assert answer.json["checks"]["tasks"] == "stuck: 'draw' (1)"


@pytest.mark.usefixtures("no_grace")
def test_the_doctor_names_it(renamed):
    found = json.loads(cli(renamed[0], "doctor", "--json"))

    (finding,) = [one for one in found if one["what"].startswith("stuck")]
    assert (finding["level"], finding["what"]) == ("warn", "stuck: 'draw' (1)")
    assert "keep its old name with name=" in finding["mend"]


@pytest.mark.usefixtures("no_grace")
def test_the_list_and_the_task_itself_say_so(renamed):
    app, request_id = renamed

    assert "(stuck: no function of this name is registered)" in cli(app, "list")
    assert "(stuck: no function of this name is registered)" in cli(app, "show", request_id)


def test_what_waits_for_less_than_the_grace_is_not_stuck(renamed):
    app, _ = renamed

    assert app.test_client().get("/tasks/health").json["status"] == "ok"
    assert "stuck" not in cli(app, "list")


@pytest.mark.usefixtures("no_grace")
def test_a_task_that_waits_for_a_thread_is_not_stuck(make):
    app = make("draw")
    with app.app_context():
        app.draw.submit()

    assert app.test_client().get("/tasks/health").json["status"] == "ok"


def test_cancelling_it_works_at_once(renamed):
    app, request_id = renamed

    assert "cancelled" in cli(app, "cancel", request_id)
    assert app.state.store.get(request_id).status is Status.CANCELLED


def test_cancelling_it_works_at_once_where_its_process_died_while_it_ran(renamed):
    app, request_id = renamed
    app.state.store.claim(request_id, worker="dead", lease=timedelta(seconds=60))
    app.state.cancel(request_id)
    app.state.store.expire_leases("dead")

    assert app.test_client().post(f"/tasks/{request_id}/cancel").status_code == 200
    assert app.state.store.get(request_id).status is Status.CANCELLED


def test_after_a_long_time_it_fails_with_its_name_said(renamed):
    app, request_id = renamed
    known = app.state.registry

    assert stuck.abandon(app.state.store, known, after=timedelta(hours=1), change=app.state.engine.change) == 0
    assert stuck.abandon(app.state.store, known, after=timedelta(0), change=app.state.engine.change) == 1

    task = app.state.store.get(request_id)
    assert (task.status, task.error_type) == (Status.FAILED, "UnknownTask")
    assert "no task is called 'draw' any more" in task.error_message


def test_a_task_that_somebody_runs_is_not_given_up(renamed):
    app, request_id = renamed
    app.state.store.claim(request_id, worker="other", lease=timedelta(seconds=60))

    assert stuck.abandon(app.state.store, set(), after=timedelta(0), change=app.state.engine.change) == 0


@pytest.mark.parametrize("seconds", [None, 604_800])
def test_the_look_out_ends_what_is_stuck_as_the_setting_says(make, renamed, seconds):
    app = make("paint", unknown_task_seconds=seconds)

    assert app.state.lifecycle.recovery._abandon() == 0
    assert app.state.store.get(renamed[1]).status is Status.STARTED
