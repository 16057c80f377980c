"""An app behind a proxy, under a prefix: what it reads of the request's addresses, of WSGI and of its body."""

import io

from flask import Flask, request, url_for
from werkzeug.middleware.proxy_fix import ProxyFix

ENDPOINTS = ["where", "body", "answers"]

FORWARDED = {
    "X-Forwarded-For": "198.51.100.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "studio.example.org",
    "X-Forwarded-Prefix": "/v1",
}


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(config)
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_prefix=1)

    @app.post("/where/<path:rest>")
    def where(rest):
        return {
            "url": request.url,
            "root": request.root_url,
            "external": url_for("where", rest="ü", _external=True),
            "remote": request.remote_addr,
            "environ": [request.environ["REMOTE_ADDR"], request.environ["wsgi.url_scheme"]],
            "server": request.environ["SERVER_NAME"],
            "secure": request.is_secure,
            "agent": request.user_agent.string,
            "args": request.args.to_dict(flat=False),
            "path": request.full_path,
            "rule": request.url_rule.endpoint,
            "blueprints": request.blueprints,
        }

    @app.post("/body")
    def body():
        length = int(request.environ["CONTENT_LENGTH"])
        return {"first": request.environ["wsgi.input"].read(3).decode(), "length": length}

    @app.post("/answers/<kind>")
    def answers(kind):
        match kind:
            case "text":
                return "größer"
            case "bytes":
                return b"\x00\xff"
            case "list":
                return [1, 2]
            case "created":
                return {"id": 1}, 201, {"Location": "/things/1"}
            case "nothing":
                return "", 204
            case "teapot":
                return {"error": "short"}, 418
            case "lines":
                return (line for line in ("a\n", "b\n"))
            case "latin":
                return "größer".encode("latin-1"), {"Content-Type": "text/plain; charset=iso-8859-1"}

    return app


def test_addresses_are_those_that_the_client_used(client, allowed):
    answer = allowed(
        client.post("/where/a%2Fb/%C3%BC?q=1&q=%C3%BC&empty=", headers={**FORWARDED, "User-Agent": "whale/1"})
    )

    assert answer.json == {
        "url": "https://studio.example.org/v1/where/a/b/ü?q=1&q=ü&empty=",
        "root": "https://studio.example.org/v1/",
        "external": "https://studio.example.org/v1/where/%C3%BC",
        "remote": "198.51.100.7",
        "environ": ["198.51.100.7", "https"],
        "server": "studio.example.org",
        "secure": True,
        "agent": "whale/1",
        "args": {"q": ["1", "ü"], "empty": [""]},
        "path": "/where/a/b/ü?q=1&q=%C3%BC&empty=",
        "rule": "where",
        "blueprints": [],
    }


def test_a_body_that_is_read_without_flask(client, allowed):
    answer = allowed(client.post("/body", input_stream=io.BytesIO(b"abcdef"), headers={"Content-Length": "6"}))

    assert answer.json == {"first": "abc", "length": 6}


def test_answers_of_every_kind(client, allowed):
    def answer(kind, status=200):
        return allowed(client.post(f"/answers/{kind}"), status)

    assert answer("text").text == "größer"
    assert answer("bytes").data == b"\x00\xff"
    assert answer("list").json == [1, 2]
    created = answer("created", 201)
    assert (created.json, created.location) == ({"id": 1}, "/things/1")
    assert answer("nothing", 204).data == b""
    assert client.post("/answers/teapot").status_code == 418
    assert client.post("/answers/teapot").json == {"error": "short"}
    assert answer("lines").data == b"a\nb\n"
    assert answer("latin").data == "größer".encode("latin-1")
    assert answer("latin").headers["Content-Type"] == "text/plain; charset=iso-8859-1"
