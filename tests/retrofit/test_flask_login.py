"""Flask-Login: a session login with roles, and an API whose users are named by a `request_loader` alone."""

import functools

import pytest
from flask import Flask, jsonify, request
from flask.views import MethodView

from tests.retrofit.harness import needs

needs("flask_login")

from flask_login import LoginManager, UserMixin, current_user, fresh_login_required, login_required, login_user

ENDPOINTS = ["generate", "publish", "reindex", "rename", "letters", "drafts"]

USERS = {"ann": "editor", "bob": "reader", "eve": "admin"}


class User(UserMixin):
    def __init__(self, name):
        self.id = name
        self.role = USERS[name]


def role_required(role):
    """The recipe of a hundred blogs: checks the user that `login_required` made sure of."""

    def decorator(view):
        @functools.wraps(view)
        def decorated(*args, **kwargs):
            if current_user.role != role:
                return jsonify(error=f"{role}s only"), 403
            return view(*args, **kwargs)

        return decorated

    return decorator


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(config)
    manager = LoginManager(app)

    @manager.user_loader
    def load_user(user_id):
        return User(user_id) if user_id in USERS else None

    @manager.unauthorized_handler
    def unauthorized():
        return jsonify(error="log in first"), 401

    @app.post("/login")
    def login():
        return {"ok": login_user(User(request.json["name"]), fresh=request.json.get("fresh", True))}

    @app.post("/generate")
    @login_required
    def generate():
        return {"text": request.json["topic"].upper(), "by": current_user.id}

    @app.post("/publish")
    @login_required
    @role_required("editor")
    def publish():
        return {"published": current_user.get_id()}

    @app.post("/reindex")
    @role_required("admin")
    @login_required
    def reindex():
        return {"reindexed": 3}

    @app.post("/rename")
    @fresh_login_required
    def rename():
        return {"renamed": current_user.id}

    class Letters(MethodView):
        decorators = (login_required,)

        def get(self):
            return {"letters": []}

        def post(self):
            return {"letter": f"Dear {current_user.id}"}, 201

    class Drafts(MethodView):
        decorators = (role_required("editor"), login_required)  # the last is the outermost

        def post(self):
            return {"draft": current_user.role}

    app.add_url_rule("/letters", view_func=Letters.as_view("letters"))
    app.add_url_rule("/drafts", view_func=Drafts.as_view("drafts"))
    return app


def create_api(config):
    """No session, no `user_loader`: each request names its user by a key."""
    app = Flask(__name__)
    app.config.from_mapping(config)
    manager = LoginManager(app)

    @manager.request_loader
    def load_user(request):
        key = request.headers.get("X-Api-Key", "")
        return User(key.removeprefix("key-of-")) if key.removeprefix("key-of-") in USERS else None

    @app.post("/generate")
    @login_required
    def generate():
        return {"text": request.json["topic"].upper(), "by": current_user.id, "role": current_user.role}

    return app


@pytest.fixture
def log_in(client):
    return lambda name, **options: client.post("/login", json={"name": name, **options})


def test_nobody_generates_without_a_login(client, refused):
    answer = refused(client.post("/generate", json={"topic": "whales"}), 401)

    assert answer.json == {"error": "log in first"}


def test_a_user_generates(client, log_in, allowed):
    log_in("ann")

    answer = allowed(client.post("/generate", json={"topic": "whales"}))

    assert answer.json == {"text": "WHALES", "by": "ann"}


def test_users_do_not_mix(app, allowed):
    ann, bob = app.test_client(), app.test_client()
    ann.post("/login", json={"name": "ann"})
    bob.post("/login", json={"name": "bob"})

    assert allowed(bob.post("/generate", json={"topic": "b"})).json["by"] == "bob"
    assert allowed(ann.post("/generate", json={"topic": "a"})).json["by"] == "ann"


def test_a_role_is_checked_after_the_login(client, log_in, allowed, refused):
    refused(client.post("/publish"), 401)
    log_in("bob")
    refused(client.post("/publish"), 403)
    log_in("ann")
    assert allowed(client.post("/publish")).json == {"published": "ann"}


def test_a_role_that_is_checked_before_the_login(make_app, log_in, client, allowed, refused):
    log_in("bob")
    assert refused(client.post("/reindex"), 403).json == {"error": "admins only"}
    log_in("eve")
    assert allowed(client.post("/reindex")).json == {"reindexed": 3}


def test_a_login_that_is_not_fresh(client, log_in, allowed, refused):
    log_in("ann", fresh=False)
    refused(client.post("/rename"), 401)
    log_in("ann")
    assert allowed(client.post("/rename")).json == {"renamed": "ann"}


def test_a_view_of_methods_with_a_guard(client, log_in, allowed, refused):
    refused(client.post("/letters"), 401)
    refused(client.get("/letters"), 401)
    log_in("bob")
    assert allowed(client.post("/letters"), 201).json == {"letter": "Dear bob"}
    assert client.get("/letters").json == {"letters": []}


def test_a_view_of_methods_with_two_guards(client, log_in, allowed, refused):
    refused(client.post("/drafts"), 401)
    log_in("bob")
    refused(client.post("/drafts"), 403)
    log_in("ann")
    assert allowed(client.post("/drafts")).json == {"draft": "editor"}


@pytest.fixture
def api(make_app):
    # Nothing but the header can name the user again in a run.
    return make_app(create_api, endpoints=["generate"], BGTASKS_KEEP_HEADERS=["X-Api-Key"]).test_client()


def test_an_api_refuses_those_that_it_does_not_know(api, refused):
    for headers in ({}, {"X-Api-Key": "wrong"}, {"X-Api-Key": "key-of-nobody"}):
        refused(api.post("/generate", json={"topic": "whales"}, headers=headers), 401)


def test_an_api_knows_its_users_by_their_keys(api, allowed):
    for name in ("ann", "bob"):
        answer = allowed(api.post("/generate", json={"topic": "whales"}, headers={"X-Api-Key": f"key-of-{name}"}))
        assert answer.json == {"text": "WHALES", "by": name, "role": USERS[name]}
