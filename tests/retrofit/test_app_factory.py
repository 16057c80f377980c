"""An app factory with its views as closures: configuration, blueprints, `g`, error handlers, response hooks."""

import time

import pytest
from flask import Blueprint, Flask, abort, current_app, g, jsonify, request, url_for

ENDPOINTS = ["summarize", "remember", "reports.monthly", "reports.cover"]


class OutOfCredits(Exception):
    """The app's own error, with an answer of its own."""


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(COMPANY="Acme", CREDITS=10)
    app.config.from_mapping(config)
    used = []

    @app.before_request
    def begin():
        g.began = time.perf_counter()
        g.tenant = request.headers.get("X-Tenant", "nobody")

    @app.after_request
    def measure(response):
        response.headers["X-Took"] = f"{time.perf_counter() - g.began:.6f}"
        response.headers["X-Company"] = app.config["COMPANY"]
        return response

    @app.errorhandler(OutOfCredits)
    def out_of_credits(error):
        return jsonify(error="out of credits", used=len(used)), 402

    @app.errorhandler(404)
    def not_found(error):
        return jsonify(error=error.description), 404

    @app.post("/summarize")
    def summarize():
        if len(used) >= app.config["CREDITS"]:
            raise OutOfCredits
        text = request.get_json()["text"]
        used.append(text)
        return {"summary": text[:10], "by": current_app.config["COMPANY"], "next": url_for("summarize")}

    @app.post("/remember")
    def remember():
        response = jsonify(theme=request.json["theme"])
        response.set_cookie("theme", request.json["theme"])
        return response

    reports = Blueprint("reports", __name__, url_prefix="/<lang>/reports")

    @reports.url_value_preprocessor
    def take_lang(endpoint, values):
        g.lang = values.pop("lang")

    @reports.url_defaults
    def give_lang(endpoint, values):
        values.setdefault("lang", g.get("lang", "en"))

    @reports.post("/<int:year>/<int:month>")
    def monthly(year, month):
        if month > 12:
            abort(404, f"no month {month}")
        title = request.form.get("title", "Report")
        return jsonify(
            title=f"{title} {year}-{month:02}",
            lang=g.lang,
            blueprint=request.blueprint,
            rule=request.url_rule.rule,
            query=request.args.getlist("tag"),
            cover=url_for(".cover", year=year),
        )

    @reports.get("/<int:year>/cover")
    def cover(year):
        return f"<svg>{year}</svg>", 200, {"Content-Type": "image/svg+xml", "Content-Language": g.lang}

    app.register_blueprint(reports)

    @app.get("/used")
    def count():
        return {"used": used}

    return app


def test_a_summary(client, allowed):
    answer = allowed(client.post("/summarize", json={"text": "Whales are large"}))

    assert answer.json == {"summary": "Whales are", "by": "Acme", "next": "/summarize"}
    assert answer.headers["X-Company"] == "Acme"
    assert float(answer.headers["X-Took"]) >= 0
    assert client.get("/used").json == {"used": ["Whales are large"]}


def test_no_credits_are_left(make_app):
    client = make_app(CREDITS=0).test_client()

    answer = client.post("/summarize", json={"text": "Whales"})

    assert answer.status_code == 402
    assert answer.json == {"error": "out of credits", "used": 0}


def test_a_body_that_is_not_json(client):
    answer = client.post("/summarize", data="{", content_type="application/json")

    assert answer.status_code == 400
    assert "Bad Request" in answer.text
    assert client.get("/used").json == {"used": []}


def test_a_body_of_another_type(client):
    assert client.post("/summarize", data="text=Whales").status_code == 415


@pytest.mark.only_in_the_request(
    "a run's answer reaches no browser: its cookies are not kept (docs/howto/restore-user.md)"
)
def test_a_cookie(client, allowed):
    allowed(client.post("/remember", json={"theme": "dark"}))

    assert client.get_cookie("theme").value == "dark"


def test_a_monthly_report(client, allowed):
    answer = allowed(client.post("/de/reports/2024/5?tag=a&tag=b", data={"title": "Übersicht"}))

    assert answer.json == {
        "title": "Übersicht 2024-05",
        "lang": "de",
        "blueprint": "reports",
        "rule": "/<lang>/reports/<int:year>/<int:month>",
        "query": ["a", "b"],
        "cover": "/de/reports/2024/cover",
    }


def test_a_month_that_does_not_exist(client):
    answer = client.post("/de/reports/2024/13")

    assert answer.status_code == 404
    assert answer.json == {"error": "no month 13"}


def test_a_cover(client, allowed):
    answer = allowed(client.get("/fr/reports/2024/cover"))

    assert answer.data == b"<svg>2024</svg>"
    assert answer.mimetype == "image/svg+xml"
    assert answer.headers["Content-Language"] == "fr"


def test_a_head_and_a_wrong_method_do_no_work(client, refused):
    assert client.head("/fr/reports/2024/cover").status_code == 200
    refused(client.get("/summarize"), 405)
    refused(client.post("/nowhere", json={}), 404)


def test_two_apps_of_one_factory_answer_each_for_itself(make_app, allowed):
    acme, globex = make_app(), make_app(COMPANY="Globex", CREDITS=1)

    first = allowed(acme.test_client().post("/summarize", json={"text": "a"}))
    second = allowed(globex.test_client().post("/summarize", json={"text": "b"}))

    assert (first.json["by"], second.json["by"]) == ("Acme", "Globex")
    assert acme.test_client().get("/used").json == {"used": ["a"]}
    assert globex.test_client().get("/used").json == {"used": ["b"]}
    assert globex.test_client().post("/summarize", json={"text": "c"}).status_code == 402
