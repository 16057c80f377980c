"""A captured request calls the view again as if it came once more: whatever its body is, and whoever read it before."""

import io
import json
from urllib.parse import quote

import pytest
from flask import Flask, Request, jsonify, request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import RequestEntityTooLarge

from flask_bgtasks.capture import kept_request
from flask_bgtasks.errors import PayloadTooLarge

MANY = 2**20

opened: list[Request] = []


def teardown_function():
    """Close what Flask closes at the end of a request: uploads' temporary files."""
    while opened:
        opened.pop().close()


def request_of(path="/process", *, app=None, method="POST", **kwargs):
    """A request as the wrapper of a view sees it."""
    context = (app or Flask("test")).test_request_context(path, method=method, **kwargs)
    opened.append(context.request)
    return context.request


def again(stored) -> Request:
    """The request in which the view is called later; by way of JSON, as the store keeps it."""
    opened.append(Request(kept_request.environ(json.loads(json.dumps(stored)))))
    return opened[-1]


def test_json_comes_back_as_it_was():
    first = request_of(json={"input_text": "Übermut tut selten gut 🙂", "n": 1.5})

    second = again(kept_request.capture(first, max_bytes=MANY))

    assert second.get_json() == first.get_json()
    assert second.get_data() == first.get_data()
    assert second.mimetype == "application/json"


def test_the_view_still_finds_the_body_that_was_captured():
    first = request_of(data={"title": "a", "file": (io.BytesIO(b"\xff\x00"), "x.bin")})

    kept_request.capture(first, max_bytes=MANY)

    assert first.form["title"] == "a"
    assert first.files["file"].read() == b"\xff\x00"


@given(st.binary(max_size=200))
def test_any_bytes_come_back_as_they_were(body):
    first = request_of(data=body, content_type="application/octet-stream")

    second = again(kept_request.capture(first, max_bytes=MANY))

    assert second.get_data() == body


def test_an_urlencoded_form_comes_back_as_it_was():
    first = request_of(data={"a": ["1", "ü&=", ""], "b": "2"})

    second = again(kept_request.capture(first, max_bytes=MANY))

    assert second.form.lists() is not None
    assert dict(second.form.lists()) == {"a": ["1", "ü&=", ""], "b": ["2"]}


def test_uploaded_files_come_back_with_names_and_types():
    files = {"file": (io.BytesIO(bytes(range(256))), "Bild ü.png", "image/png"), "title": "Sommer"}
    first = request_of(data=files)

    second = again(kept_request.capture(first, max_bytes=MANY))

    assert second.form["title"] == "Sommer"
    assert second.files["file"].filename == "Bild ü.png"
    assert second.files["file"].content_type == "image/png"
    assert second.files["file"].read() == bytes(range(256))


@pytest.mark.parametrize("read", ["form", "files", "values"])
def test_a_form_that_a_before_request_function_has_read_is_put_together_again(read):
    data = {"title": ["Sommer", "zwei\r\nZeilen"], "file": (io.BytesIO(b"\x00\xff" * 9), "a.bin", "image/x-odd")}
    first = request_of(data=data)
    list(getattr(first, read))  # as a CSRF check does

    second = again(kept_request.capture(first, max_bytes=MANY))

    assert second.form.getlist("title") == ["Sommer", "zwei\r\nZeilen"]
    assert second.files["file"].filename == "a.bin"
    assert second.files["file"].content_type == "image/x-odd"
    assert second.files["file"].read() == b"\x00\xff" * 9


def test_an_urlencoded_form_that_was_read_is_put_together_again():
    first = request_of(data={"a": ["1", "ü&="], "b": "2"})
    assert first.form["b"] == "2"

    second = again(kept_request.capture(first, max_bytes=MANY))

    assert dict(second.form.lists()) == {"a": ["1", "ü&="], "b": ["2"]}


def test_an_upload_that_the_app_has_begun_to_read_stays_where_it_was():
    first = request_of(data={"file": (io.BytesIO(b"0123456789"), "a.txt")})
    assert first.files["file"].read(4) == b"0123"

    second = again(kept_request.capture(first, max_bytes=MANY))

    assert first.files["file"].read() == b"456789"
    assert second.files["file"].read() == b"0123456789"


names = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=20)


@given(names, names, st.binary(max_size=50))
def test_names_of_fields_and_files_survive_being_put_together_again(name, filename, content):
    first = request_of(data={"x": "y"}, content_type="multipart/form-data")
    first.form  # noqa: B018
    first.files = type(first.files)([(name, FileStorage(io.BytesIO(content), filename, name))])

    second = again(kept_request.capture(first, max_bytes=MANY))

    [(found_name, [found])] = second.files.lists()
    # Browsers write a quote as %22 and Werkzeug reads that back as one, whoever meant it literally.
    assert (found_name, found.filename) == (name.replace("%22", '"'), filename.replace("%22", '"'))
    assert found.read() == content


def test_the_same_form_sent_again_with_another_boundary_is_the_same_request():
    def stored(boundary):
        body = f'--{boundary}\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--{boundary}--\r\n'
        return kept_request.capture(
            request_of(data=body, content_type=f"multipart/form-data; boundary={boundary}"), max_bytes=MANY
        )

    assert kept_request.fingerprint(stored("----first")) == kept_request.fingerprint(stored("----second"))


def test_a_form_that_was_read_has_the_same_fingerprint_each_time():
    def stored():
        made = request_of(data={"a": "1", "file": (io.BytesIO(b"\xff"), "x.bin")})
        made.form  # noqa: B018
        return kept_request.capture(made, max_bytes=MANY)

    assert kept_request.fingerprint(stored()) == kept_request.fingerprint(stored())


def test_method_path_query_and_body_each_make_another_request():
    requests = [
        request_of("/process", json={"a": 1}),
        request_of("/process", json={"a": 2}),
        request_of("/other", json={"a": 1}),
        request_of("/process?x=1", json={"a": 1}),
        request_of("/process", method="PUT", json={"a": 1}),
    ]

    prints = {kept_request.fingerprint(kept_request.capture(r, max_bytes=MANY)) for r in requests}

    assert len(prints) == len(requests)


def test_credentials_are_not_stored():
    secret = "do-not-keep-me"
    headers = {"Authorization": f"Bearer {secret}", "Cookie": f"session={secret}", "X-Api-Key": secret, "X-Odd": secret}

    stored = kept_request.capture(request_of(json={}, headers=headers), max_bytes=MANY)

    assert secret not in json.dumps(stored)


def test_language_and_trace_are_kept():
    headers = {"Accept-Language": "de", "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}

    second = again(kept_request.capture(request_of(json={}, headers=headers), max_bytes=MANY))

    assert second.headers["Accept-Language"] == "de"
    assert second.headers["Traceparent"] == headers["Traceparent"]


@pytest.mark.parametrize("segment", ["a b", "ü", "50%", "a?b", "a#b", "a%2Fb", "a;b", "🙂", "%41"])
def test_odd_paths_reach_the_same_view_with_the_same_arguments(segment):
    app = Flask("test")

    @app.post("/process/<name>")
    def process(name):
        return jsonify(name=name, q=request.args.get("q"))

    first = request_of(f"/process/{quote(segment, safe='')}?q=%C3%BC%26", app=app, json={})
    stored = kept_request.capture(first, max_bytes=MANY)

    with app.request_context(kept_request.environ(stored)):
        assert request.view_args == {"name": segment}
        assert request.args["q"] == "ü&"


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("http://example.com", "http://example.com/process"),
        ("https://example.com:8443/app", "https://example.com:8443/app/process"),
        ("http://[::1]:5000", "http://[::1]:5000/process"),
    ],
)
def test_addresses_that_the_view_makes_are_those_of_the_request(base_url, expected):
    second = again(kept_request.capture(request_of(base_url=base_url, json={}), max_bytes=MANY))

    assert second.url == expected
    assert second.url_root == expected.removesuffix("process")


def test_a_body_over_the_limit_is_refused_with_the_sizes_and_the_mend():
    with pytest.raises(PayloadTooLarge, match="BGTASKS_MAX_REQUEST_BYTES") as caught:
        kept_request.capture(request_of(data=b"x" * 11, content_type="text/plain"), max_bytes=10)

    assert (caught.value.size, caught.value.limit) == (11, 10)


def test_a_body_of_exactly_the_limit_is_taken():
    stored = kept_request.capture(request_of(data=b"x" * 10, content_type="text/plain"), max_bytes=10)

    assert stored["text"] == "x" * 10


def chunked(size):
    """A request that does not say how long it is, on a server that knows where it ends."""
    made = request_of(content_type="text/plain")
    made.environ["wsgi.input_terminated"] = True
    made.environ["wsgi.input"] = io.BytesIO(b"x" * size)
    made.environ.pop("CONTENT_LENGTH", None)
    return made


def test_a_body_of_unknown_length_is_taken_up_to_the_limit():
    assert kept_request.capture(chunked(10), max_bytes=10)["text"] == "x" * 10


@pytest.mark.parametrize("size", [11, 12, 10_000])
def test_a_body_of_unknown_length_is_not_read_beyond_the_limit(size):
    first = chunked(size)
    stream = first.environ["wsgi.input"]

    with pytest.raises(PayloadTooLarge):
        kept_request.capture(first, max_bytes=10)

    assert stream.tell() <= 12


def test_the_apps_own_limit_answers_as_it_always_did():
    app = Flask("test")
    app.config["MAX_CONTENT_LENGTH"] = 5

    first = request_of(app=app, data=b"x" * 6, content_type="text/plain")

    with app.app_context(), pytest.raises(RequestEntityTooLarge):
        kept_request.capture(first, max_bytes=MANY)
