"""Four ways in, the same task behind each; and a view keeps everything it has."""

import io
import threading
import uuid

import pytest
from flask import Blueprint, Response, abort, current_app, g, jsonify, request, session
from flask.views import MethodView

from flask_bgtasks import (
    ConfigurationError,
    NotSerializable,
    Status,
    TaskCancelled,
    TaskFailed,
    TaskHandle,
    TransitionRefused,
    UnknownTask,
    WaitTimeout,
    current_task,
    step,
)
from tests.support.waiting import PATIENCE

STORES = ["memory://", "sqlite:///tasks.sqlite3"]


# -- endpoints=[…]: existing views, untouched


def test_an_untouched_view_answers_as_before_and_is_a_stored_task(make_app, state):
    app = make_app(endpoints=["process"])

    @app.post("/process")
    def process():
        return {"heard": request.get_json()["input_text"]}, 201, {"X-Own": "kept"}

    response = app.test_client().post("/process", json={"input_text": "hi"})

    assert (response.status_code, response.get_json()) == (201, {"heard": "hi"})
    assert response.headers["X-Own"] == "kept"
    task = state(app).store.get(response.headers["Task-Id"])
    assert (task.name, task.status) == ("process", Status.COMPLETED)
    again = app.test_client().get(response.headers["Content-Location"])
    assert (again.status_code, again.data, again.content_type) == (201, response.data, response.content_type)


@pytest.mark.parametrize("before", [True, False], ids=["registered before init_app", "after it"])
def test_a_view_is_wrapped_whenever_it_was_registered(make_app, bg, before):
    app = make_app(init=False)

    def process():
        return "done"

    if before:
        app.add_url_rule("/process", view_func=process, methods=["POST"])
    bg.init_app(app, store="memory://", endpoints=["process"])
    if not before:
        app.add_url_rule("/process", view_func=process, methods=["POST"])

    assert "Task-Id" in app.test_client().post("/process").headers


def test_an_endpoint_that_no_view_has_is_an_error_that_lists_what_there_is(make_app):
    app = make_app(endpoints=["proces"])
    app.testing = True

    @app.post("/process")
    def process():
        return "done"

    with pytest.raises(
        ConfigurationError, match=r"no view has the endpoint 'proces'. Did you mean 'process'.*Known here: .*process"
    ):
        app.test_client().post("/process")


def test_the_form_that_a_view_shows_is_not_a_task(make_app):
    app = make_app(endpoints=["process"])

    @app.route("/process", methods=["GET", "POST"])
    def process():
        return request.method

    client = app.test_client()
    assert "Task-Id" not in client.get("/process").headers
    assert "Task-Id" not in client.options("/process").headers
    assert "Task-Id" in client.post("/process").headers


def test_a_view_that_only_reads_is_a_task_when_it_is_named(make_app):
    app = make_app(endpoints=["render"])

    @app.get("/render")
    def render():
        return "picture"

    client = app.test_client()
    assert client.get("/render").headers["Task-Id"]
    assert "Task-Id" not in client.head("/render").headers


def test_the_views_own_exception_reaches_a_test_as_before(make_app):
    app = make_app(endpoints=["process"])
    app.testing = True

    @app.post("/process")
    def process():
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        app.test_client().post("/process")


def test_the_session_of_a_client_that_waits_is_kept(make_app):
    app = make_app(endpoints=["process"])

    @app.post("/process")
    def process():
        session["count"] = session.get("count", 0) + 1
        return str(session["count"])

    client = app.test_client()
    assert [client.post("/process").data for _ in range(3)] == [b"1", b"2", b"3"]


# -- @background


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


# -- @task


@pytest.mark.parametrize("store", STORES)
def test_a_function_is_submitted_and_still_callable(make_app, bg, store):
    app = make_app(store=store)

    @bg.task
    def generate(text, *, times=1):
        return {"text": text * times, "app": current_app.name}

    with app.app_context():
        handle = generate.submit("ab", times=2, owner="ada", user_token="device")

        assert handle.wait(timeout=PATIENCE) == {"text": "abab", "app": "app_under_test"}
        assert (handle.task.owner, handle.task.name) == ("ada", "generate")
        assert handle.status is Status.COMPLETED
        assert generate("x") == {"text": "x", "app": "app_under_test"}


@pytest.mark.parametrize("body", [b'{"n": 1}\n', b'{"n": 1}\n{"n": 2}\n'], ids=["one line", "two lines"])
def test_json_lines_are_waited_for_as_bytes(make_app, bg, state, body):
    app = make_app()

    @app.post("/rows")
    @bg.background
    def rows():
        return Response(body, content_type="application/jsonl")

    accepted = app.test_client().post("/rows")

    assert TaskHandle(state(app), accepted.headers["Task-Id"]).wait(timeout=PATIENCE) == body
    shown = app.test_client().get(accepted.location).get_json()
    assert (shown["status"], shown["result_data"]) == ("completed", None)


def test_async_functions_run(make_app, bg):
    app = make_app()

    @bg.task
    async def generate(n):
        return n + 1

    with app.app_context():
        assert generate.submit(1).wait(timeout=PATIENCE) == 2


def test_an_argument_that_is_not_json_is_named(make_app, bg):
    app = make_app()

    @bg.task
    def generate(text, when=None): ...

    with app.app_context(), pytest.raises(NotSerializable, match=r"argument 'when' is not JSON"):
        generate.submit("x", when=object())


def test_a_value_that_is_not_json_fails_the_task_with_the_mend(make_app, bg):
    app = make_app()

    @bg.task
    def generate():
        return {1, 2}

    with app.app_context(), pytest.raises(TaskFailed, match=r"result of type set is not JSON and not a response"):
        generate.submit().wait(timeout=PATIENCE)


def test_a_task_that_fails_says_why(make_app, bg):
    app = make_app()

    @bg.task
    def generate():
        raise LookupError("no such model")

    with app.app_context(), pytest.raises(TaskFailed, match="no such model") as failed:
        generate.submit().wait(timeout=PATIENCE)
    assert failed.value.error_type == "LookupError"


def test_a_running_task_is_cancelled_at_its_next_report_and_can_be_retried(make_app, bg):
    app, entered, go_on = make_app(), threading.Semaphore(0), threading.Event()

    @bg.task
    def generate():
        with step("Long"):
            entered.release()
            assert go_on.wait(10)
            current_task.update(details="…")
            return current_task.attempt

    with app.app_context():
        handle = generate.submit()
        assert entered.acquire(timeout=10)
        with pytest.raises(WaitTimeout):
            handle.wait(timeout=0.01)
        assert handle.cancel().cancel_requested_at is not None
        go_on.set()
        with pytest.raises(TaskCancelled):
            handle.wait(timeout=PATIENCE)

        assert bg.retry(handle.request_id).status is Status.STARTED
        assert handle.wait(timeout=PATIENCE) == 2
        with pytest.raises(TransitionRefused):
            handle.retry()


def test_a_task_that_waits_is_cancelled_at_once_and_never_runs(make_app, bg):
    app, entered, go_on, ran = make_app(workers=1), threading.Semaphore(0), threading.Event(), []

    @bg.task
    def block():
        entered.release()
        assert go_on.wait(10)

    @bg.task
    def other():
        ran.append(1)

    with app.app_context():
        blocker = block.submit()
        assert entered.acquire(timeout=10)
        waiting = other.submit()
        assert bg.cancel(waiting.request_id).status is Status.CANCELLED
        go_on.set()
        blocker.wait(timeout=PATIENCE)
        third = other.submit()
        third.wait(timeout=PATIENCE)

    assert ran == [1]


def test_submit_by_a_name_that_is_not_known_suggests_one_that_is(make_app, bg):
    app = make_app()

    @bg.task
    def generate(): ...

    with app.app_context(), pytest.raises(UnknownTask, match="Did you mean 'generate'"):
        bg.submit("genrate")


def test_a_stored_task_whose_function_is_gone_fails_with_the_mend(make_app, bg, state):
    app = make_app()

    @bg.task(name="renamed")
    def generate(): ...

    old = generate.definition.__class__(
        name="old", kind=generate.definition.kind, function=None, options=generate.definition.options
    )
    with app.app_context():
        request_id = state(app).submit(old, {"args": [], "kwargs": {}}, run=False).task.request_id
        state(app).engine.run(request_id)

        with pytest.raises(TaskFailed, match=r"no task is called 'old' here.*keep its old name with name='old'"):
            TaskHandle(state(app), request_id).wait(timeout=PATIENCE)


# -- track_request and the explicit calls


def test_code_that_runs_where_it_stands_is_recorded(make_app, bg, state):
    app = make_app()
    with app.app_context():
        with bg.track_request("process", owner="ada", steps=["Read", "Write"], notify="ready") as task:
            with step("Read"):
                assert bg.get(task.request_id).status is Status.PROCESSING
            task.set_result({"n": 1})
        done = bg.get(task.request_id)

        assert done.wait(timeout=PATIENCE) == {"n": 1}
        sink = state(app).plugins.get("memory")
        assert sink.wait_for(lambda s: s.notifications)[0].title == "ready"


def test_a_tracked_block_that_raises_is_a_failed_task_and_the_exception_goes_on(make_app, bg):
    app = make_app()
    with app.app_context():
        with pytest.raises(ZeroDivisionError), bg.track_request("process") as task:
            _ = 1 / 0
        failed = bg.get(task.request_id).task

    assert (failed.status, failed.error_message) == (Status.FAILED, "division by zero")


@pytest.mark.parametrize("store", STORES)
def test_a_task_can_be_told_by_hand(make_app, bg, store):
    app, given = make_app(store=store), str(uuid.uuid4())
    with app.app_context():
        with bg.track_request("process", request_id=given) as task:
            assert task.request_id == given
            progress = bg.update_progress(given, "Write", 2, 4, "section 1").progress
            assert (progress.step, progress.step_number, progress.percentage) == ("Write", 2, 25.0)
            bg.update_status(given, "completed", {"blocks": []})
        done = bg.get(given)

        assert done.wait(timeout=PATIENCE) == {"blocks": []}
        with pytest.raises(TransitionRefused):
            bg.update_status(given, "processing")
        with pytest.raises(ValueError, match="one of started, processing"):
            bg.update_status(given, "finished")


def test_failure_by_hand_keeps_its_message(make_app, bg):
    app = make_app()
    with app.app_context():
        with bg.track_request("process") as task:
            bg.update_status(task.request_id, "failed", error_message="model overloaded")
        failed = bg.get(task.request_id).task

    assert (failed.status, failed.error_message) == (Status.FAILED, "model overloaded")


@pytest.mark.parametrize(("number", "total"), [(0, 4), (5, 4), (1, 0)])
def test_a_step_number_outside_its_total_is_refused(make_app, bg, number, total):
    app = make_app()
    with app.app_context(), bg.track_request("process") as task, pytest.raises(ValueError, match="counts from 1"):
        bg.update_progress(task.request_id, "Write", number, total)


def test_an_id_that_no_task_can_have_is_refused(make_app, bg):
    app = make_app()
    refused = pytest.raises(ConfigurationError, match="expected a UUID in lower case")
    with app.app_context(), refused, bg.track_request("process", request_id="42"):
        pytest.fail("was recorded")


def test_a_push_by_hand_is_sent_by_the_sinks(make_app, bg, state):
    app = make_app()
    with app.app_context():
        assert bg.send_push("device", "Title", "Body", {"n": 1}) == 1
        (sent,) = state(app).plugins.get("memory").wait_for(lambda s: s.notifications)

    assert (sent.user_token, sent.title, sent.body, sent.data) == ("device", "Title", "Body", {"n": "1"})


def test_a_tracked_request_cannot_be_retried(make_app, bg):
    app = make_app()
    with app.app_context():
        with pytest.raises(KeyError), bg.track_request("process") as task:
            raise KeyError("x")
        with pytest.raises(TransitionRefused, match="cannot be run from here"):
            bg.retry(task.request_id)


def test_a_task_that_a_task_submits_belongs_to_the_same_owner(make_app, bg, finished, state):
    app, children = make_app(), []

    @bg.owner_loader
    def owner():
        return request.headers["Authorization"]  # not there in a run: it is not stored

    @bg.task
    def part():
        return 1

    @app.post("/process")
    @bg.background
    def process():
        children.append(part.submit().request_id)
        return {}

    accepted = app.test_client().post("/process", headers={"Authorization": "ada"})

    assert finished(app, accepted).status is Status.COMPLETED
    assert state(app).store.get(children[0]).owner == "ada"


def test_a_tracked_block_inside_a_task_leaves_the_task_as_it_was(make_app, bg):
    app = make_app()

    @bg.task
    def outer():
        mine = current_task.request_id
        with step("Outer"), bg.track_request("inner") as inner, step("Inner"):
            assert current_task.request_id == inner.request_id != mine
        return current_task.request_id == mine

    with app.app_context():
        assert outer.submit().wait(timeout=PATIENCE) is True
