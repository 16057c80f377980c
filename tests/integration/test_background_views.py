"""Views decorated with ``@background``: a run keeps everything that a view has."""

import io
import uuid

import pytest
from flask import Blueprint, Response, abort, g, jsonify, request
from flask.views import MethodView

from flask_bgtasks import (
    Status,
    current_task,
    step,
)

STORES = ["memory://", "sqlite:///tasks.sqlite3"]


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("runner", ["threads", "inline"])
def test_a_decorated_view_is_accepted_and_finishes(make_app, bg, finished, store, runner):
    app = make_app(store=store, runner=runner)

    @app.post("/process")
    @bg.background(steps=["Read", "Write"])
    def process():
        with step("Read"):
            text = request.get_json()["text"]
        with step("Write"):
            return {"text": text.upper()}

    client = app.test_client()
    response = client.post("/process", json={"text": "häuser"})
    assert response.status_code == 202
    task = finished(app, response)

    assert task.status is Status.COMPLETED
    assert task.progress.percentage == 100.0
    assert client.get(response.location + "/result").get_json() == {"text": "HÄUSER"}
    assert client.get(response.location).get_json()["result_data"] == {"text": "HÄUSER"}


def test_an_old_test_passes_with_prefer_wait(make_app, bg):
    app = make_app()

    @app.post("/double/<int:n>")
    @bg.background
    def double(n):
        return jsonify(n * 2), 201

    response = app.test_client().post("/double/4", headers={"Prefer": "wait=60"})

    assert (response.status_code, response.get_json()) == (201, 8)


@pytest.fixture
def run(make_app, bg, finished):
    """Wraps a view, sends it a request, and gives the stored answer of its run."""

    def go(view, *, rule="/process", path=None, app=None, options=None, **kwargs):
        app = app or make_app()
        app.add_url_rule(rule, view_func=bg.background(view, **(options or {})), methods=["POST"])
        client = app.test_client()
        accepted = client.post(path or rule, **kwargs)
        assert accepted.status_code == 202, accepted.data
        finished(app, accepted)
        return client.get(accepted.location + "/result"), client.get(accepted.location).get_json()

    return go


def test_url_parameters_and_converters_are_kept(run):
    def process(kind, uid):
        return {"kind": kind, "uid": str(uid), "query": request.args.getlist("q")}

    uid = uuid.uuid4()
    result, _ = run(process, rule="/<any(a,b):kind>/<uuid:uid>", path=f"/b/{uid}?q=1&q=ü")

    assert result.get_json() == {"kind": "b", "uid": str(uid), "query": ["1", "ü"]}


def test_forms_and_uploads_are_kept(run):
    def process():
        upload = request.files["file"]
        return {"name": request.form["name"], "file": upload.filename, "size": len(upload.read())}

    data = {"name": "Ada", "file": (io.BytesIO(bytes(range(256)) * 10), "röntgen.png")}
    result, _ = run(process, data=data, content_type="multipart/form-data")

    assert result.get_json() == {"name": "Ada", "file": "röntgen.png", "size": 2560}


@pytest.mark.parametrize("content_type", ["multipart/form-data", "application/x-www-form-urlencoded"])
def test_a_form_that_was_read_before_the_view_is_kept(run, make_app, content_type):
    app = make_app()

    @app.before_request
    def look_at_the_form():
        _ = request.form.get("token")

    def process():
        files = {key: upload.read().decode() for key, upload in request.files.items()}
        return {"fields": request.form.to_dict(flat=False), "files": files}

    data = {"token": ["a", "ü"]}
    uploads = {"file": (io.BytesIO(b"body"), "x.txt")} if content_type.startswith("multipart") else {}
    result, _ = run(process, app=app, data={**data, **uploads}, content_type=content_type)

    assert result.get_json() == {"fields": data, "files": {"file": "body"} if uploads else {}}


def test_a_path_with_quoted_characters_is_kept(run):
    result, _ = run(
        lambda name: name, rule="/process/<name>", path="/process/a%3Fb%25c%20%C3%BC", options={"name": "p"}
    )

    assert result.data.decode() == "a?b%c ü"


@pytest.mark.parametrize(
    ("returned", "status", "content_type", "body"),
    [
        ("text", 200, "text/html; charset=utf-8", b"text"),
        (b"\x00\xff", 200, "text/html; charset=utf-8", b"\x00\xff"),
        (("made", 201), 201, "text/html; charset=utf-8", b"made"),
        (("csv", 200, {"Content-Type": "text/csv"}), 200, "text/csv", b"csv"),
        ([1, 2], 200, "application/json", b"[1,2]\n"),
        (Response(b"png", mimetype="image/png"), 200, "image/png", b"png"),
        (Response(iter(["a", "b"]), mimetype="text/plain"), 200, "text/plain; charset=utf-8", b"ab"),
        (("", 204), 204, "text/html; charset=utf-8", b""),
    ],
)
def test_what_a_view_returned_is_what_the_result_answers(run, returned, status, content_type, body):
    result, document = run(lambda: returned, options={"name": "process"})

    assert (result.status_code, result.content_type, result.data) == (status, content_type, body)
    assert document["status"] == "completed"


def test_an_abort_is_a_failed_task_with_its_answer(run):
    result, document = run(lambda: abort(422, "too short"), options={"name": "process"})

    assert result.status_code == 422
    assert b"too short" in result.data
    assert (document["status"], document["error_message"]) == ("failed", "too short")


def test_an_apps_error_handler_answers_for_the_run(run, make_app):
    app = make_app()

    class OutOfInk(Exception):
        pass

    @app.errorhandler(OutOfInk)
    def out_of_ink(error):
        return {"error": str(error)}, 507

    def process():
        raise OutOfInk("cyan")

    result, document = run(process, app=app)

    assert (result.status_code, result.get_json()) == (507, {"error": "cyan"})
    assert (document["status"], document["error_message"]) == ("failed", "cyan")


def test_an_unhandled_exception_is_logged_and_shows_no_traceback(run, caplog):
    def process():
        secret = "s3cret"
        raise RuntimeError(f"broken pipe {len(secret)}")

    result, document = run(process)

    assert result.status_code == 500
    assert document["error_message"] == "broken pipe 6"
    assert b"Traceback" not in result.data
    assert "Traceback" not in str(document)
    assert "RuntimeError: broken pipe 6" in caplog.text


def test_a_result_that_is_no_response_is_a_failed_task_that_says_so(run):
    _, document = run(lambda: object(), options={"name": "process"})

    assert document["status"] == "failed"
    assert "did not return a valid response" in document["error_message"]


def test_a_result_over_the_limit_fails_with_the_setting(run, make_app):
    _, document = run(lambda: "x" * 2000, app=make_app(max_result_bytes=1000), options={"name": "process"})

    assert document["status"] == "failed"
    assert document["error_message"] == (
        "task 'process': result is 2000 bytes, over BGTASKS_MAX_RESULT_BYTES (1000 bytes). "
        "Store it elsewhere and return its address."
    )


def test_async_views_run(run):
    async def process():
        with step("Think"):
            return {"task": bool(current_task)}

    result, _ = run(process)

    assert result.get_json() == {"task": True}


def test_views_of_blueprints_keep_their_handlers_and_preprocessors(make_app, bg, finished):
    blueprint = Blueprint("lessons", __name__, url_prefix="/<lang>")

    @blueprint.url_value_preprocessor
    def pull_lang(endpoint, values):
        g.lang = values.pop("lang")

    @blueprint.errorhandler(KeyError)
    def missing(error):
        return {"missing": str(error)}, 400

    @blueprint.post("/process")
    @bg.background
    def process():
        return {"lang": g.lang, "text": request.get_json()["text"]}

    app = make_app()
    app.register_blueprint(blueprint)
    client = app.test_client()
    good, bad = client.post("/de/process", json={"text": "x"}), client.post("/de/process", json={})
    finished(app, good), finished(app, bad)

    assert client.get(good.location + "/result").get_json() == {"lang": "de", "text": "x"}
    failed = client.get(bad.location + "/result")
    assert (failed.status_code, failed.get_json()) == (400, {"missing": "'text'"})


def test_method_views_run(make_app, bg, finished):
    class Process(MethodView):
        decorators = (bg.background(name="process"),)

        def post(self, n):
            return {"n": n}

    app = make_app()
    app.add_url_rule("/process/<int:n>", view_func=Process.as_view("process"))
    client = app.test_client()
    accepted = client.post("/process/7")
    finished(app, accepted)

    assert client.get(accepted.location + "/result").get_json() == {"n": 7}


def test_g_is_fresh_for_each_run_and_torn_down_after_it(run, make_app):
    app, torn = make_app(), []

    def database():
        return g.setdefault("database", object())

    @app.teardown_appcontext
    def close(_):
        torn.append("database" in g)

    def process():
        assert "database" not in g
        return str(database() is database())

    result, _ = run(process, app=app)

    assert result.data == b"True"
    assert True in torn


def test_before_run_restores_what_a_view_finds_in_g(run, make_app, bg):
    app = make_app()

    @bg.owner_loader
    def owner():
        return "ada"

    @app.before_request
    def load_user():
        g.user = "ada"

    @bg.before_run
    def restore_user(task):
        g.user = task.owner + " (restored)"

    result, _ = run(lambda: g.user, app=app, options={"name": "process"})

    assert result.data == b"ada (restored)"


def test_cookies_and_credentials_do_not_reach_the_run(run, make_app, state):
    app = make_app()

    def process():
        return {"auth": request.headers.get("Authorization"), "cookies": dict(request.cookies)}

    headers = {"Authorization": "Bearer s3cret", "Cookie": "session=s3cret", "X-Api-Key": "s3cret"}
    result, _ = run(process, app=app, headers=headers)

    assert result.get_json() == {"auth": None, "cookies": {}}
    assert "s3cret" not in str(vars(state(app).store))


def test_flask_logins_user_is_restored_from_the_owner(make_app, bg, finished):
    flask_login = pytest.importorskip("flask_login")
    app = make_app()
    manager = flask_login.LoginManager(app)

    class User(flask_login.UserMixin):
        def __init__(self, id):
            self.id = id

    manager.user_loader(User)

    @app.post("/login/<id>")
    def login(id):
        flask_login.login_user(User(id))
        return ""

    @app.post("/process")
    @flask_login.login_required
    @bg.background
    @flask_login.login_required
    def process():
        return flask_login.current_user.get_id()

    ada, eve = app.test_client(), app.test_client()
    ada.post("/login/ada")
    eve.post("/login/eve")
    accepted = ada.post("/process")
    finished(app, accepted)

    assert ada.get(accepted.location + "/result").data == b"ada"
    assert ada.get(accepted.location).get_json()["owner_uid"] == "ada"
    assert eve.get(accepted.location).status_code == 404
    assert app.test_client().get(accepted.location).status_code == 404
