"""webargs: arguments from bodies, queries and forms that decorators hand to the view."""

import datetime
import decimal
import uuid

from flask import Flask, jsonify

from tests.retrofit.harness import needs

needs("webargs")

import marshmallow as ma
from webargs import fields, validate
from webargs.flaskparser import abort, use_args, use_kwargs

ENDPOINTS = ["translate", "search", "plan", "resize", "both", "place"]

ID = uuid.UUID("5a7f6e0c-3a4e-4c53-9b5a-0c6a1f1f7c55")


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y


class PointSchema(ma.Schema):
    x = ma.fields.Integer(required=True)
    y = ma.fields.Integer(required=True)

    @ma.post_load
    def make(self, data, **kwargs):
        return Point(**data)


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(config)

    @app.errorhandler(422)
    @app.errorhandler(400)
    def handle_error(error):
        """webargs docs, "Error Handling"."""
        messages = error.data.get("messages", ["Invalid request."])
        return jsonify({"errors": messages}), error.code, error.data.get("headers") or {}

    @app.post("/translate")
    @use_kwargs({"text": fields.Str(required=True), "lang": fields.Str(load_default="en")})
    def translate(text, lang):
        return {"text": f"{text} ({lang})"}

    @app.get("/search")
    @use_args({"q": fields.Str(required=True), "page": fields.Int(load_default=1)}, location="query")
    def search(args):
        return {"found": [args["q"]] * args["page"]}

    @app.post("/plan")
    @use_kwargs(
        {
            "at": fields.DateTime(required=True),
            "day": fields.Date(),
            "id": fields.UUID(required=True),
            "price": fields.Decimal(),
            "took": fields.TimeDelta(precision="minutes"),
            "tags": fields.List(fields.Str(), load_default=()),
        }
    )
    def plan(at, id, tags, day=None, price=None, took=None):
        assert (type(at), type(id)) == (datetime.datetime, uuid.UUID)
        assert day is None or type(day) is datetime.date
        assert price is None or type(price) is decimal.Decimal
        assert took is None or type(took) is datetime.timedelta
        return {"weekday": at.strftime("%A"), "id": id.hex, "price": str(price), "took": str(took), "tags": list(tags)}

    @app.post("/resize/<int:number>")
    @use_kwargs({"width": fields.Int(required=True, validate=validate.Range(1, 4096))}, location="form")
    def resize(number, width):
        return {"number": number, "width": width}

    @app.post("/both")
    @use_args({"name": fields.Str(required=True)})
    @use_kwargs({"loud": fields.Bool(load_default=False)}, location="query")
    def both(args, loud):
        return {"hello": args["name"].upper() if loud else args["name"]}

    @app.post("/place")
    @use_args(PointSchema())
    def place(point):
        if point.x < 0:
            abort(422, messages={"json": {"x": ["outside"]}})
        return {"placed": [point.x, point.y], "type": type(point).__name__}

    return app


def test_keywords(client, allowed, refused):
    assert allowed(client.post("/translate", json={"text": "Wal"})).json == {"text": "Wal (en)"}
    assert allowed(client.post("/translate", json={"text": "Wal", "lang": "de"})).json == {"text": "Wal (de)"}

    answer = refused(client.post("/translate", json={"lang": "de"}), 422)
    assert answer.json == {"errors": {"json": {"text": ["Missing data for required field."]}}}
    refused(client.post("/translate", data="{", content_type="application/json"), 400)


def test_arguments_of_the_query(client, allowed, refused):
    assert allowed(client.get("/search?q=whales&page=2")).json == {"found": ["whales", "whales"]}
    refused(client.get("/search?page=2"), 422)


def test_arguments_that_are_no_json(client, allowed, refused):
    body = {"at": "2024-05-01T10:00:00", "id": str(ID), "day": "2024-05-02", "price": "1.50", "took": 90, "tags": ["a"]}

    answer = allowed(client.post("/plan", json=body))

    assert answer.json == {"weekday": "Wednesday", "id": ID.hex, "price": "1.50", "took": "1:30:00", "tags": ["a"]}
    refused(client.post("/plan", json={**body, "id": "x"}), 422)


def test_arguments_beside_those_of_the_url(client, allowed, refused):
    assert allowed(client.post("/resize/7", data={"width": "100"})).json == {"number": 7, "width": 100}
    refused(client.post("/resize/7", data={"width": "5000"}), 422)
    refused(client.post("/resize/x", data={"width": "100"}), 404)


def test_arguments_of_two_decorators(client, allowed, refused):
    assert allowed(client.post("/both?loud=1", json={"name": "ann"})).json == {"hello": "ANN"}
    refused(client.post("/both?loud=very", json={"name": "ann"}), 422)
    refused(client.post("/both", json={}), 422)


def test_an_argument_that_is_an_object(client, allowed, refused):
    assert allowed(client.post("/place", json={"x": 1, "y": 2})).json == {"placed": [1, 2], "type": "Point"}
    refused(client.post("/place", json={"x": 1}), 422)


def test_a_refusal_of_the_view_itself(client):
    answer = client.post("/place", json={"x": -1, "y": 2})

    assert answer.status_code == 422
    assert answer.json == {"errors": {"json": {"x": ["outside"]}}}
