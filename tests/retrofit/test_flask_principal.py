"""Flask-Principal: needs and permissions, as decorators and inside the view, with an identity kept in the session."""

import pytest
from flask import Flask, abort, current_app, g, jsonify, request, session

from tests.retrofit.harness import needs

needs("flask_principal")

from flask_principal import (
    Identity,
    Permission,
    PermissionDenied,
    Principal,
    RoleNeed,
    UserNeed,
    identity_changed,
    identity_loaded,
)

ENDPOINTS = ["generate", "publish", "archive", "sign"]

ROLES = {"ann": ["writer", "editor"], "bob": ["writer"], "cat": []}

writer = Permission(RoleNeed("writer"))
editor = Permission(RoleNeed("editor"))


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(config)
    Principal(app)

    @identity_loaded.connect_via(app)
    def on_identity_loaded(sender, identity):
        identity.provides.add(UserNeed(identity.id))
        for role in ROLES.get(identity.id, ()):
            identity.provides.add(RoleNeed(role))

    app.extensions["kept for blinker"] = on_identity_loaded

    @app.errorhandler(PermissionDenied)
    def denied(error):
        return jsonify(error=f"not allowed: {error}"), 403

    @app.post("/login")
    def login():
        session["user"] = request.json["name"]
        identity_changed.send(current_app._get_current_object(), identity=Identity(request.json["name"]))
        return {"ok": True}

    @app.post("/generate")
    @writer.require(401)
    def generate():
        return {"text": request.json["topic"].upper(), "by": g.identity.id}

    @app.post("/publish")
    @editor.require()
    def publish():
        return {"published": sorted(need.value for need in g.identity.provides)}

    @app.post("/archive")
    def archive():
        with editor.require():
            return {"archived": True}

    @app.post("/sign")
    @writer.require(403)
    def sign():
        if not Permission(UserNeed("ann")).can():
            abort(404, "nothing to sign")
        return {"signed": True}

    return app


@pytest.fixture
def log_in(client):
    return lambda name: client.post("/login", json={"name": name})


def test_nobody_generates(client, log_in, refused):
    refused(client.post("/generate", json={"topic": "whales"}), 401)
    log_in("cat")
    refused(client.post("/generate", json={"topic": "whales"}), 401)


def test_a_writer_generates(client, log_in, allowed):
    for name in ("ann", "bob"):
        log_in(name)
        answer = allowed(client.post("/generate", json={"topic": "whales"}))
        assert answer.json == {"text": "WHALES", "by": name}


def test_a_permission_that_raises(client, log_in, allowed, refused):
    log_in("bob")
    assert "not allowed" in refused(client.post("/publish"), 403).json["error"]
    log_in("ann")
    assert allowed(client.post("/publish")).json == {"published": ["ann", "editor", "writer"]}


def test_a_permission_inside_the_view(client, log_in, allowed):
    log_in("bob")
    assert client.post("/archive").status_code == 403  # the view's own answer: only it knows
    log_in("ann")
    assert allowed(client.post("/archive")).json == {"archived": True}


def test_a_question_inside_the_view(client, log_in, allowed, refused):
    refused(client.post("/sign"), 403)
    log_in("bob")
    assert client.post("/sign").status_code == 404
    log_in("ann")
    assert allowed(client.post("/sign")).json == {"signed": True}
