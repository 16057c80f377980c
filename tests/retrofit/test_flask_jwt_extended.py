"""Flask-JWT-Extended: access tokens, fresh ones, claims, revoked ones, a user lookup, an optional login."""

import functools
from datetime import timedelta

import pytest
from flask import Blueprint, Flask, jsonify, request

from tests.retrofit.harness import needs

needs("flask_jwt_extended")

from flask_jwt_extended import (
    JWTManager,
    create_access_token,
    create_refresh_token,
    current_user,
    get_csrf_token,
    get_current_user,
    get_jwt,
    get_jwt_identity,
    jwt_required,
    verify_jwt_in_request,
)

ENDPOINTS = ["generate", "preview", "delete_account", "reindex", "profile", "renew", "members.generate_for_member"]

USERS = {"ann": {"name": "ann", "plan": "pro"}, "bob": {"name": "bob", "plan": "free"}}


def admin_required():
    """Flask-JWT-Extended docs, "Custom Decorators"."""

    def wrapper(fn):
        @functools.wraps(fn)
        def decorator(*args, **kwargs):
            verify_jwt_in_request()
            if get_jwt().get("is_administrator"):
                return fn(*args, **kwargs)
            return jsonify(msg="Admins only!"), 403

        return decorator

    return wrapper


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(JWT_SECRET_KEY="a secret that is long enough for HS256")
    app.config.from_mapping(config)
    jwt = JWTManager(app)
    revoked = set()

    @jwt.user_lookup_loader
    def user_lookup(header, data):
        return USERS.get(data["sub"])

    @jwt.token_in_blocklist_loader
    def is_revoked(header, data):
        return data["jti"] in revoked

    @app.post("/login")
    def login():
        name = request.json["name"]
        claims = {"is_administrator": name == "ann"}
        return {
            "access": create_access_token(name, additional_claims=claims),
            "fresh": create_access_token(name, fresh=True),
            "refresh": create_refresh_token(name),
            "expired": create_access_token(name, expires_delta=timedelta(seconds=-1)),
        }

    @app.delete("/login")
    @jwt_required()
    def logout():
        revoked.add(get_jwt()["jti"])
        return {"msg": "revoked"}

    @app.post("/generate")
    @jwt_required()
    def generate():
        return {"text": request.json["topic"].upper(), "by": get_jwt_identity()}

    @app.post("/preview")
    @jwt_required(optional=True)
    def preview():
        return {"for": get_jwt_identity() or "a guest"}

    @app.post("/delete-account")
    @jwt_required(fresh=True)
    def delete_account():
        return {"deleted": get_jwt_identity()}

    @app.post("/reindex")
    @admin_required()
    def reindex():
        return {"admin": get_jwt()["is_administrator"]}

    @app.get("/profile")
    @jwt_required()
    def profile():
        assert get_current_user() == current_user
        return {"name": current_user["name"], "plan": current_user["plan"]}

    @app.post("/renew")
    @jwt_required(refresh=True)
    def renew():
        return {"renewed": get_jwt_identity()}

    members = Blueprint("members", __name__, url_prefix="/members")

    @members.before_request
    def only_members():
        verify_jwt_in_request()

    @members.post("/generate")
    def generate_for_member():
        return {"member": get_jwt_identity()}

    app.register_blueprint(members)
    return app


@pytest.fixture
def bearer(client):
    """The header of a user, with a token of some kind."""

    def header(name, kind="access"):
        return {"Authorization": f"Bearer {client.post('/login', json={'name': name}).json[kind]}"}

    return header


def test_without_a_token(client, refused):
    for path in ("/generate", "/delete-account", "/reindex", "/renew"):
        answer = refused(client.post(path, json={"topic": "whales"}), 401)
        assert answer.json == {"msg": "Missing Authorization Header"}


def test_with_something_that_is_no_token(client, refused):
    for header, status in (("Bearer nonsense", 422), ("Basic YW5uOnB3", 401), ("Bearer a.b.c", 422), ("Bearer", 422)):
        refused(client.post("/generate", json={"topic": "whales"}, headers={"Authorization": header}), status)


def test_with_the_wrong_token(client, bearer, refused):
    for kind, status in (("expired", 401), ("refresh", 422)):
        refused(client.post("/generate", json={"topic": "whales"}, headers=bearer("ann", kind)), status)


def test_the_view_knows_who_asked(client, bearer, allowed):
    for name in ("ann", "bob"):
        answer = allowed(client.post("/generate", json={"topic": "whales"}, headers=bearer(name)))
        assert answer.json == {"text": "WHALES", "by": name}


def test_a_login_that_is_optional(client, bearer, allowed, refused):
    assert allowed(client.post("/preview")).json == {"for": "a guest"}
    assert allowed(client.post("/preview", headers=bearer("bob"))).json == {"for": "bob"}
    refused(client.post("/preview", headers=bearer("bob", "expired")), 401)


def test_a_token_that_has_to_be_fresh(client, bearer, allowed, refused):
    refused(client.post("/delete-account", headers=bearer("bob")), 401)
    assert allowed(client.post("/delete-account", headers=bearer("bob", "fresh"))).json == {"deleted": "bob"}


def test_a_claim_is_asked_for(client, bearer, allowed, refused):
    assert refused(client.post("/reindex", headers=bearer("bob")), 403).json == {"msg": "Admins only!"}
    assert allowed(client.post("/reindex", headers=bearer("ann"))).json == {"admin": True}


def test_the_user_of_the_token(client, bearer, allowed, refused):
    refused(client.get("/profile"), 401)
    refused(client.get("/profile", headers=bearer("nobody")), 401)
    assert allowed(client.get("/profile", headers=bearer("bob"))).json == {"name": "bob", "plan": "free"}


def test_a_refresh_token(client, bearer, allowed, refused):
    refused(client.post("/renew", headers=bearer("bob")), 422)
    assert allowed(client.post("/renew", headers=bearer("bob", "refresh"))).json == {"renewed": "bob"}


def test_a_token_that_was_revoked(client, bearer, allowed, refused):
    header = bearer("ann")
    allowed(client.post("/generate", json={"topic": "whales"}, headers=header))
    client.delete("/login", headers=header)

    answer = refused(client.post("/generate", json={"topic": "whales"}, headers=header), 401)

    assert answer.json == {"msg": "Token has been revoked"}


def test_a_blueprint_that_is_guarded_before_each_request(client, bearer, allowed, refused):
    refused(client.post("/members/generate"), 401)
    assert allowed(client.post("/members/generate", headers=bearer("bob"))).json == {"member": "bob"}


def test_a_token_in_a_cookie_with_its_csrf_token(make_app, allowed, refused):
    app = make_app(JWT_TOKEN_LOCATION=["cookies"], JWT_COOKIE_SECURE=False)
    client = app.test_client()
    with app.test_request_context():
        token = create_access_token("ann")
        csrf = get_csrf_token(token)
    refused(client.post("/generate", json={"topic": "whales"}), 401)

    client.set_cookie("access_token_cookie", token)
    refused(client.post("/generate", json={"topic": "whales"}), 401)
    refused(client.post("/generate", json={"topic": "whales"}, headers={"X-CSRF-TOKEN": "wrong"}), 401)
    answer = allowed(client.post("/generate", json={"topic": "whales"}, headers={"X-CSRF-TOKEN": csrf}))

    assert answer.json == {"text": "WHALES", "by": "ann"}
