"""Flask-Caching: answers that are kept for a while, functions that are remembered."""

from flask import Flask, request

from tests.retrofit.harness import needs

needs("flask_caching")

from flask_caching import Cache

ENDPOINTS = ["report", "search", "forecast"]


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(CACHE_TYPE="SimpleCache", CACHE_DEFAULT_TIMEOUT=300)
    app.config.from_mapping(config)
    cache = Cache(app)
    runs = {"report": 0, "search": 0, "weather": 0}

    @app.get("/report")
    @cache.cached()
    def report():
        runs["report"] += 1
        return {"report": runs["report"]}

    @app.get("/search")
    @cache.cached(query_string=True)
    def search():
        runs["search"] += 1
        return {"q": request.args["q"], "run": runs["search"]}

    @cache.memoize()
    def weather(city):
        runs["weather"] += 1
        return f"{city}: rain"

    @app.post("/forecast")
    def forecast():
        return {"forecast": weather(request.json["city"])}

    @app.get("/runs")
    def shown():
        return runs

    @app.post("/forget")
    def forget():
        cache.clear()
        return {}

    return app


def test_a_report_is_made_once(client):
    assert client.get("/report").json == {"report": 1}
    assert client.get("/report").json == {"report": 1}
    assert client.get("/runs").json["report"] == 1


def test_a_report_is_made_again_when_it_was_forgotten(client):
    client.get("/report")
    client.post("/forget")

    assert client.get("/report").json == {"report": 2}


def test_each_query_is_kept_for_itself(client):
    for q in ("a", "b", "a"):
        assert client.get(f"/search?q={q}").json["q"] == q
    assert client.get("/runs").json["search"] == 2


def test_a_function_that_is_remembered(client, allowed):
    for _ in range(2):
        assert allowed(client.post("/forecast", json={"city": "Bergen"})).json == {"forecast": "Bergen: rain"}
    assert client.get("/runs").json["weather"] == 1
