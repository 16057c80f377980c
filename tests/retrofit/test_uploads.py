"""Uploads: files in forms, many files, raw bodies, limits, broken bodies."""

import hashlib
import io
import json
import os

from flask import Flask, jsonify, request
from werkzeug.utils import secure_filename

ENDPOINTS = ["photo", "photos", "raw", "stream", "both", "pick"]


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(MAX_CONTENT_LENGTH=200_000, MAX_FORM_PARTS=20)
    app.config.from_mapping(config)

    @app.errorhandler(413)
    def too_large(error):
        return jsonify(error="at most 200 kB"), 413

    @app.post("/photo")
    def photo():
        file = request.files.get("photo")
        if file is None or not file.filename:
            return jsonify(error="no photo"), 400
        path = os.path.join(app.config["DATA_FOLDER"], secure_filename(file.filename))
        file.save(path)
        return {
            "saved": os.path.basename(path),
            "bytes": os.path.getsize(path),
            "type": file.mimetype,
            "caption": request.form.get("caption"),
        }, 201

    @app.post("/photos")
    def photos():
        return {
            "names": [file.filename for file in request.files.getlist("photo")],
            "digests": [hashlib.sha256(file.read()).hexdigest()[:8] for file in request.files.getlist("photo")],
            "tags": request.form.getlist("tag"),
        }

    @app.put("/raw/<path:name>")
    def raw(name):
        return {"name": name, "bytes": len(request.get_data()), "type": request.mimetype}

    @app.put("/stream")
    def stream():
        size = 0
        while chunk := request.stream.read(4096):
            size += len(chunk)
        return {"bytes": size}

    @app.post("/both")
    def both():
        settings = json.loads(request.form["settings"])
        return {"width": settings["width"], "first": request.files["photo"].stream.read(4).hex()}

    @app.post("/pick")
    def pick():
        return {"type": request.files["photo"].mimetype, "name": request.files["photo"].filename}

    return app


def upload(name="whale.jpg", content=b"\xff\xd8\xff\xe0" + bytes(range(256)) * 10, type=None):
    return (io.BytesIO(content), name, type) if type else (io.BytesIO(content), name)


def test_a_photo_is_saved(client, allowed):
    answer = allowed(client.post("/photo", data={"photo": upload(), "caption": "Ein Wal — groß"}), 201)

    assert answer.json == {"saved": "whale.jpg", "bytes": 2564, "type": "image/jpeg", "caption": "Ein Wal — groß"}


def test_a_name_that_wants_out_of_the_folder(client, allowed):
    answer = allowed(client.post("/photo", data={"photo": upload("../../etc/passwd")}), 201)

    assert answer.json["saved"] == "etc_passwd"


def test_no_photo(client):
    answer = client.post("/photo", data={"caption": "none"})

    assert (answer.status_code, answer.json) == (400, {"error": "no photo"})


def test_many_photos(client, allowed):
    data = {"photo": [upload("a.jpg", b"a"), upload("b.jpg", b"b")], "tag": ["sea", "large"]}

    answer = allowed(client.post("/photos", data=data))

    assert answer.json["names"] == ["a.jpg", "b.jpg"]
    assert answer.json["digests"] == [hashlib.sha256(x).hexdigest()[:8] for x in (b"a", b"b")]
    assert answer.json["tags"] == ["sea", "large"]


def test_a_raw_body(client, allowed):
    for content in (b"", b"\x00\xff" * 50_000, "Größe".encode()):
        answer = allowed(client.put("/raw/a/b.bin", data=content, content_type="application/octet-stream"))
        assert answer.json == {"name": "a/b.bin", "bytes": len(content), "type": "application/octet-stream"}


def test_a_body_that_is_read_as_a_stream(client, allowed):
    answer = allowed(client.put("/stream", data=b"x" * 100_000, content_type="application/octet-stream"))

    assert answer.json == {"bytes": 100_000}


def test_a_file_beside_json_in_a_field(client, allowed):
    answer = allowed(client.post("/both", data={"photo": upload(), "settings": '{"width": 7}'}))

    assert answer.json == {"width": 7, "first": "ffd8ffe0"}


def test_the_type_and_the_name_of_a_file(client, allowed):
    answer = allowed(client.post("/pick", data={"photo": upload("Wal „groß“.heic", b"x", "image/heic")}))

    assert answer.json == {"type": "image/heic", "name": "Wal „groß“.heic"}


def test_a_body_that_is_too_large(client, refused):
    much = b"x" * 300_000
    for method, path, body in (
        ("POST", "/photo", {"photo": upload(content=much)}),
        ("PUT", "/raw/a", much),
        ("PUT", "/stream", much),
    ):
        answer = refused(client.open(path, method=method, data=body), 413)
        assert answer.json == {"error": "at most 200 kB"}
