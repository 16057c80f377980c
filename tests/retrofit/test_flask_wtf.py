"""Flask-WTF with CSRFProtect: forms of pages, JSON clients with a header, exempted views, uploads."""

import io
import re

import pytest
from flask import Flask, jsonify, redirect, render_template_string, request, session, url_for

from tests.retrofit.harness import Mode, needs

needs("flask_wtf")

from flask_wtf import CSRFProtect, FlaskForm
from flask_wtf.csrf import CSRFError, generate_csrf
from flask_wtf.file import FileAllowed, FileField, FileRequired
from wtforms import StringField
from wtforms.validators import DataRequired, Length

ENDPOINTS = ["generate", "write", "upload", "hook", "preview"]

PAGE = """
<form method="post">{{ form.hidden_tag() }}{{ form.topic() }}
{% for error in form.topic.errors %}<p class="error">{{ error }}</p>{% endfor %}</form>
"""


class TopicForm(FlaskForm):
    topic = StringField("Topic", validators=[DataRequired(), Length(max=20)])


class PhotoForm(FlaskForm):
    photo = FileField("Photo", validators=[FileRequired(), FileAllowed(["png"], "PNG only")])


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(config)
    csrf = CSRFProtect(app)

    @app.errorhandler(CSRFError)
    def csrf_error(error):
        return jsonify(error=error.description), 400

    @app.get("/csrf-token")
    def token():
        return {"token": generate_csrf()}

    @app.post("/generate")
    def generate():
        return {"text": request.get_json()["topic"].upper()}

    @app.route("/write", methods=["GET", "POST"])
    def write():
        form = TopicForm()
        if form.validate_on_submit():
            return redirect(url_for("written", topic=form.topic.data))
        return render_template_string(PAGE, form=form), 200 if request.method == "GET" else 422

    @app.get("/written")
    def written():
        return f"about {request.args['topic']}"

    @app.post("/upload")
    def upload():
        form = PhotoForm()
        if not form.validate():
            return form.errors, 422
        return {"name": form.photo.data.filename, "bytes": len(form.photo.data.read())}

    @app.post("/preview")
    def preview():
        form = TopicForm()
        form.validate()
        return render_template_string(PAGE, form=form)

    @app.post("/hook")
    @csrf.exempt
    def hook():
        return {"received": request.json["event"]}

    @app.get("/session")
    def shown():
        return {"keys": sorted(session)}

    return app


@pytest.fixture
def token(client):
    return client.get("/csrf-token").json["token"]


def test_a_json_client_without_a_token(client, refused):
    answer = refused(client.post("/generate", json={"topic": "whales"}), 400)

    assert answer.json == {"error": "The CSRF token is missing."}


def test_a_json_client_with_a_wrong_token(client, token, refused):
    refused(client.post("/generate", json={"topic": "whales"}, headers={"X-CSRFToken": token[:-2]}), 400)


@pytest.mark.parametrize("header", ["X-CSRFToken", "X-CSRF-Token"])
def test_a_json_client_with_its_token(client, token, allowed, header):
    answer = allowed(client.post("/generate", json={"topic": "whales"}, headers={header: token}))

    assert answer.json == {"text": "WHALES"}


def test_a_page_and_its_form(client, allowed):
    page = client.get("/write")
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.text)[1]

    answer = allowed(client.post("/write", data={"topic": "whales", "csrf_token": token}), 302)

    assert answer.location == "/written?topic=whales"


def test_a_form_without_its_token(client, refused):
    refused(client.post("/write", data={"topic": "whales"}), 400)


def test_a_form_that_says_too_much(client, token):
    answer = client.post("/write", data={"topic": "w" * 21, "csrf_token": token})

    assert answer.status_code == 422
    assert "Field cannot be longer than 20 characters" in answer.text


@pytest.mark.only_in_the_request(
    "the session is not stored: a token that a form renders in a run belongs to no session"
)
def test_a_form_that_is_rendered_again_can_be_sent(client, token):
    page = client.post("/preview", data={"topic": "", "csrf_token": token})
    again = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.text)[1]

    assert client.post("/write", data={"topic": "whales", "csrf_token": again}).status_code == 302


def test_an_upload_in_a_form(client, token, allowed, refused):
    def photo(name):
        return {"photo": (io.BytesIO(b"\x89PNG" * 100), name), "csrf_token": token}

    assert allowed(client.post("/upload", data=photo("a.png"))).json == {"name": "a.png", "bytes": 400}
    assert client.post("/upload", data=photo("a.gif")).json == {"photo": ["PNG only"]}
    refused(client.post("/upload", data={"photo": (io.BytesIO(b"x"), "a.png")}), 400)


def test_a_view_that_is_exempt(client, allowed):
    assert allowed(client.post("/hook", json={"event": "paid"})).json == {"received": "paid"}


def test_the_session_holds_the_secret_of_the_tokens(client, token):
    assert client.get("/session").json == {"keys": ["csrf_token"]}


def test_what_is_posted_to_a_task_needs_the_token_too(client, token, mode):
    """Not the app's own test: the routes of flask-bgtasks stand under the app's CSRF protection as all others do."""
    if mode is not Mode.ASYNC:
        pytest.skip("no task to look at")
    task = client.post("/generate", json={"topic": "whales"}, headers={"X-CSRFToken": token}).first.headers["Location"]

    assert client.post(f"{task}/seen").status_code == 400
    assert client.post(f"{task}/seen", headers={"X-CSRFToken": token}).status_code == 204
    assert client.post(f"{task}/cancel", headers={"X-CSRFToken": token}).status_code == 200
    assert client.delete(task).status_code == 400
    assert client.get(task).status_code == 200
