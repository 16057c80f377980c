"""Flask-Limiter: limits by address and by user, one for all views, one in the view, exempted views."""

import pytest
from flask import Flask, jsonify, request
from flask.views import MethodView

from tests.retrofit.harness import needs

needs("flask_limiter")

from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

ENDPOINTS = ["generate", "translate", "free", "weigh", "twice", "draw", "paint", "inside"]


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(RATELIMIT_HEADERS_ENABLED=True)
    app.config.from_mapping(config)
    limiter = Limiter(get_remote_address, app=app, default_limits=["5 per hour"], storage_uri="memory://")
    runs = []

    @app.errorhandler(429)
    def too_many(error):
        return jsonify(error=f"limit: {error.description}"), 429

    @app.post("/generate")
    @limiter.limit("2 per hour")
    def generate():
        runs.append(request.remote_addr)
        return {"text": request.json["topic"].upper()}

    @app.post("/translate")
    @limiter.limit("1 per hour", key_func=lambda: request.headers.get("X-User", "nobody"))
    def translate():
        runs.append(request.headers.get("X-User", "?"))
        return {"translated": True}

    @app.post("/free")
    @limiter.exempt
    def free():
        return {"free": True}

    @app.post("/weigh")
    def weigh():
        return {"kg": 150_000}

    @app.post("/twice")
    @limiter.limit("3 per hour", cost=lambda: 2)
    @limiter.limit("10 per hour")
    def twice():
        return {"twice": True}

    shared = limiter.shared_limit("2 per hour", scope="pictures")

    @app.post("/draw")
    @shared
    def draw():
        return {"drawn": True}

    class Paint(MethodView):
        decorators = (shared,)

        def post(self):
            return {"painted": True}

    app.add_url_rule("/paint", view_func=Paint.as_view("paint"))

    @app.post("/inside")
    def inside():
        with limiter.limit("1 per hour"):
            return {"inside": True}

    @app.get("/runs")
    @limiter.exempt
    def count():
        return {"runs": len(runs)}

    app.extensions["the limiter"] = limiter
    return app


def retrofit(app, bgtasks):
    """What the documentation says to add: a client that polls has no share in the limit of all views."""
    app.extensions["the limiter"].exempt(app.blueprints["bgtasks"])


@pytest.fixture
def post(client):
    """Posts from an address."""
    return lambda path, address="198.51.100.7", **more: client.post(
        path, json={"topic": "whales"}, environ_base={"REMOTE_ADDR": address}, **more
    )


def test_the_third_request_is_one_too_many(post, client, allowed, refused):
    allowed(post("/generate"))
    allowed(post("/generate"))

    answer = refused(post("/generate"), 429)

    assert answer.json == {"error": "limit: 2 per 1 hour"}
    assert client.get("/runs").json == {"runs": 2}


def test_each_address_has_a_limit_of_its_own(post, allowed, refused):
    for address in ("198.51.100.1", "198.51.100.2", "198.51.100.3"):
        allowed(post("/generate", address))
        allowed(post("/generate", address))
    refused(post("/generate", "198.51.100.3"), 429)


def test_a_limit_by_user(post, allowed, refused):
    for user in ("ann", "bob"):
        allowed(post("/translate", headers={"X-User": user}))
        refused(post("/translate", headers={"X-User": user}), 429)


def test_the_limit_of_all_views(post, allowed, refused):
    for _ in range(5):
        allowed(post("/weigh"))
    refused(post("/weigh"), 429)


def test_a_view_without_a_limit(post, allowed):
    for _ in range(7):
        allowed(post("/free"))


def test_a_request_that_costs_more(post, allowed, refused):
    allowed(post("/twice"))
    refused(post("/twice"), 429)


def test_a_limit_that_views_share(post, allowed, refused):
    allowed(post("/draw"))
    allowed(post("/paint"))
    refused(post("/draw"), 429)
    refused(post("/paint"), 429)


def test_a_limit_inside_the_view(post, allowed):
    assert allowed(post("/inside")).json == {"inside": True}
    assert post("/inside").status_code == 429  # only the view knows: its own answer
    assert allowed(post("/inside", "198.51.100.8")).json == {"inside": True}


def test_what_is_left_is_said(post):
    assert post("/generate").first.headers["X-RateLimit-Remaining"] == "1"
    assert post("/generate").first.headers["X-RateLimit-Remaining"] == "0"
