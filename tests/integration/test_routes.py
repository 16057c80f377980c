"""Our routes beside the app's own: conflicts, hosts and subdomains."""

import pytest
from flask import Blueprint, Flask, g

from flask_bgtasks import BackgroundTasks, ConfigurationError, Status, TaskHandle
from tests.support.waiting import PATIENCE


def view(**kwargs):
    return "mine"


# -- conflicts


@pytest.mark.parametrize(
    ("rule", "methods"),
    [
        ("/tasks", ["GET"]),
        ("/tasks", ["POST"]),
        ("/tasks/", ["GET"]),
        ("/tasks/<int:number>", ["GET"]),
        ("/tasks/<uuid:task_id>", ["DELETE"]),
        ("/tasks/<path:rest>", ["GET"]),
        ("/tasks/stats", ["GET"]),
        ("/tasks/<string(length=36):key>/events", ["GET"]),
        ("/tasks/<name>/cancel/", ["POST"]),
        ("/tasks/client/<path:file>", ["GET"]),
    ],
)
def test_a_route_of_the_app_at_an_address_of_ours_is_refused_with_both_and_the_setting(make_app, bg, rule, methods):
    app = make_app(init=False)
    app.add_url_rule(rule, "app_tasks", view, methods=methods)

    with pytest.raises(ConfigurationError) as refused:
        bg.init_app(app, store="memory://")

    says = str(refused.value)
    assert repr(rule) in says
    assert "'app_tasks'" in says
    assert "'bgtasks." in says
    assert "BGTASKS_URL_PREFIX" in says


def test_the_setting_moves_ours_out_of_the_way(make_app, bg):
    app = make_app(init=False)
    app.add_url_rule("/tasks", "app_tasks", view)

    with pytest.raises(ConfigurationError):
        bg.init_app(app, store="memory://")
    bg.init_app(app, store="memory://", url_prefix="/background-tasks")

    client = app.test_client()
    assert client.get("/tasks").text == "mine"
    assert client.get("/background-tasks/health").status_code == 200


@pytest.mark.parametrize(
    "rule",
    ["/<path:page>", "/<section>/<item>", "/tasks/new", "/tasks/<name>/files", "/tasks2", "/api/tasks", "/tasks/a/b/c"],
)
def test_a_route_that_ours_leave_alone_is_no_conflict(make_app, bg, rule):
    app = make_app(init=False)
    app.add_url_rule(rule, "page", view)
    bg.init_app(app, store="memory://")
    app.testing = True

    assert app.test_client().get("/tasks/health").status_code == 200


# -- hosts


def build(folder, *, late, app_options, rule_options, config=None, catch_all=False):
    """An app with a view in one of its hosts or subdomains, registered before or after init_app."""
    app = Flask("hosts", instance_path=str(folder), static_folder=None, **app_options)
    app.config.update({"SECRET_KEY": "x", **(config or {})})
    bg = BackgroundTasks()

    def add():
        @app.post("/process", **rule_options)
        @bg.background
        def process(**kwargs):
            return {"kwargs": kwargs, "tenant": g.get("tenant")}

        @app.post("/plain", endpoint="plain", **rule_options)
        def plain(**kwargs):
            return {"kwargs": kwargs}

        if catch_all:
            app.add_url_rule("/<path:page>", "page", view, **rule_options)

    if not late:
        add()
    bg.init_app(app, store="memory://", endpoints=["plain"])
    if late:
        add()
    return app


HOSTS = {"app_options": {"host_matching": True}, "rule_options": {"host": "a.example.com"}}
SUBDOMAINS = {
    "app_options": {"subdomain_matching": True},
    "rule_options": {"subdomain": "a"},
    "config": {"SERVER_NAME": "example.com"},
}


@pytest.mark.parametrize("late", [False, True], ids=["before init_app", "after it"])
@pytest.mark.parametrize("how", [HOSTS, SUBDOMAINS], ids=["host_matching", "subdomain_matching"])
def test_tasks_are_accepted_run_and_followed_on_every_host(tmp_path, how, late):
    app = build(tmp_path, late=late, **how)
    client = app.test_client()

    for path in ("/process", "/plain"):
        accepted = client.post(path, base_url="http://a.example.com", headers={"Prefer": "respond-async"})
        assert accepted.status_code == 202
        task = TaskHandle(app.extensions["bgtasks"], accepted.headers["Task-Id"]).wait_until_done(timeout=PATIENCE)
        assert task.status is Status.COMPLETED, task.error_message
        for host in ("a.example.com", "b.example.com", "example.com"):
            assert client.get(accepted.location, base_url=f"http://{host}").status_code == 200
            assert client.get(accepted.location + "/result", base_url=f"http://{host}").status_code == 200
            assert client.put(accepted.location, base_url=f"http://{host}").status_code == 405
    app.extensions["bgtasks"].close(grace=5)


@pytest.mark.parametrize("how", [HOSTS, SUBDOMAINS], ids=["host_matching", "subdomain_matching"])
def test_a_page_for_whatever_has_no_other_does_not_shadow_ours_on_its_host(tmp_path, how):
    app = build(tmp_path, late=False, catch_all=True, **how)
    client = app.test_client()

    assert client.get("/anything", base_url="http://a.example.com").text == "mine"
    assert client.get("/tasks/health", base_url="http://a.example.com").get_json()["status"] == "ok"
    app.extensions["bgtasks"].close(grace=5)


@pytest.mark.parametrize("how", [HOSTS, SUBDOMAINS], ids=["host_matching", "subdomain_matching"])
def test_such_a_page_on_a_host_that_is_named_later_is_told_of(tmp_path, caplog, how):
    app = build(tmp_path, late=True, catch_all=True, **how)

    app.test_client().get("/tasks/health", base_url="http://example.com")

    assert "the app's route '/<path:page>' (endpoint 'page') answers requests for '/tasks/health'" in caplog.text
    app.extensions["bgtasks"].close(grace=5)


@pytest.mark.parametrize(
    "how",
    [
        {"app_options": {"host_matching": True}, "rule_options": {"host": "<tenant>.example.com"}},
        {"app_options": {"host_matching": True}, "rule_options": {"host": "<request_id>.example.com"}},
        {**SUBDOMAINS, "rule_options": {"subdomain": "<tenant>"}},
    ],
    ids=["host", "a variable of ours", "subdomain"],
)
def test_hosts_with_variables_reach_the_app_and_not_our_views(tmp_path, how):
    app = build(tmp_path, late=False, **how)
    seen = []

    @app.url_value_preprocessor
    def pull_tenant(endpoint, values):
        seen.append(values.pop("tenant", None))

    client = app.test_client()
    accepted = client.post("/process", base_url="http://school.example.com")
    done = TaskHandle(app.extensions["bgtasks"], accepted.headers["Task-Id"]).wait_until_done(timeout=PATIENCE)

    assert done.status is Status.COMPLETED, done.error_message
    assert client.get(accepted.location, base_url="http://school.example.com").status_code == 200
    if "<tenant>" in str(how):
        assert set(seen) == {"school"}
    app.extensions["bgtasks"].close(grace=5)


def test_a_host_may_carry_a_port(tmp_path):
    app = build(tmp_path, late=False, app_options={"host_matching": True}, rule_options={"host": "localhost:5000"})

    assert app.test_client().get("/tasks/health", base_url="http://localhost:5000").status_code == 200
    assert app.test_client().get("/tasks/health", base_url="http://[::1]:8080").status_code == 200


@pytest.mark.parametrize("how", [HOSTS, SUBDOMAINS], ids=["host_matching", "subdomain_matching"])
def test_a_conflict_on_one_host_is_a_conflict(tmp_path, how):
    app = Flask("hosts", instance_path=str(tmp_path), static_folder=None, **how["app_options"])
    app.config.update(how.get("config", {}))
    app.add_url_rule("/tasks", "app_tasks", view, **how["rule_options"])

    with pytest.raises(ConfigurationError, match="'app_tasks'"):
        BackgroundTasks(app, store="memory://")


# -- a call of init_app that failed


class Broken:
    """A plugin that fails where commands are added, until it is mended."""

    broken = True

    def __init__(self):
        from flask_bgtasks import hookimpl

        self.__class__.bgtasks_register_commands = hookimpl(self.__class__.bgtasks_register_commands)

    def bgtasks_register_commands(self, group):
        if self.broken:
            raise RuntimeError("not now")


def taken_route(app, bg):
    app.add_url_rule("/tasks", "app_tasks", view)
    return {}, {"url_prefix": "/background"}


def taken_name(app, bg):
    app.add_url_rule("/process", "process", view)

    @app.post("/other")
    @bg.background(name="process")
    def other(): ...

    return {"endpoints": ["process"]}, {}


def taken_blueprint(app, bg):
    app.register_blueprint(Blueprint("bgtasks", __name__))
    return {}, lambda: app.blueprints.pop("bgtasks")


def broken_plugin(app, bg):
    plugin = Broken()
    bg.register(plugin)
    return {}, lambda: setattr(plugin, "broken", False)


def unknown_setting(app, bg):
    return {"colour": "blue"}, {}


def unknown_store(app, bg):
    return {"store": "sqllite:///x.db"}, {}


def wrong_option(app, bg):
    app.add_url_rule("/process", "process", view)
    return {"endpoints": {"process": {"steps": [""]}}}, {"endpoints": {"process": {"steps": ["Write"]}}}


def decorated_twice(app, bg):
    app.add_url_rule("/fine", "fine", view)
    app.add_url_rule("/process", "process", bg.background(name="process")(view))
    return {"endpoints": ["fine", "process"]}, {"endpoints": ["fine"]}


FAULTS = [
    taken_route,
    taken_name,
    taken_blueprint,
    broken_plugin,
    unknown_setting,
    unknown_store,
    wrong_option,
    decorated_twice,
]


def registered(app):
    """Everything that a call may have left with an app."""
    return {
        "extensions": dict(app.extensions),
        "blueprints": dict(app.blueprints),
        "views": dict(app.view_functions),
        "rules": [(rule.rule, rule.endpoint) for rule in app.url_map.iter_rules()],
        "before": {key: list(value) for key, value in app.before_request_funcs.items() if value},
        "after": {key: list(value) for key, value in app.after_request_funcs.items() if value},
        "values": {key: list(value) for key, value in app.url_value_preprocessors.items() if value},
        "errors": {key: dict(value) for key, value in app.error_handler_spec.items() if any(value.values())},
        "commands": dict(app.cli.commands),
    }


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_failed_init_app_leaves_nothing_behind_and_can_be_repeated(make_app, bg, fault):
    app = make_app(init=False)
    wrong, mended = fault(app, bg)
    before = registered(app)

    with pytest.raises((ConfigurationError, RuntimeError)):
        bg.init_app(app, **{"store": "memory://", "cors_origins": ["*"], **wrong})
    assert registered(app) == before

    if callable(mended):
        mended()
        mended = {}
    bg.init_app(app, **{"store": "memory://", **mended})
    prefix = mended.get("url_prefix", "/tasks")
    assert app.test_client().get(f"{prefix}/health").status_code == 200
    for endpoint in mended.get("endpoints", ()):
        assert app.test_client().get(f"/{endpoint}").headers["Task-Id"]


def test_an_app_that_has_answered_requests_is_refused_with_a_sentence(make_app, bg):
    app = make_app(init=False)
    app.test_client().get("/")

    with pytest.raises(ConfigurationError, match="has answered requests already: call init_app where the app is made"):
        bg.init_app(app)
    assert "bgtasks" not in app.extensions
