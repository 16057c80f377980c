"""APIFlask: inputs and outputs by schema, dataclasses, a token login, files."""

import io
from dataclasses import dataclass
from datetime import date

from tests.retrofit.harness import needs

needs("apiflask")

from apiflask import APIBlueprint, APIFlask, HTTPTokenAuth, Schema, abort
from apiflask.fields import Date, File, Integer, String
from apiflask.validators import Length
from apiflask.views import MethodView
from marshmallow import post_load

ENDPOINTS = ["generate", "translate", "illustrate", "books.Books", "missing"]

TOKENS = {"token-of-ann": "ann", "token-of-bob": "bob"}


class OrderIn(Schema):
    topic = String(required=True, validate=Length(1, 20))
    due = Date(load_default=None)


class TextOut(Schema):
    text = String()
    by = String()
    weekday = String()


class LangIn(Schema):
    lang = String(load_default="en")


class PictureIn(Schema):
    picture = File(required=True)
    title = String(load_default="untitled")


@dataclass
class Book:
    title: str
    pages: int


class BookIn(Schema):
    title = String(required=True)
    pages = Integer(load_default=100)

    @post_load
    def make(self, data, **kwargs):
        return Book(**data)


def create_app(config):
    app = APIFlask(__name__, title="Texts")
    app.config.from_mapping(config)
    auth = HTTPTokenAuth(scheme="Bearer")

    @auth.verify_token
    def verify_token(token):
        return TOKENS.get(token)

    @app.post("/generate")
    @app.input(OrderIn)
    @app.output(TextOut)
    @app.auth_required(auth)
    def generate(json_data):
        due = json_data["due"]
        assert due is None or isinstance(due, date)
        return {
            "text": json_data["topic"].upper(),
            "by": auth.current_user,
            "weekday": due.strftime("%A") if due else "never",
            "secret": 1,
        }

    @app.post("/translate/<int:number>")
    @app.auth_required(auth)
    @app.input(LangIn, location="query")
    @app.input(OrderIn)
    @app.output(TextOut, status_code=201)
    def translate(number, query_data, json_data):
        return {"text": f"{number} {json_data['topic']} {query_data['lang']}"}

    @app.post("/illustrate")
    @app.input(PictureIn, location="form_and_files", arg_name="upload")
    def illustrate(upload):
        return {"title": upload["title"], "bytes": len(upload["picture"].read())}

    @app.post("/missing")
    def missing():
        abort(404, message="no such text", detail={"hint": "look elsewhere"})

    books = APIBlueprint("books", __name__)

    class Books(MethodView):
        decorators = (app.auth_required(auth),)

        @books.input(BookIn, arg_name="book")
        def post(self, book):
            return {"book": book.title, "pages": book.pages, "type": type(book).__name__}

    books.add_url_rule("/books", view_func=Books.as_view("Books"))
    app.register_blueprint(books)
    return app


def bearer(name):
    return {"Authorization": f"Bearer token-of-{name}"}


def test_nobody_generates_without_a_token(client, refused):
    for headers in ({}, bearer("eve"), {"Authorization": "Basic YQ=="}):
        refused(client.post("/generate", json={"topic": "whales"}, headers=headers), 401)


def test_a_text(client, allowed):
    for name in ("ann", "bob"):
        answer = allowed(client.post("/generate", json={"topic": "whales", "due": "2024-05-01"}, headers=bearer(name)))
        assert answer.json == {"text": "WHALES", "by": name, "weekday": "Wednesday"}


def test_an_order_that_is_wrong(client, refused):
    for body in ({}, {"topic": ""}, {"topic": "whales", "due": "soon"}, {"topic": "w" * 21}):
        refused(client.post("/generate", json=body, headers=bearer("ann")), 422)


def test_a_translation(client, allowed, refused):
    answer = allowed(client.post("/translate/7?lang=de", json={"topic": "whales"}, headers=bearer("ann")), 201)
    assert answer.json == {"text": "7 whales de"}

    refused(client.post("/translate/7?lang=de", json={"topic": "whales"}), 401)
    refused(client.post("/translate/7", json={}, headers=bearer("ann")), 422)


def test_a_picture(client, allowed, refused):
    data = {"picture": (io.BytesIO(b"\x89PNG" * 10), "whale.png"), "title": "A whale"}
    assert allowed(client.post("/illustrate", data=data)).json == {"title": "A whale", "bytes": 40}

    refused(client.post("/illustrate", data={"title": "A whale"}), 422)


def test_a_view_of_methods_that_takes_an_object(client, allowed, refused):
    answer = allowed(client.post("/books", json={"title": "Whales"}, headers=bearer("ann")))
    assert answer.json == {"book": "Whales", "pages": 100, "type": "Book"}

    refused(client.post("/books", json={"title": "Whales"}), 401)
    refused(client.post("/books", json={"pages": 7}, headers=bearer("ann")), 422)


def test_an_error_of_the_view(client):
    answer = client.post("/missing")

    assert answer.status_code == 404
    assert answer.json == {"message": "no such text", "detail": {"hint": "look elsewhere"}}


def test_the_description_of_the_api(client):
    assert "/generate" in client.get("/openapi.json").json["paths"]
