"""Flask-Compress: answers are compressed as the client can take them, once."""

import gzip
import zlib

from flask import Flask, Response, request

from tests.retrofit.harness import Mode, needs

needs("flask_compress")

from flask_compress import Compress

ENDPOINTS = ["generate", "short", "packed", "stream"]

GZIP = {"Accept-Encoding": "gzip"}
BR = {"Accept-Encoding": "br"}


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(COMPRESS_MIN_SIZE=200, COMPRESS_ALGORITHM=["br", "gzip"])
    app.config.from_mapping(config)
    compress = Compress(app)

    @app.post("/generate")
    def generate():
        return {"text": request.json["topic"] * 1000}

    @app.post("/short")
    def short():
        return {"text": "short"}

    @app.get("/packed")
    @compress.compressed()
    def packed():
        return Response("packed " * 500, mimetype="text/plain")

    @app.get("/stream")
    def stream():
        return Response((f"line {number}\n" for number in range(500)), mimetype="text/plain")

    return app


def test_an_answer_is_as_it_is_for_a_client_that_asks_for_nothing(client, allowed):
    answer = allowed(client.post("/generate", json={"topic": "whales "}))

    assert "Content-Encoding" not in answer.headers
    assert answer.json == {"text": "whales " * 1000}


def test_a_long_answer_is_compressed_once(client, allowed):
    answer = allowed(client.post("/generate", json={"topic": "whales "}, headers=GZIP))

    assert answer.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in answer.vary
    assert b"whales whales" in gzip.decompress(answer.data)
    assert int(answer.headers["Content-Length"]) == len(answer.data) < 1000


def test_the_client_says_how(client, allowed):
    assert allowed(client.post("/generate", json={"topic": "whales "}, headers=BR)).headers["Content-Encoding"] == "br"


def test_a_short_answer_is_not_compressed(client, allowed):
    answer = allowed(client.post("/short", headers=GZIP))

    assert answer.json == {"text": "short"}


def unpacked(answer):
    match answer.headers.get("Content-Encoding"):
        case "gzip":
            return gzip.decompress(answer.data)
        case "deflate":
            return zlib.decompress(answer.data)
        case None:
            return answer.data


def test_a_stream_is_compressed_as_a_stream(client, allowed):
    plain = allowed(client.get("/stream"))
    packed = allowed(client.get("/stream", headers={"Accept-Encoding": "gzip, deflate"}))

    assert unpacked(packed) == plain.data
    assert plain.data.startswith(b"line 0\nline 1\n")


def test_a_single_view_that_compresses_its_answer(make_app, allowed, mode):
    client = make_app(COMPRESS_REGISTER=False).test_client()

    packed = allowed(client.get("/packed", headers=GZIP))

    # `/result` is a request of its own, for which this app compresses nothing: what is stored has to be readable there.
    assert packed.headers.get("Content-Encoding") == (None if mode is Mode.ASYNC else "gzip")
    assert unpacked(packed) == b"packed " * 500
    assert allowed(client.get("/packed")).data == b"packed " * 500
    assert "Content-Encoding" not in client.post("/short", headers=GZIP).headers
