"""Setting the extension up: what init_app does, and what it refuses."""

import threading

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, ConfigurationError, ShuttingDown, hookimpl
from flask_bgtasks.runners.threads import ThreadRunner
from flask_bgtasks.stores.types import Attempt
from tests.support.waiting import PATIENCE


def test_init_app_starts_no_thread_and_opens_no_file(tmp_path):
    before = threading.active_count()
    BackgroundTasks(Flask("quiet", instance_path=str(tmp_path / "instance")))

    assert threading.active_count() == before
    assert list((tmp_path / "instance").iterdir()) == []


def test_a_second_init_app_is_refused_with_the_mend(make_app, bg):
    app = make_app()

    with pytest.raises(ConfigurationError, match="call init_app once"):
        bg.init_app(app)


def test_two_apps_share_an_extension_object_and_nothing_else(make_app, bg, tmp_path):
    @bg.task
    def generate():
        return 1

    one, two = make_app(), make_app()
    with one.app_context():
        handle = generate.submit()
        handle.wait(timeout=PATIENCE)

    assert two.extensions["bgtasks"].store.stats().by_status == {}


def test_an_app_without_init_app_says_so(bg):
    @bg.task
    def generate(): ...

    with Flask("bare").app_context(), pytest.raises(ConfigurationError, match=r"call bgtasks\.init_app\(app\)"):
        generate.submit()


def test_settings_come_from_the_environment_by_flasks_own_way(monkeypatch, tmp_path):
    app = Flask("env", instance_path=str(tmp_path))
    monkeypatch.setenv("FLASK_BGTASKS_WORKERS", "7")
    monkeypatch.setenv("FLASK_BGTASKS_STORE", "memory://")
    app.config.from_prefixed_env()
    BackgroundTasks(app)

    assert app.extensions["bgtasks"].settings.workers == 7


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"store": "sqllite:///x.db"},
            r"BGTASKS_STORE='sqllite:///x.db': unknown scheme 'sqllite'. Did you mean 'sqlite'\? Known here: .*memory",
        ),
        ({"store": "mysql://user:s3cret@host/db"}, r"user:\*\*\*@host/db"),
        ({"store": "sqlite://"}, "Use 'memory://'"),
        (
            {"runner": "dramatic"},
            r"BGTASKS_RUNNER='dramatic': there is no such runner. Did you mean 'dramatiq'\? "
            "Known here: celery, dramatiq, external, http, huey, inline, rq, threads",
        ),
        ({"sinks": ["memroy"]}, "no sink is called 'memroy'.*Did you mean 'memory'"),
    ],
)
def test_a_part_that_is_not_there_is_refused_with_what_there_is(bg, tmp_path, settings, says):
    app = Flask("wrong", instance_path=str(tmp_path))

    with pytest.raises(ConfigurationError, match=says) as refused:
        bg.init_app(app, **settings)
    assert "s3cret" not in str(refused.value)


def test_an_instance_folder_that_cannot_be_made_is_refused_with_the_mend(bg, tmp_path):
    (tmp_path / "file").write_text("in the way")
    app = Flask("stuck", instance_path=str(tmp_path / "file" / "instance"))

    with pytest.raises(ConfigurationError, match="cannot be made.*Give the app an instance_path"):
        bg.init_app(app)


def test_an_instance_folder_that_cannot_be_written_is_refused(bg, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "flask_bgtasks.app.builtin_plugins.os.access", lambda path, mode: False
    )  # root may write everywhere
    app = Flask("readonly", instance_path=str(tmp_path))

    with pytest.raises(ConfigurationError, match="cannot be written by this user"):
        bg.init_app(app)


def test_a_plugin_with_a_hook_that_does_not_exist_is_refused(make_app, bg):
    class Wrong:
        @hookimpl
        def bgtasks_task_evnt(self, task): ...

    bg.register(Wrong())
    with pytest.raises(ConfigurationError, match="bgtasks_task_evnt"):
        make_app()


def test_two_plugins_of_one_name_are_refused(make_app, bg):
    class Sink:
        name = "same"

    bg.register(Sink())
    bg.register(Sink())
    with pytest.raises(ConfigurationError, match="a plugin called 'same' is registered already"):
        make_app()


def test_a_plugin_registered_later_is_told_of_what_comes(make_app, bg):
    app, told = make_app(), threading.Event()

    class Sink:
        @hookimpl
        def bgtasks_task_event(self, event):
            if event.type.value == "completed":
                told.set()

    @bg.task
    def generate():
        return 1

    with app.app_context():
        bg.register(Sink())
        generate.submit().wait(timeout=PATIENCE)

    assert told.wait(PATIENCE)


def test_owner_loader_wins_and_is_asked_in_the_request(make_app, bg):
    from flask import request

    @bg.owner_loader
    def owner():
        return request.headers.get("X-User")

    app = make_app()

    @app.post("/process")
    @bg.background
    def process():
        return {}

    client = app.test_client()
    accepted = client.post("/process", headers={"X-User": "ada"})

    assert client.get(accepted.location, headers={"X-User": "ada"}).status_code == 200
    assert client.get(accepted.location, headers={"X-User": "eve"}).status_code == 404
    assert client.get(accepted.location).status_code == 404


def test_a_login_that_nobody_reads_is_warned_of(make_app, caplog):
    app = make_app()
    app.extensions["flask-jwt-extended"] = object()
    app.test_client().get("/tasks/health")

    assert "does not know how to name the owner" in caplog.text


def test_a_stopping_process_takes_no_more_work(make_app, bg):
    app = make_app()

    @bg.task
    def generate(): ...

    app.extensions["bgtasks"].runner.stop(1)
    with app.app_context(), pytest.raises(ShuttingDown):
        generate.submit()
    assert app.extensions["bgtasks"].store.stats().by_status == {}


def test_the_setting_says_how_many_threads_run_tasks(make_app):
    runner = make_app(workers=9).extensions["bgtasks"].runner

    assert isinstance(runner, ThreadRunner)
    assert runner._workers == 9


def test_steps_are_learnt_over_runs_and_give_a_remaining_time(make_app, bg):
    app = make_app(store="sqlite:///learn.sqlite3")

    @bg.task
    def generate():
        from flask_bgtasks import step

        with step("Read"):
            pass
        with step("Write"):
            pass

    with app.app_context():
        for _ in range(3):
            handle = generate.submit()
            handle.wait(timeout=PATIENCE)
        first = handle.task
        generate.submit().wait(timeout=PATIENCE)
        store, waiting = app.extensions["bgtasks"].store, threading.Event()
        while (learnt := store.load_durations("generate"))["Read"].runs < 4:  # learnt right after the end
            waiting.wait(0.001)

    assert first.progress.total_steps is None
    assert list(learnt) == ["Read", "Write"]
    plan = app.extensions["bgtasks"].engine._claims._running(Attempt(first, {}, {}), bg.registry["generate"], 0.0).plan
    assert plan.total_steps == 2


def test_closing_an_app_ends_its_threads(make_app, bg):
    app, before = make_app(), set(threading.enumerate())

    @bg.task
    def generate():
        return 1

    with app.app_context():
        generate.submit().wait_until_done(timeout=PATIENCE)
    mine = set(threading.enumerate()) - before
    app.extensions["bgtasks"].close(grace=10)

    assert mine
    for thread in mine:
        thread.join(10)
        assert not thread.is_alive(), thread.name


def test_what_another_process_left_owed_is_delivered_from_the_first_request_on(make_app):
    from flask_bgtasks.stores.types import NewDelivery

    app = make_app()
    state = app.extensions["bgtasks"]
    state.store.add_delivery(NewDelivery("memory", "notification", {"title": "late", "body": "", "user_token": "t"}))
    app.test_client().get("/tasks/health")

    (sent,) = state.plugins.get("memory").wait_for(lambda s: s.notifications)
    assert sent.title == "late"
