"""Sentry's SDK: what a view raises is reported once, as unhandled, with URL and endpoint; what it answers is not."""

import pytest
from flask import Flask, abort, jsonify, request

from tests.retrofit.harness import needs

needs("sentry_sdk")

import sentry_sdk
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.flask import FlaskIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport

ENDPOINTS = ["generate", "stop", "charge", "teapot"]


class Charged(Exception):
    pass


class Recorder(Transport):
    """Keeps what would be sent."""

    def __init__(self):
        super().__init__()
        self.events = []

    def capture_envelope(self, envelope):
        event = envelope.get_event()
        if event is not None:
            self.events.append(event)


@pytest.fixture(autouse=True)
def sent():
    """The events of this test."""
    recorder = Recorder()
    sentry_sdk.init(
        dsn="https://public@sentry.invalid/1",
        release="app@1",
        transport=recorder,
        # The default ones patch threads, subprocesses and sys.excepthook for good: those are this test run's too.
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[FlaskIntegration(), LoggingIntegration(), DedupeIntegration()],
    )
    yield recorder.events
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping({**config, "TESTING": False})

    @app.errorhandler(Charged)
    def charged(error):
        return jsonify(error="already charged"), 409

    @app.post("/generate/<kind>")
    def generate(kind):
        sentry_sdk.set_tag("kind", kind)
        if kind == "broken":
            return {"text": request.json["topic"] / 2}
        return {"text": request.json["topic"].upper()}

    @app.post("/stop")
    def stop():
        abort(404)

    @app.post("/charge")
    def charge():
        raise Charged

    @app.post("/teapot")
    def teapot():
        try:
            raise ValueError("a short one")
        except ValueError:
            sentry_sdk.capture_exception()
        return {"teapot": True}

    return app


def test_nothing_is_reported_of_a_view_that_works(client, allowed, sent):
    allowed(client.post("/generate/text", json={"topic": "whales"}))

    assert sent == []


def test_what_a_view_raises_is_reported_once_as_unhandled(client, sent):
    answer = client.post("/generate/broken?page=2", json={"topic": "whales"})

    assert answer.status_code == 500
    assert len(sent) == 1, [event.get("logentry") or event["exception"]["values"][-1]["mechanism"] for event in sent]
    [event] = sent
    raised = event["exception"]["values"][-1]
    assert raised["type"] == "TypeError"
    assert raised["mechanism"] == {"type": "flask", "handled": False}
    assert raised["stacktrace"]["frames"][-1]["function"] == "generate"
    assert event["tags"]["kind"] == "broken"


def test_a_report_names_the_request(client, sent):
    client.post("/generate/broken?page=2", json={"topic": "whales"})

    [event] = sent
    assert event["transaction"] == "generate"
    assert event["request"]["method"] == "POST"
    assert event["request"]["url"] == "http://localhost/generate/broken"
    assert event["request"]["query_string"] == "page=2"
    assert event["request"]["data"] == {"topic": "whales"}


@pytest.mark.parametrize(("path", "status"), [("/stop", 404), ("/charge", 409)])
def test_what_the_app_answers_itself_is_not_reported(client, sent, path, status):
    assert client.post(path).status_code == status
    assert sent == []


def test_what_the_app_reports_itself(client, allowed, sent):
    allowed(client.post("/teapot"))

    assert [event["exception"]["values"][-1]["value"] for event in sent] == ["a short one"]


def test_reports_of_two_requests_do_not_mix(client, sent):
    client.post("/generate/broken", json={"topic": "whales"})
    client.post("/teapot")

    assert [event.get("tags", {}).get("kind") for event in sent] == ["broken", None]
    assert [event["transaction"] for event in sent] == ["generate", "teapot"]
