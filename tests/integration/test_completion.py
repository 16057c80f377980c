"""Views that are registered after init_app, and what is wrong with them: said where an app is complete."""

import json
import logging
import threading

import pytest
from flask import Blueprint, Flask, jsonify
from flask.views import MethodView

from flask_bgtasks import BackgroundTasks, ConfigurationError, Status, TaskHandle, TaskOptions, step
from flask_bgtasks.cli import worker as worker_module
from flask_bgtasks.runtime.server import Server
from tests.support.waiting import PATIENCE


@pytest.fixture
def make(tmp_path):
    """Makes apps as separate processes would have them: an extension object each, one store."""
    made = []

    def build(*, view=True, **settings):
        app = Flask("late", instance_path=str(tmp_path / "instance"))
        app.bg = BackgroundTasks()
        app.bg.init_app(app, **{"endpoints": ["process"], "sinks": ["memory"], **settings})
        if view:

            @app.post("/process")
            def process():
                return {"by": "the late view"}

        made.append(app)
        return app

    yield build
    for app in made:
        app.extensions["bgtasks"].close(grace=5)


def accepted_elsewhere(make):
    """A task that a web process has accepted and left to others; its handle."""
    web = make(runner="external")
    answer = web.test_client().post("/process", headers={"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    return TaskHandle(web.extensions["bgtasks"], answer.headers["Task-Id"])


# -- when an app is complete


def test_a_worker_process_runs_the_tasks_of_a_view_that_was_registered_after_init_app(make):
    handle, worker = accepted_elsewhere(make), make()

    state = worker_module._own_state(worker, 1, None)
    state.lifecycle.start()

    assert handle.wait_until_done(timeout=PATIENCE).status is Status.COMPLETED


def test_a_server_process_without_a_request_runs_them_once_the_app_is_complete(make):
    handle, other, complete = accepted_elsewhere(make), make(), threading.Event()
    lifecycle = other.extensions["bgtasks"].lifecycle

    lifecycle.start(Server(complete.is_set, lambda: False, own_signals=True))
    assert not other.extensions["bgtasks"].registry
    complete.set()

    assert handle.wait_until_done(timeout=PATIENCE).status is Status.COMPLETED


def test_start_runs_them(make):
    handle, other = accepted_elsewhere(make), make()

    other.bg.start(other)

    assert handle.wait_until_done(timeout=PATIENCE).status is Status.COMPLETED


def test_a_runner_that_is_given_only_the_id_finds_the_view(make):
    handle, other = accepted_elsewhere(make), make(runner="external")

    other.extensions["bgtasks"].engine.run(handle.request_id)  # as Celery or RQ do it

    assert handle.task.status is Status.COMPLETED


def test_a_decorated_view_registered_later_is_run_by_a_process_without_a_request(make):
    def add(app):
        blueprint = Blueprint("lessons", __name__)

        @blueprint.post("/lesson")
        @app.bg.background
        def lesson():
            return {}

        app.register_blueprint(blueprint)
        return app

    web, other = add(make(runner="external")), add(make())
    answer = web.test_client().post("/lesson")

    other.bg.start(other)

    handle = TaskHandle(web.extensions["bgtasks"], answer.headers["Task-Id"])
    assert handle.wait_until_done(timeout=PATIENCE).status is Status.COMPLETED


def test_two_first_requests_at_once_are_both_tasks_and_the_view_is_wrapped_once(make):
    app = make()
    wrapped, original = [], app.extensions["bgtasks"].completion._wrapper
    first, go_on = threading.Event(), threading.Event()

    def slow(definition, view):
        wrapped.append(view)
        first.set()
        assert go_on.wait(PATIENCE)
        return original(definition, view)

    app.extensions["bgtasks"].completion._wrapper = slow
    answers = []

    def ask():
        answers.append(app.test_client().post("/process"))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert first.wait(PATIENCE)
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE)

    assert len(wrapped) == 1
    assert len({answer.headers["Task-Id"] for answer in answers}) == 4


# -- endpoints with options


def test_an_endpoint_may_have_the_options_of_its_task(make_app, finished):
    refused = []

    def check():
        if refused:
            return jsonify(error="no"), 422
        return None

    app = make_app(endpoints={"process": {"steps": ["Read", "Write"], "notify": "ready", "validate": check}})

    @app.post("/process")
    def process():
        with step("Read"):
            pass
        with step("Write"):
            return {"done": True}

    client = app.test_client()
    task = finished(app, client.post("/process", headers={"Prefer": "respond-async"}))
    refused.append(True)

    assert task.progress.total_steps == 2
    assert client.post("/process").status_code == 422
    assert app.extensions["bgtasks"].plugins.get("memory").wait_for(lambda s: s.notifications)[0].title == "ready"


def test_options_may_stand_in_the_config_and_name_the_task(make_app, bg):
    app = make_app(init=False)
    app.config["BGTASKS_ENDPOINTS"] = {"process": {"name": "lesson", "respond": "async"}, "other": {}}
    for endpoint in ("process", "other"):
        app.add_url_rule(f"/{endpoint}", endpoint, lambda: "done", methods=["POST"])
    bg.init_app(app, store="memory://")

    client = app.test_client()

    assert client.post("/process").status_code == 202
    assert client.post("/other").status_code == 200
    assert sorted(app.extensions["bgtasks"].registry) == ["lesson", "other"]


@pytest.mark.parametrize(
    ("endpoints", "says"),
    [
        ({"process": {"respond": "later"}}, "task 'process': respond='later'"),
        ({"process": {"retires": 3}}, r"BGTASKS_ENDPOINTS\['process'\]: .*retires"),
        ({"process": {"guards": ["login_required"]}}, "guards: 'login_required' cannot be called"),
        ({"process": {"validate": "check"}}, "cannot be called"),
        ({"process": {"steps": [""]}}, "is not a step"),
        ({"process": ["steps"]}, "expected a mapping of the task's options"),
        ({"process": {1: 2}}, "expected a mapping of the task's options"),
        ({1: {}}, "is not the name of an endpoint"),
    ],
)
def test_wrong_options_are_refused_at_once(make_app, bg, endpoints, says):
    app = make_app(init=False)

    with pytest.raises(ConfigurationError, match=says):
        bg.init_app(app, store="memory://", endpoints=endpoints)


@pytest.mark.parametrize("guards", ["login_required", 7, lambda view: view, {1: 2}])
def test_guards_are_a_list_of_decorators(guards):
    with pytest.raises(ConfigurationError, match="guards"):
        TaskOptions(guards=guards)


def test_a_decorated_view_is_not_wrapped_twice(make_app, bg):
    app = make_app(init=False)

    @app.post("/process")
    @bg.background(name="other")
    def process(): ...

    with pytest.raises(ConfigurationError, match="'process' is under @background already"):
        bg.init_app(app, store="memory://", endpoints=["process"])


# -- what is wrong: a misspelt endpoint


def misspelt(make):
    """An endpoint that no view has."""
    return make(endpoints=["process", "proces"])


def shadowed(make):
    """A route of the app's own at an address of ours, added later."""
    app = make()
    app.add_url_rule("/tasks/<int:number>", "show_task", lambda number: "mine")
    return app


def doubled(make):
    """Two views whose tasks have one name."""
    app = make()
    for n in (1, 2):
        app.add_url_rule(f"/{n}", f"v{n}", app.bg.background(name="same")(lambda: str(1)), methods=["POST"])
    return app


@pytest.mark.parametrize(
    ("fault", "names"),
    [(misspelt, "no view has the endpoint 'proces'"), (shadowed, "'show_task'"), (doubled, "are called 'same'")],
)
def test_a_fault_is_logged_once_and_requests_are_answered_as_ever(make, caplog, fault, names):
    client = fault(make).test_client()

    answers = [client.post("/process") for _ in range(3)]
    health = client.get("/tasks/health")

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert all("Task-Id" in answer.headers for answer in answers)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert names in errors[0]
    assert health.status_code == 503


def test_health_names_a_misspelt_endpoint_and_no_other(make):
    health = misspelt(make).test_client().get("/tasks/health")

    assert health.status_code == 503
    assert "endpoint 'proces'" in health.get_json()["checks"]["setup"]
    assert "Known here" not in health.text


@pytest.mark.parametrize("fault", [misspelt, shadowed, doubled])
@pytest.mark.parametrize("flag", ["testing", "debug"])
def test_a_test_and_a_debugger_see_a_fault_at_once(make, fault, flag):
    app = fault(make)
    setattr(app, flag, True)

    with pytest.raises(ConfigurationError):
        app.test_client().post("/process")


@pytest.mark.parametrize("fault", [misspelt, shadowed, doubled])
def test_a_worker_does_not_start_with_a_fault(make, fault):
    with pytest.raises(ConfigurationError):
        worker_module.serve(fault(make), say=print)


@pytest.mark.parametrize("fault", [misspelt, shadowed, doubled])
def test_start_refuses_a_fault(make, fault):
    app = fault(make)

    with pytest.raises(ConfigurationError):
        app.bg.start(app)


@pytest.mark.parametrize("fault", [misspelt, shadowed, doubled])
def test_doctor_reports_a_fault(make, fault):
    found = fault(make).test_cli_runner().invoke(args=["bgtasks", "doctor", "--json"])

    assert found.exit_code == 1
    failed = [finding for finding in json.loads(found.output) if finding["level"] == "FAIL"]
    assert len(failed) == 1
    assert failed[0]["what"].startswith("setup: ")


def test_a_server_says_a_fault_before_its_first_request(make, caplog):
    app = misspelt(make)

    app.extensions["bgtasks"].lifecycle.start(Server(lambda: True, lambda: False, own_signals=True))

    deadline = threading.Event()
    for _ in range(2000):
        if "no view has the endpoint 'proces'" in caplog.text:
            break
        deadline.wait(0.01)
    assert "no view has the endpoint 'proces'" in caplog.text


# -- decorators in the wrong order


def route_of_the_app(app, bg):
    @bg.background
    @app.post("/process")
    def process():
        return "ran"


def route_of_a_blueprint(app, bg):
    blueprint = Blueprint("lessons", __name__)

    @bg.background
    @blueprint.post("/process")
    def process():
        return "ran"

    app.register_blueprint(blueprint)


def route_with_options(app, bg):
    @bg.background(steps=["Write"])
    @app.route("/process", methods=["POST"])
    def process():
        return "ran"


def with_another_decorator_between(app, bg):
    def other(view):
        def call(**kwargs):
            return view(**kwargs)

        call.__wrapped__ = view
        call.__name__ = view.__name__
        return call

    @bg.background
    @other
    @app.post("/process")
    def process():
        return "ran"


def above_a_guard(app, bg):
    def guard(view):
        return lambda **kwargs: view(**kwargs)

    @bg.background(name="process")
    @app.post("/process", endpoint="process")
    @guard
    def process():
        return "ran"


def added_by_a_call(app, bg):
    def process():
        return "ran"

    app.add_url_rule("/process", view_func=process, methods=["POST"])
    bg.background(process)


MISPLACED = [
    route_of_the_app,
    route_of_a_blueprint,
    route_with_options,
    with_another_decorator_between,
    above_a_guard,
    added_by_a_call,
]


@pytest.mark.parametrize("add", MISPLACED, ids=lambda add: add.__name__)
def test_background_above_the_route_is_warned_of_once(make_app, bg, caplog, add):
    app = make_app()
    add(app, bg)
    client = app.test_client()

    assert [client.post("/process").text for _ in range(2)] == ["ran", "ran"]

    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "does nothing" in warnings[0]
    assert f"{add.__name__}.<locals>." in warnings[0]
    assert "'@app.post(…)' first and '@bgtasks.background' below" in warnings[0]


def test_doctor_reports_background_above_the_route(make_app, bg):
    app = make_app()
    route_of_the_app(app, bg)

    found = json.loads(app.test_cli_runner().invoke(args=["bgtasks", "doctor", "--json"]).output)

    (finding,) = [finding for finding in found if finding["what"] == "decorators: process"]
    assert finding["level"] == "warn"
    assert "does nothing" in finding["mend"]


class Lesson(MethodView):
    def post(self):
        return "ran"


def test_decorators_in_the_right_order_are_not_warned_of(make_app, bg, caplog):
    app = make_app()

    def guard(view):
        return lambda **kwargs: view(**kwargs)

    @app.post("/one")
    @bg.background
    @guard
    def one():
        return ""

    @app.post("/two", endpoint="two")
    @guard
    @bg.background(name="two")
    def two():
        return ""

    class Three(MethodView):
        @bg.background(name="three")
        def post(self):
            return ""

    app.add_url_rule("/three", view_func=Three.as_view("three"))
    app.add_url_rule("/four", view_func=bg.background(name="four")(Lesson.as_view("four")))
    app.test_client().get("/tasks/health")

    assert "does nothing" not in caplog.text
