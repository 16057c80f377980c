"""Flask-HTTPAuth: basic, token and several at once, with roles and with an optional login."""

import pytest
from flask import Flask, jsonify, request
from werkzeug.security import check_password_hash, generate_password_hash

from tests.retrofit.harness import needs

needs("flask_httpauth")

from flask_httpauth import HTTPBasicAuth, HTTPTokenAuth, MultiAuth

ENDPOINTS = ["generate", "reindex", "token_generate", "any_generate", "preview"]

PASSWORDS = {
    name: generate_password_hash(f"{name}'s password", method="pbkdf2:sha256:1") for name in ("ann", "bob")
}  # one round: for tests
ROLES = {"ann": ["user", "admin"], "bob": ["user"]}
TOKENS = {"secret-token-1": "ann", "secret-token-2": "bob"}


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(config)
    basic = HTTPBasicAuth()
    token = HTTPTokenAuth(scheme="Bearer")
    either = MultiAuth(basic, token)

    @basic.verify_password
    def verify_password(username, password):
        if username in PASSWORDS and check_password_hash(PASSWORDS[username], password):
            return username
        return None

    @basic.get_user_roles
    def get_user_roles(user):
        return ROLES[user]

    @token.verify_token
    def verify_token(given):
        return TOKENS.get(given)

    @token.error_handler
    def token_error(status):
        return jsonify(error="a token is needed"), status

    @app.post("/generate")
    @basic.login_required
    def generate():
        return {"text": request.json["topic"].upper(), "by": basic.current_user(), "same": basic.username()}

    @app.post("/reindex")
    @basic.login_required(role="admin")
    def reindex():
        return {"reindexed": basic.current_user()}

    @app.post("/preview")
    @basic.login_required(optional=True)
    def preview():
        return {"for": basic.current_user() or "a guest"}

    @app.post("/token/generate")
    @token.login_required
    def token_generate():
        return {"by": token.current_user()}

    @app.post("/any/generate")
    @either.login_required
    def any_generate():
        return {"by": either.current_user()}

    return app


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def test_who_is_not_known_is_asked_for_a_password(client, refused):
    for auth in (None, ("ann", "wrong"), ("nobody", "ann's password"), ("", "")):
        answer = refused(client.post("/generate", json={"topic": "whales"}, auth=auth), 401)
        assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")


def test_the_view_knows_who_asked(client, allowed):
    for name in ("ann", "bob"):
        answer = allowed(client.post("/generate", json={"topic": "whales"}, auth=(name, f"{name}'s password")))
        assert answer.json["text"] == "WHALES"
        assert answer.json["by"] == name


@pytest.mark.only_in_the_request(
    "auth.username() reads the Authorization header, which is not stored; auth.current_user() is restored"
)
def test_the_name_in_the_header(client, allowed):
    answer = allowed(client.post("/generate", json={"topic": "whales"}, auth=("ann", "ann's password")))

    assert answer.json["same"] == "ann"


def test_the_name_in_a_header_that_is_kept(make_app, allowed):
    client = make_app(BGTASKS_KEEP_HEADERS=["Authorization"]).test_client()

    answer = allowed(client.post("/generate", json={"topic": "whales"}, auth=("ann", "ann's password")))

    assert answer.json["same"] == answer.json["by"] == "ann"


def test_a_role(client, allowed, refused):
    refused(client.post("/reindex"), 401)
    refused(client.post("/reindex", auth=("bob", "bob's password")), 403)
    assert allowed(client.post("/reindex", auth=("ann", "ann's password"))).json == {"reindexed": "ann"}


def test_a_login_that_is_optional(client, allowed):
    assert allowed(client.post("/preview")).json == {"for": "a guest"}
    assert allowed(client.post("/preview", auth=("bob", "bob's password"))).json == {"for": "bob"}


def test_a_token(client, allowed, refused):
    assert refused(client.post("/token/generate"), 401).json == {"error": "a token is needed"}
    refused(client.post("/token/generate", headers=bearer("wrong")), 401)
    assert allowed(client.post("/token/generate", headers=bearer("secret-token-2"))).json == {"by": "bob"}


def test_a_token_or_a_password(client, allowed, refused):
    refused(client.post("/any/generate"), 401)
    refused(client.post("/any/generate", headers=bearer("wrong")), 401)
    assert allowed(client.post("/any/generate", headers=bearer("secret-token-2"))).json == {"by": "bob"}
    assert allowed(client.post("/any/generate", auth=("ann", "ann's password"))).json == {"by": "ann"}
