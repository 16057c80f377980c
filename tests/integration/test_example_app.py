"""The example app on the library: through its own HTTP interface, offline and with a model on a local server."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from werkzeug.serving import make_server

from example_app import create_app
from example_app.app import LEAST_WORDS, MOST_CHARACTERS, SAMPLE
from example_app.pipeline import STEPS
from flask_bgtasks import EventType, Status, TaskFailed

TEXT = (
    "A candle is made of wax and of a wick. The flame melts the wax, and the wick draws the fluid up to the flame. "
    "Air comes in from all sides and cools the edge of the cup. The vapour of the wax burns above the wick. "
    "Water and carbonic acid are what the flame gives back to the air. "
) * 3


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LESSON_MODEL", "LESSON_PACE"):
        monkeypatch.delenv(name, raising=False)


def make_app(**config):
    settings = {"BGTASKS_STORE": "memory://", "BGTASKS_RUNNER": "inline", "SECRET_KEY": "test", "LESSON_PACE": 0}
    return create_app({**settings, **config, "TESTING": True})


@pytest.fixture
def app():
    return make_app()


@pytest.fixture
def http(app, bgtasks):
    return app.test_client()


# -- a lesson ------------------------------------------------------------------------------------------------------


def test_a_posted_text_is_accepted_and_its_lesson_lies_under_the_result_link(http):
    accepted = http.post("/process", json={"input_text": TEXT, "user_token": "a-device"})
    lesson = http.get(accepted.json["links"]["result"])

    assert accepted.status_code == 202
    assert lesson.status_code == 200
    assert {"blocks", "story", "lecture"} <= set(lesson.json)
    assert lesson.json["written_by"] == "offline templates"


def test_the_sample_goes_through_all_the_steps_in_their_order(http):
    accepted = http.post("/process", json={"input_text": SAMPLE.read_text("utf-8")})
    events = _events(http, accepted)

    started = [data["step"] for data in events if data["type"] == "step_started"]
    finished = [data["step"] for data in events if data["type"] == "step_finished"]

    assert started == finished == STEPS
    assert events[-1]["type"] == "completed"


def test_the_story_that_was_given_out_is_the_story_of_the_result(http):
    accepted = http.post("/process", json={"input_text": TEXT})
    chunks = [chunk for data in _events(http, accepted) if data["type"] == "output" for chunk in data["chunks"]]
    story = http.get(accepted.json["links"]["result"]).json["story"]

    assert "".join(chunks).split("\n\n")[:-1] == story["paragraphs"]
    assert len(chunks) > 50


def test_the_user_is_told_when_the_lesson_is_ready(http, bgtasks):
    accepted = http.post("/process", json={"input_text": TEXT, "user_token": "a-device"})

    bgtasks.wait_for(accepted)
    told = bgtasks.wait_for_notification()

    assert told.in_language("en-GB").title == "Your lesson is ready"
    assert told.user_token == "a-device"


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        ({"data": "just text"}, 400, "Send JSON"),
        ({"data": "{broken", "content_type": "application/json"}, 400, "Send JSON"),
        ({"json": ["a", "list"]}, 400, "Send JSON"),
        ({"json": {}}, 422, "missing or empty"),
        ({"json": {"input_text": "  \n "}}, 422, "missing or empty"),
        ({"json": {"input_text": 5}}, 422, "missing or empty"),
        ({"json": {"input_text": "Too short."}}, 422, f"at least {LEAST_WORDS}"),
        ({"json": {"input_text": "word " * MOST_CHARACTERS}}, 422, "are the most"),
        ({"json": {"input_text": TEXT, "user_token": 7}}, 422, "user_token"),
    ],
    ids=["not JSON", "broken", "a list", "no text", "blank", "a number", "short", "long", "token"],
)
def test_what_no_lesson_can_be_made_of_is_refused_at_once_and_not_stored(http, bgtasks, sent, status, words):
    answer = http.post("/process", **sent)

    assert answer.status_code == status
    assert answer.mimetype == "application/problem+json"
    assert words in answer.json["detail"]
    assert bgtasks.events == []


# -- the other ways in ---------------------------------------------------------------------------------------------


def test_the_untouched_view_answers_plainly_unless_the_client_prefers_otherwise(http):
    plain = http.post("/summary", json={"input_text": TEXT})
    later = http.post("/summary", json={"input_text": TEXT}, headers={"Prefer": "respond-async"})

    assert plain.status_code == 200
    assert len(plain.json["summary"]) == 3
    assert later.status_code == 202
    assert http.get(later.json["links"]["result"]).json == plain.json


def test_the_untouched_view_still_refuses_by_itself(http):
    answer = http.post("/summary", json={"input_text": "Too short."})

    assert answer.status_code == 422


def test_the_samples_lesson_is_submitted_as_a_function(http, bgtasks):
    accepted = http.post("/sample")

    lesson = bgtasks.result(accepted.json["request_id"])

    assert accepted.status_code == 202
    assert lesson["title"] == "The Chemical History of a Candle"


def test_the_page_names_the_steps_the_writer_and_the_pace(http):
    page = http.get("/").get_data(as_text=True)

    assert all(f'data-step="{name}"' in page for name in STEPS)
    assert "offline templates" in page
    assert "0 s" in page
    assert http.get("/sample").get_data(as_text=True) == SAMPLE.read_text("utf-8")


@pytest.mark.slow
@pytest.mark.bgtasks(runner="threads")
def test_the_page_makes_a_lesson_and_finds_it_again_after_a_reload(app, bgtasks, chromium_page):
    page = chromium_page
    with served(app) as url:
        page.goto(url)
        page.click("#sample")
        page.wait_for_function("document.querySelector('#text').value.length > 1000")
        page.click("#make")
        page.wait_for_selector("#lesson:not([hidden])")
        story = page.inner_text("#story-text")
        page.reload()
        page.wait_for_selector("#lesson:not([hidden])")
        page.locator(".choice").first.click()

        assert page.inner_text("#work-title") == "Lesson ready"
        assert page.get_attribute("#bar", "aria-valuenow") == "100"
        assert page.locator("#steps [data-state=done]").count() == len(STEPS)
        assert page.inner_text("#story-text") == story
        assert page.locator(".verdict").first.inner_text()


@pytest.mark.slow
def test_the_page_says_why_a_text_is_refused(app, bgtasks, chromium_page):
    with served(app) as url:
        chromium_page.goto(url)
        chromium_page.fill("#text", "Too short.")
        chromium_page.click("#make")

        chromium_page.wait_for_function("document.querySelector('#refused').textContent.includes('2 words')")


# -- cancelling ----------------------------------------------------------------------------------------------------


@pytest.mark.bgtasks(runner="threads")
def test_a_task_that_dwells_stops_when_it_is_cancelled(app, http, bgtasks):
    app.config["LESSON_PACE"] = 3600
    accepted = http.post("/process", json={"input_text": TEXT})
    with http.get(accepted.json["links"]["events"], buffered=False) as stream:
        _read_until(stream, "step_started")
        http.post(accepted.json["links"]["cancel"])

    ended = bgtasks.wait_for(accepted)

    assert ended.status is Status.CANCELLED


# -- a model -------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(monkeypatch):
    """A server of the chat completions API, and the environment that chooses it."""
    with ModelServer() as server:
        monkeypatch.setenv("OPENAI_API_KEY", "a-key")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("LESSON_MODEL", "teacher-1")
        yield server


class TestWithAModel:
    @pytest.fixture
    def app(self, model):
        return make_app()

    def test_the_model_writes_summaries_story_and_notes(self, http, model):
        accepted = http.post("/process", json={"input_text": TEXT})
        lesson = http.get(accepted.json["links"]["result"]).json

        assert lesson["written_by"] == "teacher-1"
        assert lesson["blocks"][0]["summary"] == ["The model's first line.", "Its second line."]
        assert lesson["lecture"]["parts"][0]["notes"] == ["The model's first line.", "Its second line."]
        assert lesson["story"]["paragraphs"] == ["Once there was a candle.", "It burned."]
        assert {asked["model"] for asked in model.requests} == {"teacher-1"}
        assert model.keys == {"Bearer a-key"}

    @pytest.mark.bgtasks(runner="threads", progress_interval=0.01)
    def test_the_story_reaches_the_client_while_the_model_still_writes(self, http, bgtasks, model):
        model.go_on.clear()
        accepted = http.post("/process", json={"input_text": TEXT})

        with http.get(accepted.json["links"]["events"], buffered=False) as stream:
            seen = _read_until(stream, "Once")
            assert "burned" not in seen
            model.go_on.set()
            _read_until(stream, "event: completed")

        assert bgtasks.result(accepted)["story"]["paragraphs"] == ["Once there was a candle.", "It burned."]

    def test_a_model_that_refuses_makes_the_task_fail(self, http, bgtasks, model):
        model.status = 401
        accepted = http.post("/process", json={"input_text": TEXT})

        with pytest.raises(TaskFailed, match=r"The model teacher-1 did not answer: .*no such key"):
            bgtasks.result(accepted)

        assert bgtasks.event_types(accepted)[-1] is EventType.FAILED


@contextmanager
def served(app):
    """The app on a port of its own."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class ModelServer:
    """Answers as an OpenAI-compatible server does: JSON, or a stream of Server-Sent Events for ``"stream": true``."""

    story = ("Once ", "there was ", "a candle.", "\n", "\n", "It ", "burned.")

    def __init__(self):
        self.requests = []
        self.keys = set()
        self.status = 200
        self.go_on = threading.Event()  # the story stops after its first word until this is set
        self.go_on.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self):
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self.go_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append(body)
                server.keys.add(self.headers["Authorization"])
                if server.status != 200:
                    self._send("application/json", {"error": {"message": "no such key"}}, status=server.status)
                elif body.get("stream"):
                    self._stream()
                else:
                    text = "- The model's first line.\n\nIts second line.\n"
                    self._send("application/json", _completion(body["model"], message={"content": text}))

            def _send(self, kind, document, *, status=200):
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def _stream(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()  # HTTP/1.0: the end of the connection is the end of the stream
                for number, word in enumerate(server.story):
                    if number:
                        server.go_on.wait()
                    self._event(json.dumps(_completion("teacher-1", delta={"content": word})))
                self._event("[DONE]")

            def _event(self, data):
                self.wfile.write(f"data: {data}\n\n".encode())
                self.wfile.flush()

            def log_message(self, *args):
                pass

        return Handler


def _completion(model, **said):
    (part,) = said
    said = {part: {"role": "assistant", **said[part]}}
    kind = "chat.completion.chunk" if part == "delta" else "chat.completion"
    choice = {"index": 0, "finish_reason": None if part == "delta" else "stop", **said}
    return {"id": "c-1", "object": kind, "created": 0, "model": model, "choices": [choice]}


def _events(http, accepted):
    """All events of a task, as the page of them gives them."""
    answer = http.get(accepted.json["links"]["events"], headers={"Accept": "application/json"})
    return answer.json["events"]


def _read_until(stream, words):
    """Read a stream of events until something stands in it; all that was read."""
    read = ""
    for piece in stream.response:
        read += piece.decode() if isinstance(piece, bytes) else piece
        if words in read:
            return read
    raise AssertionError(f"the stream ended without {words!r}: {read}")
