"""Tasks that Cloud Tasks calls back for: what a call does, how it is answered, and what is done before the answer."""

import threading
import time
from datetime import timedelta

import pytest

pytest.importorskip("google.cloud.tasks_v2")

from flask_bgtasks import ConfigurationError, RetryLater, Status, current_task, hookimpl
from flask_bgtasks.core.transitions.attempt import Release
from flask_bgtasks.errors import StoreUnavailable
from flask_bgtasks.execution.finding import sweep
from flask_bgtasks.http import calls
from flask_bgtasks.runners import http
from flask_bgtasks.stores.types import TaskQuery
from tests.backends import free_port
from tests.backends.cloud_tasks import QUEUE, claims, key
from tests.backends.wsgi import served
from tests.support.problems import problem
from tests.support.waiting import PATIENCE, until


class Deaf:
    """A sink that is told how tasks end, and hangs while the test wants it to."""

    name = "deaf"

    def __init__(self):
        self.ended, self.go = [], threading.Event()
        self.go.set()

    @hookimpl
    def bgtasks_task_event(self, task, event):
        if event.type.terminal:
            assert self.go.wait(PATIENCE)
            self.ended.append(task.request_id)


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def sink():
    return Deaf()


@pytest.fixture
def app(make_app, bg, cloud_tasks, port, sink, state):
    """An app whose queue holds its messages until the test releases them."""
    cloud_tasks.hold()
    bg.register(sink)
    app = make_app(sinks=[], run_url=f"http://127.0.0.1:{port}", **cloud_tasks.settings)
    app.ran, app.then = [], lambda: None

    @bg.task
    def draw(what):
        app.ran.append(what)
        app.then()
        return what

    @bg.task(queue="images")
    def render(what):
        app.ran.append(what)

    @bg.task(max_concurrency=1)
    def alone(what):
        app.ran.append(what)
        app.then()

    @bg.task(retries=1)
    def fails_once(seconds):
        app.ran.append("tried")
        if len(app.ran) == 1:
            raise RetryLater("not yet", after=seconds)

    @app.post("/view")
    @bg.background
    def view():
        app.ran.append("view")
        return {"ok": True}

    app.draw, app.render, app.alone, app.fails_once = draw, render, alone, fails_once
    with app.app_context():
        yield app
    sink.go.set()


@pytest.fixture
def nobody_looks_out(app, state):
    """As on an instance whose threads have no CPU."""
    state(app).begin()
    state(app).lifecycle.recovery.close()


@pytest.fixture
def call(app, port):
    """Calls as Google does."""

    def call(what, *, audience=f"http://127.0.0.1:{port}", method="post", **kwargs):
        token = key().sign(claims(audience))
        return getattr(app.test_client(), method)(
            f"/tasks/run/{what}", headers={"Authorization": f"Bearer {token}"}, **kwargs
        )

    return call


@pytest.fixture
def serving(app, port):
    with served(app, port=port):
        yield


@pytest.fixture
def impatient_sweep(monkeypatch):
    monkeypatch.setattr(sweep, "PATIENCE", timedelta(0))


# -- the whole way -----------------------------------------------------------------------------------------------------


def test_a_submitted_task_is_called_for_and_runs_within_the_call(app, cloud_tasks, serving):
    handle = app.draw.submit("a tree")
    (message,) = cloud_tasks.messages
    assert handle.status is Status.STARTED

    cloud_tasks.release()

    until(lambda: message.answers)
    assert message.answers == [200]
    assert handle.wait(timeout=0) == "a tree"


def test_a_message_says_how_it_is_to_be_called(app, cloud_tasks, port):
    handle = app.draw.submit("a tree")

    (message,) = cloud_tasks.messages
    assert message.queue == QUEUE
    assert message.task.http_request.url == f"http://127.0.0.1:{port}/tasks/run/{handle.request_id}"
    assert message.task.http_request.oidc_token.audience == f"http://127.0.0.1:{port}"
    assert message.task.dispatch_deadline == timedelta(minutes=30)
    assert not message.task.name


def test_a_request_is_answered_when_its_message_is_published(app, cloud_tasks):
    answer = app.test_client().post("/view", headers={"Prefer": "respond-async"})

    assert (answer.status_code, len(cloud_tasks.messages)) == (202, 1)


def test_a_retry_is_called_for_when_it_is_due(app, cloud_tasks, serving, nobody_looks_out):
    handle = app.fails_once.submit(0.2)
    cloud_tasks.release()

    assert handle.wait_until_done(timeout=PATIENCE).status is Status.COMPLETED
    first, second = cloud_tasks.messages
    assert (first.task.schedule_time, app.ran) == (None, ["tried", "tried"])
    assert second.task.schedule_time is not None


def test_the_call_of_a_retry_that_comes_a_little_too_early_comes_again(app, call, cloud_tasks, nobody_looks_out):
    handle = app.fails_once.submit(50)
    assert call(handle.request_id).status_code == 200
    assert len(cloud_tasks.messages) == 2

    problem(call(handle.request_id), "call-again")

    assert app.ran == ["tried"]


def test_another_call_of_a_task_that_is_retried_much_later_is_done_with(app, call, cloud_tasks, nobody_looks_out):
    handle = app.fails_once.submit(600)
    assert call(handle.request_id).status_code == 200

    assert call(handle.request_id).status_code == 200

    assert app.ran == ["tried"]


def test_a_delay_beyond_what_cloud_tasks_keeps_is_left_to_the_sweep(app, cloud_tasks, state):
    runner = state(app).runner

    runner.submit("a", delay=29 * 86_400)
    runner.submit("b", delay=31 * 86_400)

    assert [message.request_id for message in cloud_tasks.messages] == ["a"]


def test_queues_are_mapped_and_what_is_not_named_goes_to_the_default(make_app, bg, cloud_tasks):
    cloud_tasks.hold()
    images = "projects/demo/locations/here/queues/images"
    settings = {**cloud_tasks.settings, "cloud_tasks_queue": {"default": QUEUE, "images": images}}
    app = make_app(run_url="https://app.example", run_audience="elsewhere", **settings)

    @bg.task(queue="images")
    def render():
        pass

    @bg.task(queue="more images")
    def other():
        pass

    with app.app_context():
        (first, second) = (render.submit(), other.submit())
    assert [message.queue for message in cloud_tasks.messages] == [images, QUEUE]
    calls = [message.task.http_request for message in cloud_tasks.messages]
    assert calls[0].url == f"https://app.example/tasks/run/{first.request_id}?queue=images"
    assert calls[1].url == f"https://app.example/tasks/run/{second.request_id}?queue=more+images"
    assert calls[0].oidc_token.audience == "elsewhere"


def test_a_call_runs_what_stands_first_in_its_queue(app, call):
    tree, image = app.draw.submit("a tree"), app.render.submit("an image")

    assert call(f"{image.request_id}?queue=images").status_code == 200
    assert app.ran == ["an image"]

    assert call(tree.request_id).status_code == 200
    assert app.ran == ["an image", "a tree"]


# -- done, or again ----------------------------------------------------------------------------------------------------


def test_a_call_that_finds_nothing_to_do_is_done_with(app, call):
    handle = app.draw.submit("a tree")
    assert call(handle.request_id).json == {"answer": "done"}

    assert call(handle.request_id).json == {"answer": "done"}
    assert call("a6f0b7de-5a8a-4b52-9a5a-0d5a3c3d2f11").status_code == 200  # erased, or never there
    assert app.ran == ["a tree"]


def test_a_call_whose_task_somebody_else_runs_comes_again(app, call):
    handle = app.draw.submit("a tree")
    app.then = lambda: problem(call(handle.request_id), "call-again")

    assert call(handle.request_id).status_code == 200
    assert (app.ran, handle.status) == (["a tree"], Status.COMPLETED)


def test_a_call_whose_task_somebody_else_runs_in_the_place_of_its_name_comes_again(app, call, state):
    handle = app.alone.submit("one")
    state(app).store.claim(handle.request_id, worker="another instance", lease=timedelta(seconds=60))

    problem(call(handle.request_id), "call-again")


def test_a_call_that_comes_again_goes_on_with_what_a_dead_instance_left(app, call, state, nobody_looks_out):
    handle = app.draw.submit("a tree")
    store = state(app).store
    store.claim(handle.request_id, worker="another instance", lease=timedelta(seconds=60))
    problem(call(handle.request_id), "call-again")
    store.expire_leases("another instance")

    assert call(handle.request_id).status_code == 200

    assert (handle.status, handle.task.attempt) == (Status.COMPLETED, 2)


def test_a_call_whose_task_waits_for_its_turn_is_done_with_since_the_next_one_is_called_for(app, call, cloud_tasks):
    first, second = app.alone.submit("one"), app.alone.submit("two")
    answers = []
    app.then = lambda: answers.append(call(second.request_id).status_code) if len(app.ran) == 1 else None

    assert call(first.request_id).status_code == 200

    assert answers == [200]
    assert app.ran == ["one"]
    assert [message.request_id for message in cloud_tasks.messages][2:] == [second.request_id]


def test_a_task_that_cannot_be_claimed_is_called_for_again_and_not_published_anew(
    app, call, cloud_tasks, state, monkeypatch
):
    handle = app.draw.submit("a tree")
    monkeypatch.setattr(state(app).engine._claims, "begin", lambda request_id: 1 / 0)

    problem(call(handle.request_id), "call-again")

    assert len(cloud_tasks.messages) == 1


def test_a_process_that_stops_has_calls_come_again(app, call, state):
    handle = app.draw.submit("a tree")
    state(app).runner.stop(0)

    document = problem(call(handle.request_id), "shutting-down")

    assert document["status"] == 503
    assert handle.status is Status.STARTED
    problem(call("sweep"), "shutting-down")


def test_what_a_process_gives_back_while_it_stops_is_called_for_again(app, call, state):
    handle = app.draw.submit("a tree")

    def stop():
        state(app).lifecycle.drain(0)
        current_task.update(details="more")

    app.then = stop

    problem(call(handle.request_id), "shutting-down")

    assert (handle.status, handle.task.worker) == (Status.PROCESSING, None)


def test_a_call_comes_again_while_the_store_is_away(app, call, state, monkeypatch):
    handle = app.draw.submit("a tree")

    def away(*args, **kwargs):
        raise StoreUnavailable("it is away")

    with monkeypatch.context() as patched:
        patched.setattr(state(app).store, "runnable", away)
        problem(call(handle.request_id), "store-unavailable")
        problem(call("sweep"), "store-unavailable")

    assert call(handle.request_id).status_code == 200


def test_a_call_that_breaks_is_answered_so_that_it_comes_again(app, call, state, monkeypatch, caplog):
    handle = app.draw.submit("a tree")
    monkeypatch.setattr(state(app).runner, "arrived", lambda *args: 1 / 0)

    answer = call(handle.request_id)

    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    assert "division by zero" in caplog.text
    assert "division" not in answer.text


# -- before the answer -------------------------------------------------------------------------------------------------


def test_deliveries_are_made_before_the_answer(app, call, sink):
    handle = app.draw.submit("a tree")
    answered = []

    caller = threading.Thread(target=lambda: answered.append(call(handle.request_id).status_code))
    sink.go.clear()
    caller.start()
    until(lambda: handle.status is Status.COMPLETED)
    assert not answered  # it is still held up by the sink

    sink.go.set()
    caller.join(PATIENCE)

    assert (answered, sink.ended) == ([200], [handle.request_id])


def test_a_sink_that_hangs_holds_up_an_answer_for_a_limited_time(app, call, sink, monkeypatch):
    monkeypatch.setattr(calls, "DELIVERY_SECONDS", 0.1)
    handle = app.draw.submit("a tree")
    sink.go.clear()

    assert call(handle.request_id).status_code == 200
    assert call("sweep").json["delivered"] is False

    sink.go.set()
    monkeypatch.setattr(calls, "DELIVERY_SECONDS", PATIENCE)
    assert call("sweep").json["delivered"] is True
    assert sink.ended == [handle.request_id]


def test_a_sink_that_fails_does_not_hold_up_an_answer(make_app, bg, cloud_tasks, port, caplog):
    class Broken:
        @hookimpl
        def bgtasks_task_event(self, task, event):
            raise ValueError("broken")

    cloud_tasks.hold()
    bg.register(Broken())
    app = make_app(sinks=[], run_url=f"http://127.0.0.1:{port}", **cloud_tasks.settings)
    bg.task(name="nothing")(lambda: None)
    with app.app_context():
        handle = bg.submit("nothing")
    token = key().sign(claims(f"http://127.0.0.1:{port}"))
    begun = time.monotonic()

    answer = app.test_client().post(f"/tasks/run/{handle.request_id}", headers={"Authorization": f"Bearer {token}"})

    assert answer.status_code == 200
    assert time.monotonic() - begun < calls.DELIVERY_SECONDS


# -- the queue is away, and the sweep ----------------------------------------------------------------------------------


def test_a_queue_that_is_away_does_not_refuse_requests_and_the_sweep_publishes(
    app, call, cloud_tasks, nobody_looks_out
):
    cloud_tasks.away = True
    answer = app.test_client().post("/view", headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    assert call("sweep").json["published"] == 0
    cloud_tasks.away = False

    assert call("sweep").json == {"published": 1, "abandoned": 0, "erased": 0, "delivered": True}

    assert [message.request_id for message in cloud_tasks.messages] == [answer.headers["Task-Id"]]


def test_a_connection_that_has_died_while_there_was_no_cpu_is_made_again(app, cloud_tasks, state, nobody_looks_out):
    app.draw.submit("a tree")
    before, cloud_tasks.broken = state(app).runner.client(), 1

    app.draw.submit("a house")

    assert len(cloud_tasks.messages) == 2
    assert state(app).runner.client() is not before


def test_a_silent_queue_holds_up_one_request_and_no_other(app, cloud_tasks, monkeypatch, nobody_looks_out):
    monkeypatch.setattr(http, "PUBLISH_SECONDS", 0.5)
    cloud_tasks.silent = True

    for _ in range(3):
        assert app.test_client().post("/view", headers={"Prefer": "respond-async"}).status_code == 202

    assert cloud_tasks.asked == 1
    cloud_tasks.silent = False


def test_a_retry_that_cannot_be_scheduled_is_published_by_the_sweep_when_it_is_due(
    app, call, cloud_tasks, nobody_looks_out, caplog
):
    handle = app.fails_once.submit(0.1)
    cloud_tasks.away = True
    assert call(handle.request_id).status_code == 200
    cloud_tasks.away = False
    cloud_tasks.lose()

    until(lambda: call("sweep").json["published"] == 1, every=0.05)

    assert [message.request_id for message in cloud_tasks.messages] == [handle.request_id]
    assert "retries are published when they are due" in caplog.text


def test_the_sweep_publishes_what_a_dead_instance_left_once_its_lease_is_over(
    app, call, cloud_tasks, state, nobody_looks_out
):
    handle = app.draw.submit("a tree")
    cloud_tasks.lose()
    state(app).store.claim(handle.request_id, worker="another instance", lease=timedelta(seconds=60))
    assert call("sweep").json["published"] == 0
    state(app).store.expire_leases("another instance")

    assert call("sweep").json["published"] == 1

    assert call(handle.request_id).status_code == 200
    assert (app.ran, handle.task.attempt) == (["a tree"], 2)


def test_the_sweep_publishes_what_was_given_back(app, call, cloud_tasks, state, nobody_looks_out):
    handle = app.draw.submit("a tree")
    cloud_tasks.lose()
    store = state(app).store
    attempt = store.claim(handle.request_id, worker="another instance", lease=timedelta(seconds=60)).task.attempt
    store.transition(handle.request_id, Release(attempt))

    assert call("sweep").json["published"] == 1


def test_two_sweeps_at_once_publish_a_task_once(app, call, cloud_tasks, nobody_looks_out, impatient_sweep):
    app.draw.submit("a tree")
    cloud_tasks.lose()
    published = []
    sweeps = [threading.Thread(target=lambda: published.append(call("sweep").json["published"])) for _ in range(4)]
    for one in sweeps:
        one.start()
    for one in sweeps:
        one.join(PATIENCE)

    assert sum(published) == len(cloud_tasks.messages) == 1


def test_the_sweep_erases_what_has_expired(make_app, bg, cloud_tasks, port, state):
    app = make_app(sinks=[], run_url=f"http://127.0.0.1:{port}", expires_after=1, **cloud_tasks.settings)
    bg.task(name="nothing")(lambda: None)
    state(app).begin()
    state(app).lifecycle.recovery.close()
    token = {"Authorization": f"Bearer {key().sign(claims(f'http://127.0.0.1:{port}'))}"}
    cloud_tasks.hold()
    with app.app_context():
        handle = bg.submit("nothing")
    assert app.test_client().post(f"/tasks/run/{handle.request_id}", headers=token).status_code == 200

    until(lambda: app.test_client().post("/tasks/run/sweep", headers=token).json["erased"], every=0.05)

    assert not state(app).store.find(TaskQuery(ids=[handle.request_id])).tasks


# -- in front of the app -----------------------------------------------------------------------------------------------


def test_the_apps_login_and_csrf_protection_are_not_asked(app, call):
    handle = app.draw.submit("a tree")
    asked = []

    @app.before_request
    def login():
        asked.append(True)
        return "log in", 401

    assert call(handle.request_id).status_code == 200
    assert not asked
    assert app.test_client().get("/tasks").status_code == 401


def test_without_this_runner_there_are_no_such_addresses(make_app):
    app = make_app()

    for what in ("sweep", "a6f0b7de-5a8a-4b52-9a5a-0d5a3c3d2f11"):
        assert app.test_client().post(f"/tasks/run/{what}").status_code == 404


def test_an_id_that_is_none_and_another_method_are_refused(app, call):
    problem(call("x" * 300), "task-not-found")
    answer = call("sweep", method="get")

    problem(answer, "method-not-allowed")
    assert answer.headers["Allow"] == "POST"


# -- set-up ------------------------------------------------------------------------------------------------------------

GOOD = {
    "cloud_tasks_queue": QUEUE,
    "run_url": "https://app.example",
    "run_service_account": "tasks@demo.iam.gserviceaccount.com",
}


@pytest.mark.parametrize("lacking", GOOD)
def test_what_is_lacking_is_said_in_init_app(make_app, lacking):
    with pytest.raises(ConfigurationError, match=rf"set BGTASKS_{lacking.upper()} \("):
        make_app(runner="http", **{name: value for name, value in GOOD.items() if name != lacking})


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("cloud_tasks_queue", "work", "expected 'projects/PROJECT"),
        ("cloud_tasks_queue", {"images": QUEUE}, "expected an entry 'default'"),
        ("cloud_tasks_queue", {"default": QUEUE, "images": 3}, "expected 'projects/PROJECT"),
        ("cloud_tasks_deadline", 14, "at least 15"),
        ("cloud_tasks_deadline", 1801, "at most 1800"),
        ("cloud_tasks_endpoint", "http://127.0.0.1:1", "expected a host and a port"),
        ("run_url", "app.example", "expected an address"),
        ("run_url", "http://app.example", "expected an address"),
        ("run_url", "https://app.example/?a=1", "expected an address"),
        ("run_service_account", "me@example.com", "expected the address of a service account"),
        ("run_certs_url", "certs", "expected an address"),
        ("run_audience", "", "expected a non-empty string"),
    ],
)
def test_a_malformed_setting_is_refused(make_app, setting, value, says):
    with pytest.raises(ConfigurationError, match=f"BGTASKS_{setting.upper()}.*{says}"):
        make_app(runner="http", **{**GOOD, setting: value})


def test_an_app_without_credentials_is_told_so_before_a_task_is_stored(make_app, bg, monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    app = make_app(runner="http", **GOOD)
    bg.task(name="nothing")(lambda: None)

    with app.app_context(), pytest.raises(ConfigurationError, match="no credentials for Cloud Tasks"):
        bg.submit("nothing")

    assert not app.extensions["bgtasks"].store.find(TaskQuery()).tasks
