"""Whoever would be refused without this library is refused in the request, before anything is stored."""

import functools
import threading
import uuid
from dataclasses import dataclass

import pytest
from flask import abort, g, jsonify, redirect, request
from flask.views import MethodView
from werkzeug.exceptions import NotFound

from flask_bgtasks import NotSerializable, Status
from flask_bgtasks.stores.types import TaskQuery
from tests.support.waiting import PATIENCE

ASYNC = {"Prefer": "respond-async"}
LOGIN = {"Authorization": "Bearer ada"}


def token_required(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        if request.headers.get("Authorization") != "Bearer ada":
            return jsonify(error="log in"), 401
        return f(*args, **kwargs)

    return wrapper


def to_login_page(f):
    def wrapper(*args, **kwargs):
        if "Authorization" not in request.headers:
            return redirect("/login")
        return f(*args, **kwargs)

    wrapper.__name__ = f.__name__
    return wrapper


def aborting(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        if "Authorization" not in request.headers:
            abort(403)
        return f(*args, **kwargs)

    return wrapper


class Guarded:
    def __init__(self, f):
        functools.update_wrapper(self, f)
        self.f = f

    def __call__(self, *args, **kwargs):
        if "Authorization" not in request.headers:
            abort(401)
        return self.f(*args, **kwargs)


def with_role(role):
    def decorate(f):
        @functools.wraps(f)
        def wrapper(*args, **kwargs):
            if request.headers.get("Authorization", "").removeprefix("Bearer ") != role:
                abort(403)
            return f(*args, **kwargs)

        return wrapper

    return decorate


GUARDS = {
    "a token": (token_required, 401),
    "a login page, without wraps": (to_login_page, 302),
    "abort": (aborting, 403),
    "a class": (Guarded, 401),
    "settings": (with_role("ada"), 403),
    "two": (lambda f: token_required(with_role("ada")(f)), 401),
    "a partial": (lambda f: functools.partial(token_required(f)), 401),
}


def tasks(app):
    return app.extensions["bgtasks"].store.find(TaskQuery(limit=100)).tasks


@pytest.fixture(params=["by name", "below @background", "above @background"])
def guarded(request, make_app, bg):
    """Makes an app with a guarded view, wrapped in one of three ways."""

    def make(guard, view=None):
        app = make_app(endpoints=["process"] if request.param == "by name" else [])

        def process(**kwargs):
            return {"made": True}

        view = view or process
        if request.param == "by name":
            view = guard(view)
        elif request.param == "below @background":
            view = bg.background(respond="prefer", name="process")(guard(view))
        else:
            view = guard(bg.background(respond="prefer", name="process")(view))
        app.add_url_rule("/process", "process", view, methods=["POST"])
        return app

    return make


@pytest.mark.parametrize("preference", [{}, ASYNC, {"Prefer": "wait=10"}], ids=["plain", "async", "wait"])
@pytest.mark.parametrize("guard", GUARDS)
def test_who_is_refused_is_refused_before_anything_is_stored(guarded, guard, preference):
    decorator, status = GUARDS[guard]
    app = guarded(decorator)

    response = app.test_client().post("/process", headers=preference)

    assert response.status_code == status
    assert "Task-Id" not in response.headers
    assert tasks(app) == []


@pytest.mark.parametrize("guard", GUARDS)
def test_who_is_let_in_gets_the_work_done(guarded, finished, guard):
    app = guarded(GUARDS[guard][0])
    client = app.test_client()

    plain = client.post("/process", headers=LOGIN)
    accepted = client.post("/process", headers={**LOGIN, **ASYNC})

    assert (plain.status_code, plain.get_json()) == (200, {"made": True})
    assert accepted.status_code == 202
    assert finished(app, accepted).status is Status.COMPLETED
    assert client.get(accepted.location + "/result").get_json() == {"made": True}


def test_the_methods_of_a_class_based_view_keep_their_guards(make_app, finished):
    app = make_app(endpoints=["lessons"])

    class Lessons(MethodView):
        @token_required
        def post(self, number):
            return {"number": number}

    app.add_url_rule("/lessons/<int:number>", view_func=Lessons.as_view("lessons"))
    client = app.test_client()

    assert client.post("/lessons/5", headers=ASYNC).status_code == 401
    assert client.post("/lessons/5", headers=LOGIN).get_json() == {"number": 5}
    accepted = client.post("/lessons/5", headers={**LOGIN, **ASYNC})
    finished(app, accepted)
    assert client.get(accepted.location + "/result").get_json() == {"number": 5}


def test_a_guard_that_counts_counts_a_request_once(make_app, finished, bg):
    counted = []

    def limited(f):
        @functools.wraps(f)
        def wrapper(*args, **kwargs):
            counted.append(request.path)
            return f(*args, **kwargs)

        return wrapper

    app = make_app()

    @app.post("/process")
    @bg.background(guards=[limited])
    @limited
    def process():
        return "done"

    finished(app, app.test_client().post("/process"))

    assert counted == ["/process"]


@pytest.mark.parametrize("way", ["by name", "below @background"])
def test_a_decorator_that_cannot_be_opened_guards_the_request_all_the_same(make_app, bg, way, caplog):
    app = make_app(endpoints=["process"] if way == "by name" else [])
    opaque = functools.lru_cache(maxsize=0)(token_required(lambda: "done"))
    view = opaque if way == "by name" else bg.background(opaque, name="process")
    app.add_url_rule("/process", "process", view, methods=["POST"])
    client = app.test_client()

    assert client.post("/process", headers=ASYNC).status_code == 401
    assert client.post("/process", headers={**LOGIN, **ASYNC}).data == b"done"
    [warning] = [r.getMessage() for r in caplog.records if "cannot be opened" in r.getMessage()]
    assert warning.startswith("view 'process': functools._lru_cache_wrapper cannot be opened")


def test_doctor_names_a_view_of_which_nobody_knows_who_guards_it(make_app):
    app = make_app(endpoints=["process"])
    app.add_url_rule("/process", "process", functools.lru_cache(token_required(lambda: "done")), methods=["POST"])

    printed = app.test_cli_runner().invoke(args=["bgtasks", "doctor"]).output

    assert "guards: process" in printed


def test_a_repeated_request_is_not_answered_with_the_login_that_its_run_lacked(make_app, bg, finished, caplog):
    app = make_app(endpoints=["process"])

    @app.post("/process")
    def process():
        if "Authorization" not in request.headers:
            abort(401)
        return {"made": True}

    client = app.test_client()
    once = {**LOGIN, "Idempotency-Key": "a" * 32}
    lost = finished(app, client.post("/process", headers={**once, **ASYNC}))
    assert (lost.status, lost.error_type) == (Status.FAILED, "LoginLost")
    assert "BGTASKS_KEEP_HEADERS" in caplog.text

    again = client.post("/process", headers=once)

    assert (again.status_code, again.get_json()) == (200, {"made": True})
    assert again.headers["Task-Id"] == lost.request_id
    assert again.headers["Idempotent-Replayed"] == "true"
    assert finished(app, again).status is Status.COMPLETED


# -- what decorators do besides


def test_a_decorator_that_changes_the_answer_changes_that_of_a_run(make_app, finished):
    def wrapped_in_data(f):
        @functools.wraps(f)
        def wrapper(*args, **kwargs):
            return {"data": f(*args, **kwargs)}

        return wrapper

    app = make_app(endpoints=["process"])
    app.add_url_rule("/process", "process", wrapped_in_data(lambda: [1, 2]), methods=["POST"])
    client = app.test_client()

    accepted = client.post("/process", headers=ASYNC)
    finished(app, accepted)

    assert accepted.status_code == 202
    assert client.get(accepted.location + "/result").get_json() == {"data": [1, 2]}
    assert client.post("/process").get_json() == {"data": [1, 2]}


def test_a_decorator_that_catches_everything_does_not_change_what_is_accepted(make_app):
    def careful(f):
        @functools.wraps(f)
        def wrapper(*args, **kwargs):
            try:
                return f(*args, **kwargs)
            except Exception:
                return "sorry", 500

        return wrapper

    app = make_app(endpoints=["process"], max_request_bytes=10)
    app.add_url_rule("/process", "process", careful(lambda: "done"), methods=["POST"])
    client = app.test_client()

    assert client.post("/process", headers=ASYNC).status_code == 202
    assert client.post("/process", data="x" * 100).status_code == 413


# -- arguments


@dataclass
class User:
    name: str


def injecting(**values):
    def decorate(f):
        @functools.wraps(f)
        def wrapper(*args, **kwargs):
            return f(*args, **values, **kwargs)

        return wrapper

    return decorate


VALUES = {"text": "ada", "number": 7, "list": [1, {"a": None}], "nothing": None, "flag": True}


@pytest.mark.parametrize("value", VALUES)
def test_what_a_decorator_adds_reaches_the_run(guarded, finished, value):
    app = guarded(injecting(added=VALUES[value]), view=lambda added: {"added": added})
    client = app.test_client()

    accepted = client.post("/process", headers=ASYNC)
    finished(app, accepted)

    assert client.get(accepted.location + "/result").get_json() == {"added": VALUES[value]}


def test_positional_arguments_reach_the_run(make_app, bg, finished):
    def token_required(f):
        @functools.wraps(f)
        def wrapper(*args, **kwargs):
            return f("ada", *args, **kwargs)

        return wrapper

    app = make_app()

    @app.post("/lessons/<uuid:lesson>")
    @token_required
    @bg.background
    def process(user, lesson):
        return {"user": user, "lesson": str(lesson)}

    lesson = uuid.uuid4()
    client = app.test_client()
    accepted = client.post(f"/lessons/{lesson}")
    finished(app, accepted)

    assert client.get(accepted.location + "/result").get_json() == {"user": "ada", "lesson": str(lesson)}


def test_an_object_added_above_is_refused_in_the_request_with_the_mend(make_app, bg):
    app = make_app()
    app.testing = True

    @app.post("/process")
    @injecting(user=User("ada"))
    @bg.background
    def process(user):
        return user.name

    with pytest.raises(NotSerializable, match="argument 'user'.*Put that decorator below @background"):
        app.test_client().post("/process")
    assert tasks(app) == []


def test_an_object_that_is_made_again_from_the_body_reaches_the_run(make_app, finished):
    def parsed(f):
        @functools.wraps(f)
        def wrapper(*args, **kwargs):
            return f(*args, user=User(request.get_json()["name"]), **kwargs)

        return wrapper

    app = make_app(endpoints=["process"])
    app.add_url_rule("/process", "process", parsed(lambda user: user.name), methods=["POST"])
    client = app.test_client()

    accepted = client.post("/process", json={"name": "ada"}, headers=ASYNC)
    finished(app, accepted)

    assert client.get(accepted.location + "/result").data == b"ada"


def test_an_object_that_only_credentials_make_is_refused_in_the_request(make_app):
    def logged_in(f):
        @functools.wraps(f)
        def wrapper(*args, **kwargs):
            return f(*args, user=User(request.headers["Authorization"]), **kwargs)

        return wrapper

    app = make_app(endpoints=["process"])
    app.testing = True
    app.add_url_rule("/process", "process", logged_in(lambda user: user.name), methods=["POST"])
    client = app.test_client()

    assert client.post("/process", headers=LOGIN).data == b"Bearer ada"  # on its own thread it is there
    with pytest.raises(NotSerializable, match=r"argument user \(from .*(logged_in|wrapper).*BGTASKS_KEEP_HEADERS"):
        client.post("/process", headers={**LOGIN, **ASYNC})
    assert len(tasks(app)) == 1


def test_the_object_of_a_decorated_method_is_made_for_the_run(make_app, bg, finished):
    class Lessons(MethodView):
        def __init__(self, prefix):
            self.prefix = prefix

        @bg.background(name="lessons.post")
        def post(self, number):
            return {"lesson": f"{self.prefix}{number}"}

    app = make_app()
    app.add_url_rule("/lessons/<int:number>", view_func=Lessons.as_view("lessons", "L"))
    client = app.test_client()

    accepted = client.post("/lessons/5")
    finished(app, accepted)

    assert client.get(accepted.location + "/result").get_json() == {"lesson": "L5"}


# -- teardown, signals, errors


@pytest.fixture
def ledger(make_app, bg, request):
    """An app that commits when a request ends well; what it committed, and what its teardown functions were given."""
    app = make_app(endpoints=["process"], **getattr(request, "param", {}))
    app.committed, app.torn_down, app.errors = [], [], []
    app.ended = threading.Event()

    @app.before_request
    def begin():
        g.pending = []

    @bg.before_run
    def begin_run(task):
        g.pending = []

    @app.teardown_request
    def end(error):
        if request_is_ours():
            app.torn_down.append(type(error).__name__ if error is not None else None)
            app.committed += g.get("pending", []) if error is None else []
            app.ended.set()

    def request_is_ours():
        from flask import request

        return request.path == "/process" and "pending" in g

    @app.post("/process")
    def process():
        from flask import request

        g.pending.append("half")
        if request.args.get("error"):
            raise RuntimeError("the pen broke")
        g.pending.append("whole")
        return "done"

    return app


@pytest.mark.parametrize("preference", [{}, ASYNC, {"Prefer": "wait=10"}], ids=["plain", "async", "wait"])
def test_failed_means_rolled_back(ledger, finished, preference):
    response = ledger.test_client().post("/process?error=1", headers=preference)

    assert finished(ledger, response).status is Status.FAILED
    assert ledger.committed == []
    assert "RuntimeError" in ledger.torn_down


@pytest.mark.parametrize("preference", [{}, {"Prefer": "wait=10"}], ids=["plain", "wait"])
def test_completed_means_committed(ledger, preference):
    assert ledger.test_client().post("/process", headers=preference).data == b"done"
    assert ledger.committed == ["half", "whole"]


def test_a_teardown_function_that_cannot_commit_fails_the_task(make_app):
    app = make_app(endpoints=["process"])

    @app.teardown_request
    def commit(error):
        if request.path == "/process":
            raise OSError("disk full")

    @app.post("/process")
    def process():
        return "done"

    with pytest.raises(OSError, match="disk full"):
        app.test_client().post("/process")
    [task] = tasks(app)
    assert (task.status, task.error_message) == (Status.FAILED, "disk full")


def test_a_cancelled_view_is_rolled_back(make_app, bg):
    from flask_bgtasks import current_task, step

    app = make_app(endpoints=["process"])
    seen = []
    app.teardown_request(lambda error: seen.append(type(error).__name__) if request.path == "/process" else None)

    @app.post("/process")
    def process():
        bg.cancel(current_task.request_id)
        with step("too late"):
            return "done"

    response = app.test_client().post("/process")

    assert (response.status_code, seen[0]) == (409, "CancelRequested")
    assert response.content_type == "application/problem+json"
    assert response.headers["Task-Id"] == tasks(app)[0].request_id


def test_an_attempt_that_is_followed_by_another_is_rolled_back(make_app, bg):
    app = make_app()
    seen, runs = [], []
    app.teardown_request(lambda error: seen.append(type(error).__name__) if request.path == "/process" else None)

    @app.post("/process")
    @bg.background(respond="prefer", retries=1, backoff=0.01)
    def process():
        runs.append(1)
        if len(runs) == 1:
            raise RuntimeError("busy")
        return "done"

    response = app.test_client().post("/process")

    assert (response.status_code, response.data) == (200, b"done")
    assert seen[0] == "Superseded"


@pytest.mark.parametrize("preference", [{}, ASYNC], ids=["plain", "async"])
def test_error_trackers_see_the_exception_with_its_request_before_the_log(make_app, finished, preference, caplog):
    from flask import got_request_exception

    app = make_app(endpoints=["process"])
    seen = []

    def record(sender, exception, **extra):
        seen.append((str(exception), request.url, request.endpoint, [r.name for r in caplog.records]))

    @app.post("/process")
    def process():
        raise RuntimeError("the pen broke")

    with got_request_exception.connected_to(record, app):
        finished(app, app.test_client().post("/process?x=1", headers=preference))

    assert seen == [("the pen broke", "http://localhost/process?x=1", "process", [])]
    assert [r.name for r in caplog.records if r.levelname == "ERROR"] == [app.logger.name]


@pytest.mark.parametrize("ends", [lambda: abort(422, "too short"), lambda: NotFound("gone")], ids=["abort", "returned"])
def test_the_body_of_an_error_reaches_its_client_and_is_stored(make_app, ends):
    app = make_app(endpoints=["process"])
    app.add_url_rule("/process", "process", ends, methods=["POST"])
    client = app.test_client()

    response = client.post("/process")

    assert b"<p>" in response.data
    assert client.get(response.headers["Content-Location"]).data == response.data


@pytest.mark.parametrize("preference", [{}, {"Prefer": "wait=10"}], ids=["plain", "wait"])
def test_flasks_signals_and_callbacks_happen(make_app, preference):
    from flask import after_this_request, request_finished, request_started

    app = make_app(endpoints=["process"])
    seen = []

    @app.post("/process")
    def process():
        @after_this_request
        def mark(response):
            response.data = response.data + b"!"
            response.call_on_close(lambda: seen.append("closed"))
            return response

        return "done"

    def started(sender, **extra):
        seen.append("started")

    def ended(sender, response, **extra):
        seen.append("finished")

    with request_started.connected_to(started, app), request_finished.connected_to(ended, app):
        response = app.test_client().post("/process", headers=preference)

    assert response.data == b"done!"
    response.close()
    once = ["started", "finished", "closed"]
    assert sorted(seen) == sorted(once if not preference else ["started", "finished", *once])


@pytest.mark.parametrize("runner", ["threads", "inline"])
def test_the_views_exception_reaches_a_test_that_waits(make_app, runner):
    app = make_app(endpoints=["process"], runner=runner)
    app.testing = True

    @app.post("/process")
    def process():
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        app.test_client().post("/process", headers={"Prefer": "wait=10"})


def test_a_functions_teardown_gets_what_it_raised(make_app, bg):
    app = make_app()
    seen = []
    ended = threading.Event()

    @app.teardown_appcontext
    def end(error):
        if error is not None:
            seen.append(str(error))
            ended.set()

    @bg.task
    def generate():
        raise RuntimeError("the pen broke")

    with app.app_context():
        generate.submit()
    assert ended.wait(PATIENCE)
    assert seen == ["the pen broke"]


# -- streams


@pytest.fixture
def streaming(make_app):
    app = make_app(endpoints=["stream"], max_result_bytes=100)
    app.read, app.go_on = [], threading.Event()

    @app.post("/stream")
    def stream():
        def parts():
            for number in range(int(request_args["n"])):
                if number == int(request_args["breaks"]):
                    raise RuntimeError("the pen broke")
                app.read.append(number)
                yield f"part {number}\n"

        request_args = {"n": request.args.get("n", "3"), "breaks": request.args.get("breaks", "-1")}
        return app.response_class(parts(), mimetype="text/plain")

    return app


def test_a_stream_reaches_the_client_piece_by_piece_and_is_stored(streaming, state):
    response = streaming.test_client().post("/stream")
    parts = response.iter_encoded()

    assert next(parts) == b"part 0\n"
    assert streaming.read == [0]
    assert state(streaming).store.get(response.headers["Task-Id"]).status is Status.PROCESSING

    assert list(parts) == [b"part 1\n", b"part 2\n"]
    response.close()
    assert state(streaming).store.get(response.headers["Task-Id"]).status is Status.COMPLETED
    again = streaming.test_client().get(response.headers["Content-Location"])
    assert again.data == b"part 0\npart 1\npart 2\n"


def test_a_stream_whose_client_has_left_is_read_for_the_task(streaming, state):
    response = streaming.test_client().post("/stream")
    next(response.iter_encoded())

    response.close()

    assert streaming.read == [0, 1, 2]
    assert state(streaming).store.get(response.headers["Task-Id"]).status is Status.COMPLETED


def test_a_stream_that_breaks_fails_the_task(streaming, state):
    response = streaming.test_client().post("/stream?breaks=1")

    with pytest.raises(RuntimeError, match="the pen broke"):
        response.get_data()
    task = state(streaming).store.get(response.headers["Task-Id"])
    assert (task.status, task.error_message) == (Status.FAILED, "the pen broke")


def test_a_stream_longer_than_what_is_stored_reaches_its_client_whole(streaming, state):
    response = streaming.test_client().post("/stream?n=100")

    assert response.data.count(b"\n") == 100
    response.close()
    assert state(streaming).store.get(response.headers["Task-Id"]).error_type == "PayloadTooLarge"


def test_a_stream_is_read_no_further_than_what_is_stored(streaming, finished):
    response = streaming.test_client().post("/stream?n=1000000", headers=ASYNC)

    assert finished(streaming, response).error_type == "PayloadTooLarge"
    assert len(streaming.read) < 20


def test_a_stream_that_nobody_reads_any_more_is_read_no_further_than_what_is_stored(streaming, state):
    response = streaming.test_client().post("/stream?n=1000000")
    next(response.iter_encoded())
    response.close()

    assert len(streaming.read) < 20
    assert state(streaming).store.get(response.headers["Task-Id"]).error_type == "PayloadTooLarge"
