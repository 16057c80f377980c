"""Alerts to the developer, by Apprise, to a server on this machine: one for an outage, and none lost."""

import json
import re
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, Backoff, ConfigurationError, Undeliverable, hookimpl
from flask_bgtasks.core.model import Status
from flask_bgtasks.delivery import retry as delivery_retry
from flask_bgtasks.delivery import sink_worker as worker_module
from flask_bgtasks.sinks import alerts as alerts_module
from flask_bgtasks.stores.types import NewDelivery
from tests.support.sinks.contexts import context_of
from tests.support.waiting import PATIENCE

apprise = pytest.importorskip("apprise")


class Pager:
    """A service that alerts go to: takes them, refuses them, or hangs, as a test says."""

    def __init__(self):
        self.told = threading.Condition()  # protects all of this
        self.alerts = []  # title and text
        self.refused = 0
        self.status = 200
        self.gate = threading.Event()  # while it is closed nothing is answered
        self.gate.set()
        self.reached = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _handler(pager):  # noqa: N805 - `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                pager.reached.set()
                pager.gate.wait(PATIENCE)
                with pager.told:
                    if pager.status == 200:
                        pager.alerts.append((body["title"], body["message"]))
                    else:
                        pager.refused += 1
                    pager.told.notify_all()
                self.send_response(pager.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        return Handler

    @property
    def url(self):
        return f"json://127.0.0.1:{self._server.server_port}"

    def wait_for(self, found):
        with self.told:
            assert self.told.wait_for(found, PATIENCE), (self.alerts, self.refused)

    def close(self):
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def pagers():
    made = [Pager(), Pager()]
    yield made
    for pager in made:
        pager.close()


@pytest.fixture
def pager(pagers):
    return pagers[0]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """What is to be tried again is tried at once, so that no test waits for it."""
    monkeypatch.setattr(delivery_retry, "backoff", lambda tries: 0.0)
    monkeypatch.setattr(worker_module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(alerts_module, "PAUSES", Backoff(0))
    monkeypatch.setattr(alerts_module, "CLAIM_PAUSE_SECONDS", 0.0)


class Studio:
    """An app with a task that fails as it is told, and its alerts."""

    def __init__(self, path, pager, **settings):
        self.app, self.bgtasks = Flask("studio", instance_path=str(path)), BackgroundTasks()
        given = {"store": "memory://", "sinks": ["alerts"], "alert_urls": [pager.url], "show_errors": True, **settings}
        self.bgtasks.init_app(self.app, **given)
        self.later = timedelta(0)

        @self.bgtasks.task(name="lesson")
        def lesson(error):
            if error is not None:
                raise ValueError(error)

        @self.bgtasks.task(name="report")
        def report(error):
            raise KeyError(error)

        self._tasks = {"lesson": lesson, "report": report}

    @property
    def state(self):
        return self.app.extensions["bgtasks"]

    def fail(self, error="no paper", *, name="lesson"):
        """A task that has failed; its id."""
        with self.app.app_context():
            handle = self._tasks[name].submit(error)
            handle.wait_until_done(timeout=PATIENCE)
        return handle.request_id

    def advance(self, seconds):
        """Have the store believe that it is so much later."""
        store = self.state.store
        now, later = store.now, timedelta(seconds=seconds)
        store.now = lambda: now() + later

    def settled(self):
        """Wait until nothing is pending any more."""
        pause = threading.Event()
        for _ in range(PATIENCE * 100):
            if self.state.store.stats().deliveries_pending == 0:
                return
            self.state.deliveries.wake()
            pause.wait(0.01)
        raise AssertionError(self.state.store.stats())


@pytest.fixture
def make(tmp_path, pager):
    made = []

    def build(**settings):
        made.append(Studio(tmp_path, pager, **settings))
        return made[-1]

    yield build
    pager.gate.set()
    for studio in made:
        studio.state.close(grace=5)


# -- what is said ------------------------------------------------------------------------------------------------------


def test_a_failure_is_told_with_its_error_and_a_task_to_look_at(make, pager):
    studio = make()

    request_id = studio.fail("no paper")
    studio.settled()

    ((title, text),) = pager.alerts
    assert title == "studio: lesson failed"
    assert text.startswith("1 failure within 5 minutes, the last at ")
    assert "ValueError: no paper" in text
    assert f"flask bgtasks show {request_id}" in text


def test_what_ends_otherwise_is_not_told(make, pager):
    studio = make()

    studio.fail(None)
    studio.settled()

    assert pager.alerts == []


@pytest.mark.parametrize(("code", "alerts"), [(404, 0), (422, 0), (429, 1), (500, 1)])
def test_a_view_that_refuses_a_request_is_no_failure(make, pager, code, alerts):
    studio = make()
    view = studio.bgtasks.background(name="process")(lambda: ({}, code))
    studio.app.add_url_rule("/process", view_func=view, methods=["POST"])

    request_id = studio.app.test_client().post("/process").headers["Task-Id"]
    with studio.app.app_context():
        studio.bgtasks.get(request_id).wait_until_done(timeout=PATIENCE)
    studio.settled()

    assert len(pager.alerts) == alerts


def test_credentials_in_an_error_are_blotted_out(make, pager):
    studio = make()

    studio.fail("cannot reach https://anna:hunter2@example.com/?token=abc123 with sk-abcdefgh12345678")
    studio.settled()

    ((_, text),) = pager.alerts
    assert "cannot reach https://***@example.com/?token=*** with ***" in text
    for secret in ("hunter2", "abc123", "sk-abcdefgh"):
        assert secret not in text


def test_the_latest_errors_are_told_newest_first_and_each_once(make, pager):
    studio = make(alert_failures=6)

    for error in ("first", "second", "third", "second", "fourth", "fourth"):
        studio.fail(error)
    studio.settled()

    ((_, text),) = pager.alerts
    assert "ValueError: fourth\nValueError: second\nValueError: third\n" in text
    assert "first" not in text


# -- how often ---------------------------------------------------------------------------------------------------------


def test_fewer_than_the_threshold_are_not_told(make, pager):
    studio = make(alert_failures=3)

    studio.fail()
    studio.fail()
    studio.fail(name="report")
    studio.settled()
    assert pager.alerts == []
    studio.fail()
    studio.settled()

    ((title, text),) = pager.alerts
    assert title == "studio: lesson failed"
    assert text.startswith("3 failures within 5 minutes")


def test_failures_that_lie_further_apart_than_the_window_are_not_counted_together(make, pager):
    studio = make(alert_failures=2, alert_window=60)

    for _ in range(3):
        studio.fail()
        studio.settled()
        studio.advance(61)

    assert pager.alerts == []


def test_an_outage_is_one_message_and_the_next_after_the_silence_says_how_many(make, pager):
    studio = make(alert_silence=3600)

    for _ in range(12):
        studio.fail()
    studio.settled()
    assert len(pager.alerts) == 1
    studio.advance(3200)
    studio.fail()
    studio.settled()
    assert len(pager.alerts) == 1
    studio.advance(401)
    studio.fail()
    studio.settled()

    assert len(pager.alerts) == 2
    assert "1 failure within 5 minutes" in pager.alerts[1][1]
    assert "2 within 1 hour." in pager.alerts[1][1]


def test_each_task_name_has_its_own_silence(make, pager):
    studio = make()

    for name in ("lesson", "report", "lesson", "report"):
        studio.fail(name=name)
        studio.settled()

    assert [title for title, _ in pager.alerts] == ["studio: lesson failed", "studio: report failed"]


@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
def test_however_many_processes_are_told_of_failures_one_of_them_sends(make, pager, monkeypatch, scheme):
    store = {"memory": "memory://", "sqlite": "sqlite:///tasks.sqlite3"}[scheme]
    studios = [make(store=store) for _ in range(3)]
    if scheme == "memory":
        for studio in studios[1:]:
            studio.state.store.take_mark = studios[0].state.store.take_mark
            studio.state.store.set_mark = studios[0].state.store.set_mark

    pager.gate.clear()
    failing = [threading.Thread(target=studio.fail) for studio in studios for _ in range(4)]
    for thread in failing:
        thread.start()
    for thread in failing:
        thread.join(PATIENCE)
    assert pager.reached.wait(PATIENCE)
    pager.gate.set()
    for studio in studios:
        studio.settled()

    assert len(pager.alerts) == 1


# -- none is lost ------------------------------------------------------------------------------------------------------


def test_while_the_service_refuses_alerts_they_are_kept_and_one_is_sent_when_it_is_back(make, pager):
    studio = make()
    pager.status = 503

    for _ in range(5):
        studio.fail()
    pager.wait_for(lambda: pager.refused >= 5)
    assert pager.alerts == []
    pager.status = 200
    studio.settled()

    assert len(pager.alerts) == 1
    assert re.search(r"\b5 (failures )?within ", pager.alerts[0][1])  # whichever of the five it is


def test_an_alert_whose_sender_died_is_sent_by_the_next(make, pager):
    studio = make()
    store = studio.state.store
    to = next(iter(studio.state.plugins.get("alerts")._addresses))
    assert store.take_mark(f"turn:alert:{to}:failures of 'lesson'", alerts_module.CLAIM)  # and then it was killed

    studio.fail()
    studio.fail()
    assert pager.alerts == []
    studio.advance(alerts_module.CLAIM.total_seconds() + 1)
    studio.settled()

    assert len(pager.alerts) == 1


def test_a_failure_that_the_sink_is_told_of_late_is_told_as_of_then(make, pager):
    studio = make(alert_failures=2, alert_window=60)
    worker = studio.state.deliveries._workers["alerts"]
    worker.stop()
    worker.join(PATIENCE)
    studio.fail()
    studio.fail()
    studio.advance(7200)
    studio.fail()

    studio.state.deliveries._reset()
    studio.settled()

    ((_, text),) = pager.alerts
    assert text.startswith("2 failures within 1 minute, the last at ")


def test_an_address_that_does_not_answer_holds_up_no_other_and_none_is_told_twice(make, pagers):
    up, down = pagers
    studio = make(alert_urls=[down.url, up.url])
    down.status = 500

    studio.fail()
    up.wait_for(lambda: len(up.alerts) == 1)
    down.wait_for(lambda: down.refused >= 3)
    down.status = 200
    studio.settled()

    assert len(up.alerts) == len(down.alerts) == 1


def test_an_address_that_does_not_answer_is_left_alone_for_a_while(make, pager, monkeypatch):
    monkeypatch.setattr(alerts_module, "PAUSES", Backoff(3600, 3600))
    studio = make()
    pager.status = 500

    studio.fail()
    pager.wait_for(lambda: pager.refused == 1)
    for name in ("lesson", "report", "report"):
        studio.fail(name=name)
    store, pause, owed = studio.state.store, threading.Event(), []
    for _ in range(PATIENCE * 100):
        owed = [one for one, lease in store._deliveries.values() if one.kind == "message" and lease is None]
        if len(owed) == 4 and all(one.due_at > store.now() + timedelta(seconds=60) for one in owed):
            break
        pause.wait(0.01)

    assert pager.refused == 1
    assert sorted(one.tries for one in owed) == [0, 0, 0, 1]  # who waits for the address was not tried


def test_an_alert_for_an_address_that_was_taken_out_of_the_settings_is_dropped(make, pager):
    studio = make()

    studio.state.store.add_delivery(NewDelivery("alerts", "message", {"subject": "x", "text": "y"}, channel="gone"))
    studio.settled()

    assert pager.alerts == []
    assert studio.state.store.dead_deliveries() == []


# -- trouble with other sinks ------------------------------------------------------------------------------------------


class Broken:
    """A sink whose deliveries can never succeed."""

    name = "broken"

    def __init__(self, error=None):
        self.error = error or Undeliverable("wrong key: https://anna:hunter2@example.com")
        self.asked = 0

    @hookimpl
    def bgtasks_task_event(self, task):
        self.asked += 1
        raise self.error


def test_dead_letters_of_another_sink_are_told_once_with_what_to_do(make, pager):
    studio = make(sinks=["alerts", Broken()])

    for _ in range(5):
        studio.fail(None)
    studio.settled()

    ((title, text),) = pager.alerts
    assert title == "studio: dead letters of sink 'broken'"
    assert text.startswith("Undeliverable: wrong key: https://***@example.com")
    assert "kept: `flask bgtasks dead` lists them" in text  # how many by then is a matter of who was quicker


def test_a_sink_that_is_out_of_reach_is_told(make, pager):
    broken = Broken(ConnectionError("refused"))
    studio = make(sinks=["alerts", broken])

    studio.fail(None)
    studio.fail(None)
    pager.wait_for(lambda: len(pager.alerts) == 1)

    ((title, text),) = pager.alerts
    assert title == "studio: sink 'broken' is unreachable"
    assert text == "ConnectionError: refused"


def test_a_sink_in_trouble_does_not_wait_for_the_alert_about_it(make, pager):
    broken = Broken()
    studio = make(sinks=["alerts", broken])
    pager.gate.clear()

    studio.fail(None)
    assert pager.reached.wait(PATIENCE)
    asked = broken.asked
    studio.fail(None)
    pause = threading.Event()
    for _ in range(PATIENCE * 100):
        if broken.asked > asked:
            break
        pause.wait(0.01)

    assert broken.asked > asked
    assert pager.alerts == []


def test_of_letters_that_die_at_once_by_the_hundred_one_is_noted(make, pager, monkeypatch):
    studio = make()
    store, hook = studio.state.store, studio.state.plugins.hook.bgtasks_trouble
    context = context_of(store, enqueue=studio.state.deliveries.send_message)
    owed = []
    monkeypatch.setattr(store, "add_delivery", lambda delivery, request_id: owed.append(delivery))

    with studio.app.app_context():
        for _ in range(100):
            hook(subject="dead letters of sink 'fcm'", text="refused", context=context)
        hook(subject="sink 'fcm' is unreachable", text="refused", context=context)

    assert [delivery.payload["subject"] for delivery in owed] == [
        "dead letters of sink 'fcm'",
        "sink 'fcm' is unreachable",
    ]


def test_trouble_with_the_alerts_themselves_makes_no_alert(make, pager):
    studio = make()
    pager.status = 500
    request_id = studio.fail()
    pager.wait_for(lambda: pager.refused >= 1)

    studio.advance(8 * 86_400)  # the task's time is over: the alert about it is given up
    studio.settled()
    pager.status = 200
    studio.settled()

    letters = studio.state.store.dead_deliveries(sink="alerts")
    assert [letter.request_id for letter in letters] == [request_id]
    assert pager.alerts == []


# -- settings ----------------------------------------------------------------------------------------------------------


def test_without_an_address_the_app_does_not_start():
    with pytest.raises(ConfigurationError, match="BGTASKS_ALERT_URLS: the alerts sink has no address to write to"):
        BackgroundTasks().init_app(Flask("app"), store="memory://", sinks=["alerts"])


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("pigeon://anna:hunter2@roof", "address 2 (pigeon://…)"),
        ("slack://hunter2", "address 2 (slack://…)"),
        ("hunter2", "address 2."),
        ("://hunter2", "address 2 (://…)"),
        (7, "address 2."),
    ],
)
def test_an_address_that_apprise_does_not_know_is_named_without_its_credentials(url, shown, caplog):
    with pytest.raises(ConfigurationError) as refused:
        BackgroundTasks().init_app(
            Flask("app"), store="memory://", sinks=["alerts"], alert_urls=["json://127.0.0.1:9", url]
        )

    assert f"Apprise does not take {shown}" in str(refused.value)
    assert "hunter2" not in str(refused.value) + caplog.text


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "apprise", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'flask-bgtasks\[alerts\]'"):
        BackgroundTasks().init_app(Flask("app"), store="memory://", sinks=["alerts"], alert_urls=["json://127.0.0.1:9"])


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (1, "1 second"),
        (90, "90 seconds"),
        (60, "1 minute"),
        (300, "5 minutes"),
        (3600, "1 hour"),
        (86_400, "1 day"),
        (7 * 86_400, "7 days"),
    ],
)
def test_spans_are_told_in_the_largest_unit_without_a_fraction(seconds, said):
    assert alerts_module._span(timedelta(seconds=seconds)) == said


def test_the_status_that_is_told_of_is_failed():
    assert alerts_module.EventType.FAILED.value == Status.FAILED.value
