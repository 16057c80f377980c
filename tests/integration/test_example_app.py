"""The example app on the library: through its own HTTP interface, offline and with a model on a local server."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from flask import render_template

from example_app import create_app
from example_app import phone as phone_module
from example_app.app import MAX_CHARACTERS, SAMPLE, plug_in_phone
from example_app.page import page_config
from example_app.phone import Phone
from example_app.pipeline import STEPS
from flask_bgtasks import EventType, Notification, Status, TaskFailed
from tests.support.waiting import until

TEXT = (
    "A candle is made of wax and of a wick. The flame melts the wax, and the wick draws the fluid up to the flame. "
    "Air comes in from all sides and cools the edge of the cup. The vapour of the wax burns above the wick. "
    "Water and carbonic acid are what the flame gives back to the air. "
) * 3


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LESSON_MODEL", "LESSON_PACE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def app(tmp_path):
    return create_app(
        {
            "BGTASKS_STORE": "memory://",
            "BGTASKS_RUNNER": "inline",
            "LESSON_PACE": 0,
            "LESSON_PHONE": str(tmp_path / "phone.sqlite3"),
            "SECRET_KEY": "test",
            "TESTING": True,
        }
    )


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


@pytest.mark.parametrize(
    "text", ["test", "a", "42", "!!!", "the and of", "日本語", "🙂", "\u200b.", "# Title", "a\n\nb"]
)
def test_any_text_is_a_lesson_if_a_short_one(http, bgtasks, text):
    accepted = http.post("/process", json={"input_text": text, "user_token": "test_token"})
    bgtasks.wait_for(accepted)

    assert accepted.status_code == 202
    lesson = http.get(accepted.json["links"]["result"]).json
    assert lesson["title"]
    assert len(lesson["blocks"]) == 1
    assert lesson["story"]["paragraphs"]


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
        ({"json": {"input_text": "", "user_token": "test_token"}}, 422, "missing or empty"),
        ({"json": {"input_text": "word " * MAX_CHARACTERS}}, 422, "are the most"),
        ({"json": {"input_text": TEXT, "user_token": 7}}, 422, "user_token"),
    ],
    ids=["not JSON", "broken", "a list", "no text", "blank", "a number", "empty", "long", "token"],
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
    answer = http.post("/summary", json={"input_text": " "})

    assert answer.status_code == 422


def test_the_samples_lesson_is_submitted_as_a_function(http, bgtasks):
    accepted = http.post("/sample")

    lesson = bgtasks.result(accepted.json["request_id"])

    assert accepted.status_code == 202
    assert lesson["title"] == "The Chemical History of a Candle"


def test_the_page_names_the_steps_the_writer_and_the_pace(http):
    page = http.get("/").get_data(as_text=True)

    assert f'steps="{", ".join(STEPS)}"' in page
    assert "offline templates" in page
    assert "0 s" in page
    assert http.get("/sample").get_data(as_text=True) == SAMPLE.read_text("utf-8")


def test_the_page_opens_with_a_lesson_where_its_address_names_one(http):
    assert 'data-view="starting"' in http.get("/").get_data(as_text=True)
    assert 'data-view="lesson"' in http.get("/?task=one").get_data(as_text=True)


def test_the_worker_is_served_where_it_can_answer_for_the_whole_page(http):
    worker = http.get("/worker.js")

    assert worker.mimetype == "text/javascript"
    worker.close()


# -- the phone -----------------------------------------------------------------------------------------------------


def test_the_phone_of_the_request_gets_its_message_and_nobody_elses(http, bgtasks):
    accepted = http.post("/process", json={"input_text": f"Of Candles\n\n{TEXT}", "user_token": "phone-1"})
    bgtasks.wait_for(accepted)
    bgtasks.wait_for_notification()

    (message,) = until(lambda: http.get("/phone?token=phone-1").json["messages"])
    assert message["title"] == "Your lesson is ready"
    assert message["body"] == "Of Candles"
    assert message["link"] == f"/?task={accepted.json['request_id']}"
    assert http.get("/phone?token=phone-2").json == {"messages": []}
    assert http.get("/phone").json == {"messages": []}
    (message,) = http.get("/phone?token=phone-1&lang=de-AT").json["messages"]
    assert message["title"] == "Deine Lektion ist fertig"


def test_a_failure_is_told_too_and_says_why(http, bgtasks, app):
    app.config["LESSON_WRITER"] = None
    accepted = http.post("/process", json={"input_text": TEXT, "user_token": "phone-1"})
    ended = bgtasks.wait_for(accepted)

    (message,) = until(lambda: http.get("/phone?token=phone-1").json["messages"])
    assert message["status"] == "failed"
    assert message["body"] == ended.error_message


def test_a_phone_shows_what_is_told_twice_once_and_the_last_first(tmp_path):
    phone = Phone(tmp_path / "instance" / "phone.sqlite3")
    first, second = (
        Notification(title, user_token="p", request_id=title, data={"request_id": title, "seq": "9"})
        for title in ("first", "second")
    )

    for told in (first, second, first, Notification("to nobody")):
        phone.bgtasks_send_notification(told)

    assert [message["title"] for message in phone.messages("p")] == ["second", "first"]
    assert [message["title"] for message in Phone(tmp_path / "instance" / "phone.sqlite3").messages("p", limit=1)] == [
        "second"
    ]


def test_a_phone_keeps_no_more_than_it_has_room_for(tmp_path, monkeypatch):
    monkeypatch.setattr(phone_module, "KEPT", 3)
    phone = Phone(tmp_path / "phone.sqlite3")

    for number in range(10):
        phone.bgtasks_send_notification(Notification(str(number), user_token="p", data={"request_id": str(number)}))

    assert [message["title"] for message in phone.messages("p", limit=100)] == ["9", "8", "7"]


@pytest.mark.parametrize("sinks", [["fcm"], "fcm, firestore"])
def test_where_there_is_fcm_the_page_says_so_and_has_no_phone(app, sinks):
    app.config["BGTASKS_SINKS"] = sinks

    assert plug_in_phone(app) is None
    assert page_config(app, has_phone=False)["phone"] == "fcm"
    page = render(app, phone="fcm")
    assert "pushes go to real phones" in page
    assert "lock screen" not in page


@pytest.mark.parametrize(
    ("sinks", "environment", "mirror"),
    [
        (["firestore"], {}, None),
        ([], {"FIRESTORE_EMULATOR_HOST": "127.0.0.1:8080"}, None),
        (
            ["firestore"],
            {"FIRESTORE_EMULATOR_HOST": "127.0.0.1:8080"},
            {"projectId": "demo-studio", "host": "http://127.0.0.1:8080"},
        ),
    ],
    ids=["a real project", "no mirror", "the emulator"],
)
def test_the_page_reads_the_mirror_where_no_login_is_needed(app, monkeypatch, sinks, environment, mirror):
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    app.config.update(BGTASKS_SINKS=sinks, BGTASKS_FIREBASE_PROJECT="demo-studio")

    assert page_config(app, has_phone=True)["firestore"] == mirror


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
    @pytest.fixture(autouse=True)
    def model_first(self, model):
        """The writer is chosen when the app is made."""

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


def render(app, **config):
    """The page with this configuration."""
    with app.test_request_context():
        return render_template("index.html", config={"phone": "here", "firestore": None, **config}, steps=STEPS)


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
