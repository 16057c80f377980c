"""What clients see of an exception that nobody expected: its class. Its text is in the log, redacted."""

import pytest
from flask import jsonify
from werkzeug.exceptions import UnprocessableEntity

from flask_bgtasks import RetryLater
from flask_bgtasks.errors import ConfigurationError
from flask_bgtasks.settings import Settings
from tests.support.waiting import PATIENCE

LEAK = "cannot connect to db-7.internal as app:hunter2, SELECT secret FROM users"


class OutOfInk(Exception):
    pass


@pytest.fixture
def failed(make_app, bg):
    """Runs a view that raises; what a client sees of it, everywhere."""

    def run(error, *, change=None, retries=0, **settings):
        app = make_app(**{"show_errors": None, **settings})
        if change is not None:
            change(app)

        @app.post("/process")
        @bg.background(retries=retries, backoff=0.01)
        def process():
            raise error

        client = app.test_client()
        request_id = client.post("/process", json={}).json["request_id"]
        with app.app_context():
            task = bg.get(request_id).wait_until_done(timeout=PATIENCE)
        recorder = app.extensions["bgtasks"].plugins.get("memory")
        seen = [client.get(f"/tasks/{request_id}{path}").text for path in ("", "/progress", "/events", "/result")]
        seen += [client.get(f"/tasks?ids={request_id}").text, str(recorder.__dict__)]
        return task.error_message, "\n".join(seen)

    return run


@pytest.mark.parametrize(
    "error", [RuntimeError(LEAK), KeyError(LEAK), OSError(2, LEAK), OutOfInk(LEAK), TypeError(LEAK)]
)
def test_the_text_of_an_unexpected_exception_is_the_logs(failed, caplog, error):
    message, seen = failed(error)

    assert message == f"the task failed ({type(error).__name__})"
    assert "db-7" not in seen
    assert "db-7" in caplog.text


def test_neither_is_it_told_between_two_attempts(failed):
    message, seen = failed(RuntimeError(LEAK), retries=2)

    assert message == "the task failed (RuntimeError)"
    assert "trying again (2 of 2): the task failed (RuntimeError)" in seen
    assert "db-7" not in seen


def test_what_an_app_says_to_its_clients_is_shown(failed):
    assert failed(UnprocessableEntity("too short"))[0] == "too short"


def test_what_an_error_handler_answers_for_is_shown(failed):
    def change(app):
        app.register_error_handler(OutOfInk, lambda error: (jsonify(out=str(error)), 409))

    assert failed(OutOfInk("cyan"), change=change)[0] == "cyan"


def test_a_handler_for_every_exception_makes_none_expected(failed):
    def change(app):
        app.register_error_handler(Exception, lambda error: ("something went wrong", 500))

    message, seen = failed(OutOfInk(LEAK), change=change)

    assert message == "the task failed (OutOfInk)"
    assert "db-7" not in seen


def test_our_own_errors_are_shown(failed):
    assert failed(RetryLater("the model is busy"))[0] == "the model is busy"


@pytest.mark.parametrize("name", ["debug", "testing"])
def test_in_debug_and_testing_mode_it_is_shown(failed, name):
    def change(app):
        setattr(app, name, True)
        app.config["PROPAGATE_EXCEPTIONS"] = False

    assert failed(OutOfInk("cyan"), change=change)[0] == "cyan"


def test_it_is_shown_where_the_app_says_so(failed):
    assert failed(OutOfInk("cyan"), show_errors=True)[0] == "cyan"


def test_the_app_names_exceptions_that_are_shown(failed):
    assert failed(OutOfInk("cyan"), show_errors=(ValueError, OutOfInk))[0] == "cyan"


def test_a_credential_in_a_shown_text_is_redacted(failed, caplog):
    assert failed(OutOfInk("redis://:hunter2@cache is away"), show_errors=True)[0] == "redis://***@cache is away"


def test_a_tracked_block_and_a_function_are_treated_the_same(make_app, bg):
    app = make_app(show_errors=False)

    @bg.task
    def generate():
        raise OutOfInk(LEAK)

    with app.app_context():
        with pytest.raises(OutOfInk), bg.track_request("process") as tracked:
            raise OutOfInk(LEAK)
        messages = {
            bg.get(tracked.request_id).task.error_message,
            generate.submit().wait_until_done(timeout=PATIENCE).error_message,
        }

    assert messages == {"the task failed (OutOfInk)"}


def test_a_credential_in_a_text_given_by_hand_is_redacted(make_app, bg):
    app = make_app()
    with app.app_context(), bg.track_request("process") as task:
        failed = bg.update_status(task.request_id, "failed", error_message="redis://:hunter2@cache is away")

    assert failed.error_message == "redis://***@cache is away"


@pytest.mark.parametrize("value", ["yes", ["ValueError"], (int,), (KeyboardInterrupt,), 1])
def test_anything_else_is_refused(value):
    with pytest.raises(ConfigurationError, match="BGTASKS_SHOW_ERRORS"):
        Settings.from_config({"BGTASKS_SHOW_ERRORS": value})


def test_one_class_is_enough():
    assert Settings.from_config({"BGTASKS_SHOW_ERRORS": ValueError}).show_errors == (ValueError,)
