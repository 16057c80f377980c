"""Texts that are no Unicode, values that are no JSON, ends that cannot be written: told once, and readable for ever."""

import json
import logging
from decimal import Decimal
from fractions import Fraction

import pytest
from flask import Response, abort, jsonify
from werkzeug.exceptions import BadRequest

from flask_bgtasks import checkpoint, current_task, hookimpl, signals, step
from flask_bgtasks.core.model import Entry, EventType
from flask_bgtasks.pipeline import reporting
from tests.support.waiting import PATIENCE

HALF = "half \ud83d\x00"
CLEAN = "half \ufffd\ufffd"


class Lazy:
    """As flask-babel's lazy strings."""

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text


class Broken:
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.fixture(params=["memory", "sqlite"])
def app(request, make_app, tmp_path):
    return make_app(store="memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/tasks.sqlite3")


@pytest.fixture
def run(app, bg, finished):
    """Runs a view as a task; gives the task as it ended, a client, and how often the view was called."""

    def call(body):
        calls = []

        def counted():
            calls.append(1)
            return body()

        app.post("/work")(bg.background(name="work")(counted))
        client = app.test_client()
        return finished(app, client.post("/work")), client, calls

    return call


def readable(client, request_id):
    """Everything that can be read of a task: none of it fails, and all JSON is JSON."""
    answers = [
        client.get(f"/tasks/{request_id}"),
        client.get(f"/tasks/{request_id}/progress"),
        client.get(f"/tasks/{request_id}/events", headers={"Accept": "application/json"}),
        client.get(f"/tasks?ids={request_id}"),
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    stream = client.get(f"/tasks/{request_id}/events")
    assert stream.status_code == 200
    stream.data.decode()
    assert client.get(f"/tasks/{request_id}/result").status_code < 600
    return [json.loads(answer.data.decode(), parse_constant=pytest.fail) for answer in answers]


def report_step():
    with step(HALF):
        pass


def report_details():
    with step("Draw", details=HALF):
        current_task.update(details=HALF)


def report_nested():
    with step("Draw"), step(HALF):
        pass


def report_output():
    current_task.emit(HALF)
    current_task.emit({HALF: [HALF]})


def report_checkpoint():
    checkpoint(HALF, lambda text: [HALF], HALF)


REPORTS = [report_step, report_details, report_nested, report_output, report_checkpoint]


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.__name__)
def test_half_an_emoji_in_a_report_leaves_the_task_readable(run, report):
    def view():
        report()
        return {"done": HALF}

    task, client, calls = run(view)
    documents = readable(client, task.request_id)

    assert (task.status.value, len(calls)) == ("completed", 1)
    assert "�" in json.dumps(documents, ensure_ascii=False)


def fail_with_text():
    raise ValueError(HALF)


def fail_with_key():
    raise KeyError(HALF)


def fail_without_text():
    raise RuntimeError(Broken())


def fail_as_a_class_of_any_name():
    raise type("Error\ud83d", (Exception,), {})("no")


def fail_with_a_dict():
    abort(400, {"message": "too short", "field": "text"})


def fail_with_a_list():
    abort(400, ["too short", 5])


def fail_with_a_lazy_text():
    abort(422, Lazy("zu kurz"))


def fail_with_half_an_emoji():
    raise BadRequest(HALF)


def fail_with_a_number_of_many_digits():
    raise ValueError(10**5000)


FAILURES = {
    fail_with_text: CLEAN,
    fail_with_key: "KeyError: ",
    fail_without_text: "",
    fail_as_a_class_of_any_name: "no",
    fail_with_a_dict: "too short",
    fail_with_a_list: '["too short",5]',
    fail_with_a_lazy_text: "zu kurz",
    fail_with_half_an_emoji: CLEAN,
    fail_with_a_number_of_many_digits: "",
}


@pytest.mark.parametrize("view", FAILURES, ids=lambda view: view.__name__)
def test_whatever_an_error_is_made_of_it_ends_the_task_once_as_failed(run, view):
    task, client, calls = run(view)
    readable(client, task.request_id)

    assert (task.status.value, task.attempt, len(calls)) == ("failed", 1, 1)
    assert FAILURES[view] in task.error_message
    assert "died" not in task.error_message


@pytest.mark.parametrize(
    "details", [Broken(), Lazy("zeichnet"), 10**5000, ["a"], Decimal("1.5"), "x" * 5000], ids=lambda d: type(d).__name__
)
def test_details_may_be_anything(run, details):
    def view():
        with step(Lazy("Zeichnen"), details=details):
            current_task.update(details=details)
        return {}

    task, client, calls = run(view)
    _, progress, _, _ = readable(client, task.request_id)

    assert (task.status.value, len(calls)) == ("completed", 1)
    assert progress["step"] == "Zeichnen"
    assert 0 < len(progress["details"]) <= 1000


@pytest.mark.parametrize("weight", [Decimal("2.5"), Fraction(1, 3), 3, 0.5], ids=repr)
def test_a_weight_may_be_any_number(run, weight):
    def view():
        with step("One", weight=weight):
            pass
        with step("Two"):
            current_task.update(fraction=Decimal("0.5"))
        return {}

    task, client, calls = run(view)
    readable(client, task.request_id)

    assert (task.status.value, len(calls)) == ("completed", 1)


@pytest.mark.parametrize(
    "weight",
    [10**400, float("nan"), float("inf"), 0, -1, "3", Decimal("NaN"), object()],
    ids=lambda weight: type(weight).__name__ + str(weight)[:5].partition(" ")[0],
)
def test_a_weight_that_is_no_share_is_said_where_it_is_given(weight):
    with pytest.raises(ValueError, match="a number above 0"):
        step("One", weight=weight)


def test_a_value_is_emitted_as_it_was_and_not_as_it_became(run):
    def view():
        chunk = {"words": ["one"]}
        current_task.emit(chunk)
        chunk["words"].append(object())
        chunk["self"] = chunk
        return {}

    task, client, calls = run(view)
    _, _, events, _ = readable(client, task.request_id)

    assert (task.status.value, len(calls)) == ("completed", 1)
    assert [e["chunks"] for e in events["events"] if e["type"] == "output"] == [[{"words": ["one"]}]]


def nested(levels):
    return "[" * levels + "]" * levels


ANSWERS = {
    "nested 1,000 deep": (lambda: Response(nested(1000), mimetype="application/json"), None, True),
    "nested 100,000 deep": (lambda: Response(nested(100_000), mimetype="application/json"), None, True),
    "NaN": (lambda: jsonify(score=float("nan")), {"score": None}, False),
    "an infinity": (lambda: jsonify([float("-inf")]), [None], False),
    "half an emoji": (lambda: jsonify(HALF), "half \ufffd\x00", False),
    "5,000 digits": (lambda: Response("1" * 5000, mimetype="application/json"), None, True),
    "no JSON": (lambda: Response("<p>", mimetype="application/json"), None, False),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_views_own_answer_is_kept_whatever_it_holds(run, answer):
    view, data, omitted = ANSWERS[answer]
    task, client, calls = run(view)
    status, *_ = readable(client, task.request_id)

    assert (task.status.value, len(calls)) == ("completed", 1)
    assert (status["result_data"], status["result_omitted"]) == (data, omitted)
    assert client.get(f"/tasks/{task.request_id}/result").status_code == 200


@pytest.mark.parametrize("header", ["attachment; filename=ü漢\ud83d", "half \ud83d"])
def test_a_header_is_kept_as_a_server_can_send_it(run, header):
    task, client, _ = run(lambda: Response("ok", headers={"Content-Disposition": header}))
    kept = client.get(f"/tasks/{task.request_id}/result").headers["Content-Disposition"]

    kept.encode("latin-1")


def deep_list():
    value = []
    for _ in range(999):
        value = [value]
    return value


NO_RESULTS = {
    "nan": lambda: float("nan"),
    "nested": deep_list,
    "digits": lambda: 10**5000,
    "a set": lambda: {1},
    "bytes": lambda: b"x",
    "an object": lambda: Broken(),
    "mixed keys": lambda: {1: 2, "a": 3},
}


@pytest.mark.parametrize("made", NO_RESULTS)
def test_a_functions_value_that_is_no_json_fails_the_task_once(app, bg, made):
    calls = []

    @bg.task(retries=3)
    def function():
        calls.append(1)
        return NO_RESULTS[made]()

    with app.app_context():
        task = function.submit().wait_until_done(timeout=PATIENCE)
    readable(app.test_client(), task.request_id)

    assert (task.status.value, task.error_type, len(calls)) == ("failed", "NotSerializable", 1)


def test_arguments_owners_and_names_may_be_any_text(app, bg):
    @bg.task(name=HALF)
    def function(text, *, key):
        return [text, key]

    with app.app_context():
        handle = function.submit(HALF, key={HALF: HALF}, owner=HALF, user_token=HALF)
        other = function.submit("a", key=1, owner="half \ud83e\x00")

        assert handle.wait(timeout=PATIENCE) == ["half \ufffd\x00", {"half \ufffd\x00": "half \ufffd\x00"}]
        assert other.wait_until_done(timeout=PATIENCE).owner != handle.task.owner
        handle.task.owner.encode()


def test_the_list_of_an_owner_whose_id_is_no_text_can_be_read(app, bg, finished):
    bg.owner_loader(lambda: HALF)
    app.post("/work")(bg.background(name="work")(lambda: {"ok": True}))
    client = app.test_client()
    task = finished(app, client.post("/work"))

    assert [t["request_id"] for t in client.get("/tasks").json["tasks"]] == [task.request_id]


def test_what_is_tracked_and_said_by_hand_may_be_any_text(app, bg):
    with app.app_context():
        with bg.track_request(Lazy(HALF), user_token=HALF) as tracked:
            bg.update_progress(tracked.request_id, HALF, 1, 2, HALF * 500)
        with bg.track_request("by hand") as second:
            bg.update_status(second.request_id, "failed", error_message={"no": HALF})
    client = app.test_client()

    for request_id in (tracked.request_id, second.request_id):
        readable(client, request_id)
    assert bg_get(app, bg, second).error_message.startswith("{'no'")


def bg_get(app, bg, tracked):
    with app.app_context():
        return bg.get(tracked.request_id).task


@pytest.mark.parametrize("numbers", [(1, float("nan")), (1, 10**400), ("1", 2), (0, 2), (3, 2), (1, float("inf"))])
def test_a_step_number_by_hand_that_is_none_is_said(app, bg, numbers):
    with app.app_context(), bg.track_request("by hand") as tracked, pytest.raises(ValueError):
        bg.update_progress(tracked.request_id, "Draw", *numbers)


def test_endless_empty_output_comes_to_an_end(make_app, bg, finished):
    app = make_app(max_result_bytes=100_000)

    @app.post("/work")
    @bg.background
    def work():
        while True:
            current_task.emit("")

    task = finished(app, app.test_client().post("/work"))

    assert (task.status.value, task.error_type) == ("failed", "PayloadTooLarge")


# -- ends that cannot be written --------------------------------------------------------------------------------------


class Odd(ValueError):
    """An exception whose own attributes raise."""

    @property
    def retry_after(self):
        raise RuntimeError("no")

    @property
    def response(self):
        raise RuntimeError("no")


class OddDescription(BadRequest):
    @property
    def description(self):
        raise RuntimeError("no")

    @description.setter
    def description(self, value):
        pass


@pytest.mark.parametrize(("error", "retries"), [(Odd, 2), (OddDescription, 0)])
def test_an_exception_whose_attributes_raise_is_described_by_its_class(app, bg, error, retries):
    calls = []

    @bg.task(retries=retries)
    def function():
        calls.append(1)
        raise error("odd")

    with app.app_context():
        task = function.submit().wait_until_done(timeout=PATIENCE)

    assert (task.status.value, task.error_type, task.attempt) == ("failed", error.__name__, 1)
    assert len(calls) == 1


class NotifyFails:
    """A ``notify=`` option that raises when it is looked at."""

    def __bool__(self):
        raise RuntimeError("no")

    def __call__(self, task, result):
        return None


class Pusher:
    name = "pusher"

    @hookimpl
    def bgtasks_send_notification(self, notification):
        pass


def receiver_that_raises(sender, **extra):
    raise RuntimeError("receiver")


def break_notify(app, state, monkeypatch):
    monkeypatch.setattr(state(app).deliveries._notifier, "_notify_of", lambda name: NotifyFails())


def break_receiver(app, state, monkeypatch):
    signals.task_completed.connect(receiver_that_raises, sender=app)


def break_durations(app, state, monkeypatch):
    store = state(app).store
    monkeypatch.setattr(store, "save_durations", fail)
    monkeypatch.setattr(store, "load_durations", fail)


def fail(*args, **kwargs):
    raise RuntimeError("broken")


@pytest.mark.parametrize("breaks", [break_notify, break_receiver, break_durations], ids=lambda b: b.__name__)
def test_what_goes_wrong_around_an_end_does_not_keep_it_from_being_stored(
    app, bg, state, finished, monkeypatch, breaks
):
    calls = []
    with app.app_context():
        bg.register(Pusher())

    @app.post("/work")
    @bg.background
    def work():
        calls.append(1)
        with step("One"):
            return {}

    breaks(app, state, monkeypatch)
    task = finished(app, app.test_client().post("/work"))

    assert (task.status.value, task.attempt, len(calls)) == ("completed", 1, 1)


def test_a_content_type_of_any_text_is_stored(run):
    task, client, calls = run(lambda: Response("x", status="299 odd", headers={"Content-Type": "half \ud83d"}))

    assert (task.status.value, len(calls)) == ("completed", 1)
    assert client.get(f"/tasks/{task.request_id}/result").status_code == 299


def test_an_end_that_the_store_refuses_ends_the_task_as_failed_once(app, bg, state, finished, caplog):
    calls = []

    @app.post("/work")
    @bg.background
    def work():
        calls.append(1)
        running, _ = reporting.current()
        running._entries.append(unstorable_entry(running))
        return {"ok": True}

    with caplog.at_level(logging.ERROR, "flask_bgtasks"):
        task = finished(app, app.test_client().post("/work"))
    readable(app.test_client(), task.request_id)

    assert (task.status.value, task.attempt, len(calls)) == ("failed", 1, 1)
    assert "its end cannot be stored" in task.error_message


def unstorable_entry(running):
    """What no report makes any more, and a future defect might."""
    return Entry(EventType.OUTPUT, running._clock(), {"offset": 0, "chunks": [object()]})
