"""Code inside a view finds the user whom a guard let in, in the request and in the run: one test for each extension."""

import json

import pytest
from flask import g, request

from flask_bgtasks import TaskHandle
from flask_bgtasks.auth import identities
from tests.support.stored_input import stored_input
from tests.support.waiting import PATIENCE

STORES = ["memory://", "sqlite:///tasks.sqlite3"]


@pytest.fixture
def answered(state):
    """Sends the request, waits for its run, and gives what the view has answered there."""

    def send(app, client, path="/process", **kwargs):
        accepted = client.post(path, **kwargs)
        assert accepted.status_code == 202, accepted.text
        with app.app_context():
            handle = TaskHandle(state(app), accepted.headers["Task-Id"])
            task = handle.wait_until_done(timeout=PATIENCE)
            assert task.error_message is None, task.error_message
            return handle.result_data()

    return send


# -- Flask-Login


@pytest.fixture
def login_app(make_app, bg):
    """An app with Flask-Login: users 1 to 9, who log in at /login/<id>."""
    flask_login = pytest.importorskip("flask_login")

    class User(flask_login.UserMixin):
        def __init__(self, id):
            self.id = id

    def make(**settings):
        app = make_app(**settings)
        manager = flask_login.LoginManager(app)
        users = {str(n): User(str(n)) for n in range(1, 10)}
        manager.user_loader(users.get)
        app.users = users

        @app.post("/login/<id>")
        def login(id):
            flask_login.login_user(users[id])
            return ""

        @app.post("/process")
        @flask_login.login_required
        @bg.background
        def process():
            user = flask_login.current_user
            return {"id": user.get_id(), "known": user.is_authenticated}

        return app

    return make


@pytest.mark.parametrize("store", STORES)
def test_flask_logins_user_is_the_one_who_sent_the_request(login_app, answered, store):
    app = login_app(store=store)
    client = app.test_client()
    client.post("/login/3")

    assert answered(app, client) == {"id": "3", "known": True}


def test_a_team_as_the_owner_is_no_user_of_that_number(login_app, bg, answered, state):
    """The owner is whose task it is, the user who sent it: team 7 is not user 7."""
    app = login_app()

    @bg.owner_loader
    def team():
        return "7"

    client = app.test_client()
    client.post("/login/3")

    assert answered(app, client) == {"id": "3", "known": True}


def test_without_a_login_an_owner_of_another_kind_makes_nobody_a_user(login_app, bg, answered):
    import flask_login

    app = login_app()

    @bg.owner_loader
    def team():
        return "7"

    @app.post("/open")
    @bg.background(name="open")
    def open_to_all():
        return {"known": flask_login.current_user.is_authenticated}

    assert answered(app, app.test_client(), "/open") == {"known": False}


def test_a_user_who_was_deleted_meanwhile_is_nobody(login_app, state):
    app = login_app(runner="external")
    client = app.test_client()
    client.post("/login/3")
    accepted = client.post("/process")
    del app.users["3"]

    state(app).engine.run(accepted.headers["Task-Id"])

    result = TaskHandle(state(app), accepted.headers["Task-Id"]).result_data()
    assert result == {"id": None, "known": False}


def test_a_task_that_is_opened_again_by_server_code_has_the_user_that_owns_it(login_app, bg, state, answered):
    app = login_app(runner="external")
    client = app.test_client()
    client.post("/login/3")
    accepted = client.post("/process")
    client.post(accepted.location + "/cancel")

    state(app).retry(accepted.headers["Task-Id"])
    state(app).engine.run(accepted.headers["Task-Id"])

    assert TaskHandle(state(app), accepted.headers["Task-Id"]).result_data() == {"id": "3", "known": True}


@pytest.mark.parametrize(("kept", "found"), [(["X-Api-Key"], "ann"), ([], None)])
def test_a_login_by_request_loader_needs_the_header_that_it_reads(make_app, bg, answered, kept, found):
    flask_login = pytest.importorskip("flask_login")
    app = make_app(keep_headers=kept)
    manager = flask_login.LoginManager(app)

    class User(flask_login.UserMixin):
        id = "ann"

    @manager.request_loader
    def load(request):
        return User() if request.headers.get("X-Api-Key") == "k" else None

    @app.post("/process")
    @flask_login.login_required
    @bg.background
    def process():
        return {"id": flask_login.current_user.get_id()}

    assert app.test_client().post("/process").status_code == 401
    assert answered(app, app.test_client(), headers={"X-Api-Key": "k"}) == {"id": found}


def test_a_login_manager_that_loads_nobody_is_not_asked(make_app, bg, answered):
    flask_login = pytest.importorskip("flask_login")
    app = make_app()
    flask_login.LoginManager(app)
    bg.owner_loader(lambda: "ann")
    app.add_url_rule("/process", view_func=bg.background(name="process")(lambda: {"ok": 1}), methods=["POST"])

    assert answered(app, app.test_client()) == {"ok": 1}


# -- Flask-JWT-Extended


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("lookup", [True, False])
@pytest.mark.parametrize("location", ["headers", "cookies", "query_string", "json"])
def test_flask_jwt_extended_knows_the_claims_and_the_user(make_app, bg, answered, state, store, lookup, location):
    jwt = pytest.importorskip("flask_jwt_extended")
    app = make_app(store=store)
    app.config.update(JWT_SECRET_KEY="x" * 32, JWT_TOKEN_LOCATION=[location], JWT_COOKIE_CSRF_PROTECT=False)
    manager = jwt.JWTManager(app)
    if lookup:
        manager.user_lookup_loader(lambda header, claims: {"name": f"user {claims['sub']}"})

    @app.post("/process")
    @jwt.jwt_required()
    @bg.background
    def process():
        return {
            "identity": jwt.get_jwt_identity(),
            "claims": jwt.get_jwt()["role"],
            "header": jwt.get_jwt_header()["alg"],
            "location": jwt.utils.get_jwt_request_location(),
            "user": jwt.current_user["name"] if lookup else None,
        }

    with app.app_context():
        token = jwt.create_access_token("3", additional_claims={"role": "author"})
    client = app.test_client(use_cookies=False)  # or it would send its own
    sent = {
        "headers": {"headers": {"Authorization": f"Bearer {token}"}},
        "cookies": {"headers": {"Cookie": f"access_token_cookie={token}"}},
        "query_string": {"query_string": {"jwt": token}},
        "json": {"json": {"access_token": token}},
    }[location]

    assert client.post("/process", json={}).status_code == 401
    assert answered(app, client, **sent) == {
        "identity": "3",
        "claims": "author",
        "header": "HS256",
        "location": location,
        "user": "user 3" if lookup else None,
    }


def test_an_optional_token_that_was_not_sent_is_none_in_the_run(make_app, bg, answered):
    jwt = pytest.importorskip("flask_jwt_extended")
    app = make_app()
    app.config["JWT_SECRET_KEY"] = "x" * 32
    jwt.JWTManager(app)

    @app.post("/process")
    @jwt.jwt_required(optional=True)
    @bg.background
    def process():
        return {"identity": jwt.get_jwt_identity(), "user": jwt.get_current_user(), "claims": jwt.get_jwt()}

    assert answered(app, app.test_client()) == {"identity": None, "user": None, "claims": {}}


def test_the_token_itself_is_stored_nowhere(make_app, bg, state):
    jwt = pytest.importorskip("flask_jwt_extended")
    app = make_app(runner="external")
    app.config["JWT_SECRET_KEY"] = "x" * 32
    jwt.JWTManager(app)
    app.add_url_rule(
        "/process", view_func=jwt.jwt_required()(bg.background(name="process")(lambda: "")), methods=["POST"]
    )
    with app.app_context():
        token = jwt.create_access_token("3")

    accepted = app.test_client().post("/process", headers={"Authorization": f"Bearer {token}"})

    stored = stored_input(state(app).store, accepted.headers["Task-Id"])
    assert stored["private"]["identity"]["flask_jwt_extended"]["claims"]["sub"] == "3"
    assert token not in json.dumps(stored)
    assert token.split(".")[2] not in str(vars(state(app).store))


# -- Flask-HTTPAuth


@pytest.mark.parametrize("user", ["ann", {"name": "ann", "roles": ["author"]}, 7])
@pytest.mark.parametrize("scheme", ["basic", "token"])
def test_flask_httpauths_user_is_there_where_it_is_json(make_app, bg, answered, scheme, user):
    httpauth = pytest.importorskip("flask_httpauth")
    app = make_app()
    if scheme == "basic":
        auth, headers = httpauth.HTTPBasicAuth(), {"Authorization": "Basic YW5uOnB3"}
        auth.verify_password(lambda name, password: user if (name, password) == ("ann", "pw") else None)
    else:
        auth, headers = httpauth.HTTPTokenAuth(), {"Authorization": "Bearer t"}
        auth.verify_token(lambda token: user if token == "t" else None)

    @app.post("/process")
    @auth.login_required
    @bg.background
    def process():
        return {"user": auth.current_user()}

    assert app.test_client().post("/process").status_code == 401
    assert answered(app, app.test_client(), headers=headers) == {"user": user}


def test_a_user_that_is_no_json_is_not_saved(make_app, bg, answered):
    httpauth = pytest.importorskip("flask_httpauth")
    app = make_app()
    auth = httpauth.HTTPTokenAuth()
    auth.verify_token(lambda token: object())

    @app.post("/process")
    @auth.login_required
    @bg.background
    def process():
        return {"user": repr(auth.current_user())}

    assert answered(app, app.test_client(), headers={"Authorization": "Bearer t"}) == {"user": "None"}


# -- Flask-Principal


def test_flask_principals_identity_is_loaded_again_with_what_it_may(make_app, bg, answered):
    principal = pytest.importorskip("flask_principal")
    app = make_app()
    extension = principal.Principal(app, use_sessions=False)
    author = principal.Permission(principal.RoleNeed("author"))

    @extension.identity_loader
    def load():
        name = request.headers.get("X-User")
        return principal.Identity(name, "header") if name else None

    @principal.identity_loaded.connect_via(app)
    def loaded(sender, identity):
        if identity.id == "ann":
            identity.provides.add(principal.RoleNeed("author"))

    @app.post("/process")
    @bg.background
    def process():
        return {"id": g.identity.id, "by": g.identity.auth_type, "may": author.can()}

    client = app.test_client()
    assert answered(app, client, headers={"X-User": "ann"}) == {"id": "ann", "by": "header", "may": True}
    assert answered(app, client, headers={"X-User": "bob"}) == {"id": "bob", "by": "header", "may": False}
    assert answered(app, client) == {"id": None, "by": None, "may": False}


# -- Flask-WTF


def test_a_form_that_was_checked_in_the_request_is_valid_in_the_run(make_app, bg, answered):
    flask_wtf = pytest.importorskip("flask_wtf")
    wtforms = pytest.importorskip("wtforms")
    app = make_app()
    flask_wtf.CSRFProtect(app)

    class Lesson(flask_wtf.FlaskForm):
        text = wtforms.StringField(validators=[wtforms.validators.DataRequired()])

    @app.get("/token")
    def token():
        return flask_wtf.csrf.generate_csrf()

    @app.post("/process")
    @bg.background
    def process():
        form = Lesson()
        return {"valid": form.validate_on_submit(), "errors": form.errors, "text": form.text.data}

    client = app.test_client()
    found = client.get("/token").text
    assert client.post("/process", data={"text": "x"}).status_code == 400
    answer = answered(app, client, data={"text": "x", "csrf_token": found})

    assert answer == {"valid": True, "errors": {}, "text": "x"}


# -- bounds


def test_what_is_too_large_is_not_saved_and_the_rest_is(make_app, caplog):
    pytest.importorskip("flask_httpauth")
    app = make_app()
    import flask_wtf  # noqa: F401 - the adapter looks whether it is there

    with app.test_request_context():
        g.flask_httpauth_user = "x" * (identities.MAX_BYTES + 1)
        g.csrf_valid = True

        assert identities.saved(app) == {"flask_wtf": True}

    assert "too large" in caplog.text


@pytest.mark.parametrize("value", [object(), {1: "a"}, ("a",), float("nan"), {"a": {1}}])
def test_what_would_not_come_back_as_it_is_is_not_saved(make_app, value):
    pytest.importorskip("flask_httpauth")
    app = make_app()

    with app.test_request_context():
        g.flask_httpauth_user = value

        assert identities.saved(app) == {}


def test_an_app_without_a_login_saves_nothing(make_app, bg, state):
    app = make_app(runner="external")
    app.add_url_rule("/process", view_func=bg.background(name="process")(lambda: ""), methods=["POST"])

    accepted = app.test_client().post("/process", headers={"Authorization": "Bearer t"})

    assert "private" not in stored_input(state(app).store, accepted.headers["Task-Id"])


def test_doctor_says_what_runs_get(make_app, bg):
    pytest.importorskip("flask_login").LoginManager(app := make_app(keep_headers=["X-Api-Key", "Cookie"]))

    said = app.test_cli_runner().invoke(args=["bgtasks", "doctor"]).output

    assert "X-Api-Key, Cookie (BGTASKS_KEEP_HEADERS)" in said
    assert "flask_login" in said
