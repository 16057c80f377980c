"""flask-smorest: a blueprint of method views with arguments of all kinds, responses, a login and ETags."""

import functools
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone

from flask import Flask, request
from flask.views import MethodView

from tests.retrofit.harness import needs

needs("flask_smorest")

import marshmallow as ma
from flask_smorest import Api, Blueprint, abort

ENDPOINTS = [
    "lessons.Lessons",
    "lessons.Lesson",
    "lessons.plan",
    "lessons.order",
    "lessons.secret",
    "lessons.shelf",
    "lessons.tagged",
]

LESSON = uuid.UUID("5a7f6e0c-3a4e-4c53-9b5a-0c6a1f1f7c55")


class LessonSchema(ma.Schema):
    id = ma.fields.UUID(dump_only=True)
    topic = ma.fields.String(required=True, validate=ma.validate.Length(min=1, max=40))
    level = ma.fields.Integer(load_default=1)


class LessonPatchSchema(ma.Schema):
    topic = ma.fields.String()
    level = ma.fields.Integer()


class LanguageSchema(ma.Schema):
    lang = ma.fields.String(load_default="en", validate=ma.validate.OneOf(["en", "de"]))


class PlanSchema(ma.Schema):
    at = ma.fields.AwareDateTime(required=True, default_timezone=timezone.utc)
    course = ma.fields.UUID(required=True)
    hours = ma.fields.Decimal(load_default=None, places=1)


@dataclass
class Order:
    topic: str
    copies: int


class OrderSchema(ma.Schema):
    topic = ma.fields.String(required=True)
    copies = ma.fields.Integer(load_default=1)

    @ma.post_load
    def make(self, data, **kwargs):
        return Order(**data)


def key_required(view):
    @functools.wraps(view)
    def checked(*args, **kwargs):
        if request.headers.get("X-Key") != "right":
            abort(401, message="no key")
        return view(*args, **kwargs)

    return checked


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(API_TITLE="Lessons", API_VERSION="1", OPENAPI_VERSION="3.0.3", OPENAPI_URL_PREFIX="/docs")
    app.config.from_mapping(config)
    blp = Blueprint("lessons", "lessons", url_prefix="/lessons", description="Lessons that are written on demand")

    @blp.route("/")
    class Lessons(MethodView):
        @blp.response(200, LessonSchema(many=True))
        def get(self):
            return []

        @blp.arguments(LessonSchema)
        @blp.arguments(LanguageSchema, location="query")
        @blp.response(201, LessonSchema)
        def post(self, new, options):
            """Write a lesson."""
            return {"id": LESSON, "topic": f"{new['topic']} ({options['lang']})", "level": new["level"] + 1}

    @blp.route("/<uuid:lesson_id>")
    class Lesson(MethodView):
        @blp.arguments(LessonPatchSchema, as_kwargs=True)
        @blp.response(200, LessonSchema)
        @blp.alt_response(404, description="There is none")
        def put(self, lesson_id, topic="?", level=None):
            if lesson_id != LESSON:
                abort(404, message="no such lesson")
            return {"id": lesson_id, "topic": topic}

    @blp.route("/plan", methods=["POST"])
    @blp.arguments(PlanSchema)
    @blp.response(200)
    def plan(new):
        assert isinstance(new["at"], datetime)
        assert isinstance(new["course"], uuid.UUID)
        return {"weekday": new["at"].strftime("%A"), "course": new["course"].hex, "hours": str(new["hours"])}

    @blp.route("/order", methods=["POST"])
    @blp.arguments(OrderSchema)
    @blp.response(200)
    def order(new):
        return {"ordered": f"{new.copies} x {new.topic}", "type": type(new).__name__}

    @blp.route("/secret", methods=["POST"])
    @key_required
    @blp.arguments(LessonSchema)
    @blp.response(200, LessonSchema)
    def secret(new):
        return new

    @blp.route("/shelf")
    @blp.response(200, LessonSchema(many=True))
    @blp.paginate()
    def shelf(pagination_parameters):
        pagination_parameters.item_count = 30
        first = pagination_parameters.first_item
        return [{"topic": f"Lesson {number}"} for number in range(first, first + pagination_parameters.page_size)]

    @blp.route("/tagged")
    @blp.etag
    @blp.response(200, LessonSchema)
    def tagged():
        return {"topic": "Whales"}

    Api(app).register_blueprint(blp)
    return app


def test_a_lesson(client, allowed):
    answer = allowed(client.post("/lessons/?lang=de", json={"topic": "Whales"}), 201)

    assert answer.json == {"id": str(LESSON), "topic": "Whales (de)", "level": 2}


def test_the_list_of_lessons(client):
    assert client.get("/lessons/").json == []


def test_arguments_that_are_wrong(client, refused):
    for query, body, where in (
        ("", {}, "topic"),
        ("", {"topic": ""}, "topic"),
        ("", {"topic": "Whales", "level": "high"}, "level"),
        ("", {"topic": "Whales", "colour": "blue"}, "colour"),
        ("?lang=fr", {"topic": "Whales"}, "lang"),
    ):
        answer = refused(client.post(f"/lessons/{query}", json=body), 422)
        assert where in next(iter(answer.json["errors"].values()))


def test_a_body_that_is_not_json(client, refused):
    refused(client.post("/lessons/", data="{", content_type="application/json"), 400)


def test_arguments_as_keywords_beside_those_of_the_url(client, allowed, refused):
    answer = allowed(client.put(f"/lessons/{LESSON}", json={"topic": "Squids"}))
    assert answer.json == {"id": str(LESSON), "topic": "Squids"}

    refused(client.put(f"/lessons/{LESSON}", json={"topic": 7}), 422)
    missing = client.put(f"/lessons/{uuid.UUID(int=7)}", json={"topic": "Squids"})
    assert missing.status_code == 404
    assert missing.json["message"] == "no such lesson"


def test_arguments_that_are_dates_and_ids(client, allowed, refused):
    body = {"at": "2024-05-01T10:00:00+02:00", "course": str(LESSON), "hours": "1.5"}
    answer = allowed(client.post("/lessons/plan", json=body))
    assert answer.json == {"weekday": "Wednesday", "course": LESSON.hex, "hours": "1.5"}

    refused(client.post("/lessons/plan", json={**body, "course": "x"}), 422)
    refused(client.post("/lessons/plan", json={**body, "at": "tomorrow"}), 422)


def test_arguments_that_are_an_object(client, allowed, refused):
    answer = allowed(client.post("/lessons/order", json={"topic": "Whales", "copies": 3}))
    assert answer.json == {"ordered": "3 x Whales", "type": "Order"}

    refused(client.post("/lessons/order", json={"copies": 3}), 422)


def test_a_guard_above_the_arguments(client, allowed, refused):
    refused(client.post("/lessons/secret", json={}), 401)
    refused(client.post("/lessons/secret", json={}, headers={"X-Key": "right"}), 422)
    answer = allowed(client.post("/lessons/secret", json={"topic": "Whales"}, headers={"X-Key": "right"}))
    assert answer.json == {"topic": "Whales", "level": 1}


def test_a_page_of_a_list(client, allowed, refused):
    answer = allowed(client.get("/lessons/shelf?page=2&page_size=3"))

    assert [lesson["topic"] for lesson in answer.json] == ["Lesson 3", "Lesson 4", "Lesson 5"]
    refused(client.get("/lessons/shelf?page=0"), 422)


def test_an_answer_with_an_etag(client, allowed):
    assert allowed(client.get("/lessons/tagged")).json["topic"] == "Whales"


def test_the_description_of_the_api(client):
    assert "/lessons/plan" in client.get("/docs/openapi.json").json["paths"]
