"""Flask-Talisman: HTTPS only, a content security policy, options of single views."""

from flask import Flask, render_template_string, request

from tests.retrofit.harness import needs

needs("flask_talisman")

from flask_talisman import Talisman

ENDPOINTS = ["generate", "widget", "page", "legacy"]

HTTPS = "https://localhost"


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(config)
    talisman = Talisman(
        app,
        content_security_policy={"default-src": "'self'", "img-src": "*"},
        frame_options="DENY",
        force_https_permanent=True,
    )

    @app.post("/generate")
    def generate():
        return {"text": request.json["topic"].upper(), "secure": request.is_secure}

    @app.post("/widget")
    @talisman(frame_options="SAMEORIGIN", content_security_policy="default-src 'none'")
    def widget():
        return "<p>a widget</p>"

    @app.post("/page")
    def page():
        return render_template_string("<h1>{{ request.form['title'] }}</h1>")

    @app.post("/legacy")
    @talisman(force_https=False)
    def legacy():
        return {"scheme": request.scheme}

    return app


def test_http_is_redirected(client, refused):
    answer = refused(client.post("/generate", json={"topic": "whales"}), 301)

    assert answer.location == "https://localhost/generate"


def test_https_is_answered(client, allowed):
    answer = allowed(client.post("/generate", json={"topic": "whales"}, base_url=HTTPS))

    assert answer.json == {"text": "WHALES", "secure": True}


def test_the_headers_of_every_answer(client):
    answer = client.post("/page", data={"title": "Whales"}, base_url=HTTPS)

    assert answer.text == "<h1>Whales</h1>"
    assert answer.headers["Content-Security-Policy"] == "default-src 'self'; img-src *"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "strict-origin-when-cross-origin"
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=")


def test_the_headers_of_a_view_with_options(client):
    answer = client.post("/widget", base_url=HTTPS)

    assert answer.text == "<p>a widget</p>"
    assert answer.first.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert answer.first.headers["Content-Security-Policy"] == "default-src 'none'"


def test_a_view_that_may_be_asked_without_https(client, mode):
    answer = client.post("/legacy").first

    assert answer.status_code == (202 if mode.value == "respond-async" else 200)
    if answer.status_code == 200:
        assert answer.json == {"scheme": "http"}
