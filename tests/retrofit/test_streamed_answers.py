"""Views that stream: lines while they are made, server-sent events, files, and streams that break."""

import io
import json
import threading

import pytest
from flask import Flask, Response, request, send_file, stream_template_string, stream_with_context

from tests.retrofit.harness import Mode

ENDPOINTS = ["lines", "chat", "context", "template", "export", "tail", "broken", "gate"]


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(config)
    opened = threading.Event()
    closed = []

    @app.post("/lines")
    def lines():
        words = request.get_json()["text"].split()

        def each():
            for number, word in enumerate(words):
                yield json.dumps({"number": number, "word": word}) + "\n"

        return Response(each(), mimetype="application/x-ndjson")

    @app.post("/chat")
    def chat():
        def events():
            for token in ("Whales", " are", " large"):
                yield f"event: token\ndata: {json.dumps(token)}\n\n"
            yield "event: done\ndata: {}\n\n"

        return events(), {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}

    @app.post("/context")
    def context():
        @stream_with_context
        def parts():
            yield "Hello "
            yield request.form["name"]
            yield f" at {request.path}"

        return Response(parts(), mimetype="text/plain")

    @app.post("/template")
    def template():
        return stream_template_string("{% for n in numbers %}{{ n }},{% endfor %}", numbers=range(3))

    @app.get("/export.csv")
    def export():
        content = io.BytesIO(b"a,b\n" + b"1,2\n" * 10_000)
        return send_file(content, mimetype="text/csv", as_attachment=True, download_name="export.csv")

    @app.get("/tail")
    def tail():
        path = f"{app.config['DATA_FOLDER']}/log.txt"
        with open(path, "w") as file:
            file.write("the end")
        return send_file(path)

    @app.post("/broken")
    def broken():
        def parts():
            yield "one, "
            yield "two, "
            raise ConnectionError("the model hung up")

        return Response(parts(), mimetype="text/plain")

    @app.post("/gate")
    def gate():
        """Its first part is there at once, its second when someone has opened the gate."""

        def parts():
            yield "first"
            assert opened.wait(20)
            yield "second"

        response = Response(parts(), mimetype="text/plain")
        response.call_on_close(lambda: closed.append(True))
        return response

    @app.post("/open")
    def open_gate():
        opened.set()
        return {}

    @app.get("/closed")
    def shown():
        return {"closed": len(closed)}

    return app


def test_lines(client, allowed):
    answer = allowed(client.post("/lines", json={"text": "whales are large"}))

    assert answer.mimetype == "application/x-ndjson"
    assert [json.loads(line)["word"] for line in answer.text.splitlines()] == ["whales", "are", "large"]


def test_server_sent_events(client, allowed):
    answer = allowed(client.post("/chat"))

    assert answer.mimetype == "text/event-stream"
    assert answer.text.count("event: token") == 3
    assert answer.text.endswith("event: done\ndata: {}\n\n")
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_stream_that_reads_the_request(client, allowed):
    answer = allowed(client.post("/context?page=2", data={"name": "Ann"}))

    assert answer.text == "Hello Ann at /context"


def test_a_streamed_template(client, allowed):
    assert allowed(client.post("/template")).text == "0,1,2,"


def test_a_file_of_memory(client, allowed):
    answer = allowed(client.get("/export.csv"))

    assert len(answer.data) == 4 + 4 * 10_000
    assert answer.headers["Content-Disposition"] == "attachment; filename=export.csv"
    assert answer.mimetype == "text/csv"


def test_a_hook_still_sees_that_a_file_is_passed_through(app, client, mode):
    seen = []

    @app.after_request
    def read_what_is_no_file(response):
        if request.endpoint == "export":
            seen.append(response.direct_passthrough)
        return response

    client.get("/export.csv").close()
    if not mode.runs_elsewhere:
        assert seen == [True]


def test_a_file_of_the_disk(client, allowed):
    with allowed(client.get("/tail")) as answer:
        assert answer.data == b"the end"


def test_the_first_part_comes_when_the_view_gives_it(app, client, mode):
    if mode.runs_elsewhere:
        pytest.skip("the client asked for the whole answer, or for none")
    answer = client.post("/gate", buffered=False)

    parts = answer.iter_encoded()
    assert next(parts) == b"first"
    app.test_client().post("/open")
    assert b"".join(parts) == b"second"
    answer.close()
    assert client.get("/closed").json == {"closed": 1}


def test_the_whole_of_a_slow_answer(app, client, allowed):
    client.post("/open")

    assert allowed(client.post("/gate")).text == "firstsecond"


def test_a_stream_that_breaks(client, mode):
    if mode is Mode.ASYNC:
        answer = client.post("/broken")
        assert answer.status_code == 500
        assert answer.task_id is not None
        return
    with pytest.raises(ConnectionError, match="hung up"):  # TESTING: it reaches the test, as Flask has it
        client.post("/broken", buffered=True)


def test_what_was_sent_before_a_stream_breaks(client, mode):
    if mode.runs_elsewhere:
        pytest.skip("the client asked for the whole answer, or for none")
    answer = client.post("/broken", buffered=False)
    parts = answer.iter_encoded()
    assert [next(parts), next(parts)] == [b"one, ", b"two, "]
    with pytest.raises(ConnectionError):
        next(parts)
    answer.close()


def test_a_stream_that_breaks_is_known_by_its_task(app, client, mode):
    """Not the app's own test: whoever followed the stream finds what became of it."""
    if mode is not Mode.WRAPPED:
        pytest.skip("no task that streams")
    answer = client.post("/broken", buffered=False)
    with pytest.raises(ConnectionError):
        b"".join(answer.iter_encoded())
    answer.close()

    task = client.get(f"/tasks/{answer.headers['Task-Id']}").json

    assert task["status"] == "failed"
    assert "the model hung up" in task["error_message"] or "ConnectionError" in task["error_message"]
