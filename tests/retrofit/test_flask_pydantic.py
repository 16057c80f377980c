"""Flask-Pydantic: models of the body, of the query and of the answer, by the view's annotations."""

from datetime import datetime
from uuid import UUID

from flask import Flask, request

from tests.retrofit.harness import needs

needs("flask_pydantic")

from flask_pydantic import validate
from pydantic import BaseModel, Field

ENDPOINTS = ["generate", "search", "plan", "legacy", "numbered"]


class Order(BaseModel):
    topic: str = Field(min_length=1)
    copies: int = 1


class Search(BaseModel):
    q: str
    page: int = 1


class Plan(BaseModel):
    at: datetime
    course: UUID


class Text(BaseModel):
    text: str
    copies: int


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(config)

    @app.post("/generate")
    @validate()
    def generate(body: Order):
        return Text(text=body.topic.upper(), copies=body.copies)

    @app.get("/search")
    @validate()
    def search(query: Search):
        return {"found": [query.q] * query.page}

    @app.post("/plan")
    @validate(on_success_status=201)
    def plan(body: Plan, query: Search):
        assert isinstance(body.at, datetime)
        return Text(text=f"{query.q}: {body.at:%A} {body.course.hex[:4]}", copies=query.page)

    @app.post("/legacy")
    @validate(body=Order)
    def legacy():
        return {"topic": request.body_params.topic}

    @app.post("/numbered/<number>")
    @validate()
    def numbered(number: int, body: Order):
        return {"number": number + 1, "topic": body.topic}

    return app


def test_a_model_of_the_body(client, allowed, refused):
    assert allowed(client.post("/generate", json={"topic": "whales"})).json == {"text": "WHALES", "copies": 1}

    answer = refused(client.post("/generate", json={"topic": "", "copies": "many"}), 400)
    assert len(answer.json["validation_error"]["body_params"]) == 2
    refused(client.post("/generate", json={}), 400)
    refused(client.post("/generate", data="topic=whales"), 415)


def test_a_model_of_the_query(client, allowed, refused):
    assert allowed(client.get("/search?q=whales&page=2")).json == {"found": ["whales", "whales"]}
    refused(client.get("/search?page=x"), 400)


def test_models_with_dates_and_ids(client, allowed, refused):
    body = {"at": "2024-05-01T10:00:00Z", "course": "5a7f6e0c-3a4e-4c53-9b5a-0c6a1f1f7c55"}

    answer = allowed(client.post("/plan?q=whales", json=body), 201)

    assert answer.json == {"text": "whales: Wednesday 5a7f", "copies": 1}
    refused(client.post("/plan?q=whales", json={**body, "course": "x"}), 400)


def test_a_model_on_the_request(client, allowed, refused):
    assert allowed(client.post("/legacy", json={"topic": "whales"})).json == {"topic": "whales"}
    refused(client.post("/legacy", json={"topic": 7}), 400)


def test_an_argument_of_the_url_that_is_converted(client, allowed, refused):
    assert allowed(client.post("/numbered/6", json={"topic": "whales"})).json == {"number": 7, "topic": "whales"}
    refused(client.post("/numbered/six", json={"topic": "whales"}), 400)
