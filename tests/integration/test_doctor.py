"""`flask bgtasks doctor`: a line for everything that has to be right, and an exit code."""

import json
import threading

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, hookimpl
from flask_bgtasks.cli import doctor as doctor_module


class Service:
    """A plugin whose service is as a test wants it."""

    name = "service"

    def __init__(self, act):
        self.act = act
        self.token = None

    @hookimpl
    def bgtasks_check(self, settings, token):
        self.token = token
        return self.act()


@pytest.fixture
def examine(tmp_path):
    def run(*arguments, plugin=None, secret_key="x", notify=None, **settings):
        app = Flask("studio", instance_path=str(tmp_path))
        app.secret_key = secret_key
        bgtasks = BackgroundTasks()
        if plugin is not None:
            bgtasks.register(plugin)
        bgtasks.init_app(app, **settings)

        @app.post("/process")
        @bgtasks.background(notify=notify)
        def process():
            return {}

        found = app.test_cli_runner().invoke(args=["bgtasks", "doctor", "--json", *arguments])
        app.extensions["bgtasks"].close(grace=1)
        levels = {}
        for finding in json.loads(found.output):
            levels.setdefault(finding["level"], []).append((finding["what"], finding["mend"]))
        return found.exit_code, levels

    return run


def mends(found):
    return " / ".join(f"{what}: {mend}" for what, mend in found)


def test_a_sound_set_up_is_ok(examine):
    code, levels = examine()

    assert code == 0
    assert set(levels) == {"ok"}
    assert any("can be read and written" in what for what, _ in levels["ok"])


def test_a_store_that_does_not_answer_is_a_failure_and_what_needs_it_is_left_out(examine):
    code, levels = examine(store="postgresql+psycopg://anna:hunter2@127.0.0.1:9/tasks")

    assert code == 1
    ((what, mend),) = levels["FAIL"]
    assert what == "store"
    assert "refused" in mend
    assert "hunter2" not in json.dumps(levels)
    assert not any(what.startswith(("queue", "clock")) for found in levels.values() for what, _ in found)


@pytest.mark.parametrize(
    ("given", "mend"),
    [
        ({"store": "memory://"}, "each process has its own"),
        ({"secret_key": None}, "without the app's SECRET_KEY"),
        ({"notify": "Ready"}, "name a sink that sends"),
        ({"alert_urls": ["json://127.0.0.1:9"]}, "it has no effect without 'alerts'"),
        ({"android_channel": "lessons"}, "it has no effect without 'fcm'"),
    ],
)
def test_what_may_not_be_meant_is_a_warning(examine, given, mend):
    code, levels = examine(**given)

    assert code == 0
    assert mend in mends(levels["warn"])


def test_a_plugin_tells_what_it_found(examine):
    service = Service(lambda: [("service: reachable", None), ("service: key", "make a new one")])

    code, levels = examine("--token", "an-address", plugin=service)

    assert code == 1
    assert ("service: reachable", None) in levels["ok"]
    assert levels["FAIL"] == [("service: key", "make a new one")]
    assert service.token == "an-address"
    assert "not checked" not in mends(levels.get("warn", []))


def test_a_plugin_that_breaks_is_a_finding_without_its_credentials(examine):
    def broken():
        raise ConnectionError("refused by https://anna:hunter2@example.com")

    code, levels = examine(plugin=Service(broken))

    assert code == 1
    assert levels["FAIL"] == [("service", "ConnectionError: refused by https://***@example.com")]


def test_a_plugin_that_hangs_is_a_finding_and_not_the_end(examine, monkeypatch):
    let_go = threading.Event()
    monkeypatch.setattr(doctor_module, "DEADLINE_SECONDS", 2.0)  # enough for the others on a busy machine

    code, levels = examine(plugin=Service(lambda: let_go.wait(30) and []))
    let_go.set()

    assert code == 1
    assert levels["FAIL"] == [("service", "no answer within 2 s")]


def test_an_address_that_nobody_tries_is_a_warning(examine):
    code, levels = examine("--token", "an-address", sinks=["memory"])

    assert code == 0
    ((_, mend),) = [found for found in levels["warn"] if found[0].startswith("token")]
    assert "'fcm' can" in mend
    assert "an-address" not in json.dumps(levels)


def test_fcm_is_checked_with_a_message_that_is_not_delivered(examine, fcm):
    pytest.importorskip("firebase_admin")
    token = "a:token"

    code, levels = examine("--token", token, sinks=["fcm"], fcm_endpoint=fcm.url, notify="Ready")

    assert code == 0, levels
    assert "not checked" not in mends(levels.get("warn", []))
    assert [one["dry"] for one in fcm.messages] == [True]
    assert token not in json.dumps(levels)


def test_firestore_out_of_reach_is_told(examine, monkeypatch):
    pytest.importorskip("google.cloud.firestore")
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:9")

    code, levels = examine(sinks=["firestore"], firebase_project="demo-doctor")

    assert code == 1
    assert "Firestore is unreachable" in mends(levels["FAIL"])


class TestCloudTasks:
    @pytest.fixture
    def look(self, examine, cloud_tasks):
        def look(**other):
            _, levels = examine(**{**cloud_tasks.settings, "run_url": "https://app.example", **other})
            return {level: mends(found) for level, found in levels.items()}

        return look

    def test_a_queue_that_runs_is_ok(self, look):
        assert "queue: projects/demo/locations/here/queues/work" in look()["ok"]

    def test_a_queue_that_is_paused_is_found(self, look, cloud_tasks):
        from google.cloud.tasks_v2 import Queue

        cloud_tasks.state = Queue.State.PAUSED

        assert "it is paused: gcloud tasks queues resume projects/demo/locations/here/queues/work" in look()["FAIL"]

    def test_a_queue_that_is_not_there_is_found(self, look):
        lost = "projects/other/locations/here/queues/work"

        assert "NotFound: Requested entity was not found." in look(cloud_tasks_queue=lost)["FAIL"]

    def test_a_queue_that_is_away_is_found(self, look, cloud_tasks):
        cloud_tasks.away = True

        assert "ServiceUnavailable: the queue is away" in look()["FAIL"]
