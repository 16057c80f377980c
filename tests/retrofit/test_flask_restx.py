"""Flask-RESTX: resources with models, parsers, marshalling, error handlers and guards as `method_decorators`."""

import functools

import pytest
from flask import Flask, request

from tests.retrofit.harness import needs

needs("flask_restx")

from flask_restx import Api, Namespace, Resource, abort, fields, inputs, reqparse

ENDPOINTS = ["texts_texts", "texts_search", "texts_drafts", "texts_broken"]


class NoCredit(Exception):
    pass


def key_required(method):
    @functools.wraps(method)
    def checked(*args, **kwargs):
        if request.headers.get("X-Key") != "right":
            abort(401, "no key")
        return method(*args, **kwargs)

    return checked


def only(*users):
    def decorator(method):
        @functools.wraps(method)
        def checked(*args, **kwargs):
            if request.headers.get("X-User") not in users:
                abort(403, "not yours")
            return method(*args, **kwargs)

        return checked

    return decorator


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(RESTX_INCLUDE_ALL_MODELS=True)
    app.config.from_mapping(config)
    api = Api(app, title="Texts", version="1")
    ns = Namespace("texts", description="Texts that are written on demand")
    api.add_namespace(ns, path="/texts")

    order = ns.model("Order", {"topic": fields.String(required=True, min_length=2), "copies": fields.Integer})
    text = ns.model("Text", {"text": fields.String, "by": fields.String(default="nobody")})
    search = reqparse.RequestParser()
    search.add_argument("q", required=True, help="what to look for")
    search.add_argument("since", type=inputs.date_from_iso8601)
    search.add_argument("tag", action="append")

    @api.errorhandler(NoCredit)
    def no_credit(error):
        return {"message": "no credit"}, 402

    @ns.route("/")
    class Texts(Resource):
        @ns.expect(order, validate=True)
        @ns.marshal_with(text, code=201)
        def post(self):
            """Write a text."""
            return {"text": api.payload["topic"].upper(), "secret": 1}, 201, {"X-Model": "small"}

        def get(self):
            return []

    @ns.route("/search")
    class Search(Resource):
        @ns.expect(search)
        def get(self):
            args = search.parse_args()
            year = args["since"].year if args["since"] else None
            return {"q": args["q"], "year": year, "tags": args["tag"] or []}

    @ns.route("/drafts/<int:number>")
    class Drafts(Resource):
        method_decorators = (only("ann", "bob"), key_required)  # the last is the outermost

        def post(self, number):
            return {"draft": number, "by": request.endpoint}

    @ns.route("/broken")
    class Broken(Resource):
        def post(self):
            raise NoCredit

    return app


def test_a_text(client, allowed):
    answer = allowed(client.post("/texts/", json={"topic": "whales"}), 201)

    assert answer.json == {"text": "WHALES", "by": "nobody"}
    assert client.get("/texts/").json == []


@pytest.mark.only_in_the_request("of a view's own headers a run keeps those that belong to the content, and protect it")
def test_a_header_of_the_views_own(client, allowed):
    answer = allowed(client.post("/texts/", json={"topic": "whales"}), 201)

    assert answer.headers["X-Model"] == "small"


def test_a_payload_that_does_not_fit_the_model(client, refused):
    for body in ({}, {"topic": 7}, {"topic": "w"}, {"topic": "whales", "copies": "many"}):
        answer = refused(client.post("/texts/", json=body), 400)
        assert answer.json["message"] == "Input payload validation failed"


def test_a_search(client, allowed):
    answer = allowed(client.get("/texts/search?q=whales&since=2024-05-01&tag=a&tag=b"))

    assert answer.json == {"q": "whales", "year": 2024, "tags": ["a", "b"]}


def test_a_search_for_nothing(client):
    for query in ("", "?since=2024-05-01", "?q=x&since=tomorrow"):
        answer = client.get(f"/texts/search{query}")  # the view reads its arguments itself: its own answer
        assert answer.status_code == 400
        assert answer.json["message"] == "Input payload validation failed"


def test_guards_of_a_resource(client, allowed, refused):
    def draft(**headers):
        return client.post("/texts/drafts/7", headers={k.replace("_", "-"): v for k, v in headers.items()})

    assert refused(draft(), 401).json == {"message": "no key"}
    refused(draft(X_Key="wrong", X_User="ann"), 401)
    assert refused(draft(X_Key="right"), 403).json == {"message": "not yours"}
    refused(draft(X_Key="right", X_User="eve"), 403)
    assert allowed(draft(X_Key="right", X_User="bob")).json == {"draft": 7, "by": "texts_drafts"}


def test_an_error_handler_of_the_api(client):
    answer = client.post("/texts/broken")

    assert answer.status_code == 402
    assert answer.json["message"] == "no credit"


def test_the_description_of_the_api(client):
    assert set(client.get("/swagger.json").json["paths"]) == {
        "/texts/",
        "/texts/search",
        "/texts/drafts/{number}",
        "/texts/broken",
    }
