"""What Firestore may answer, and what happens to the pending deliveries; a proxy in front of the emulator answers."""

import threading
import time

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, StoreUnavailable, current_task, step
from flask_bgtasks.stores.types import TaskQuery
from tests.integration.test_firestore_sink import db, ended, make, read, run, until  # noqa: F401 - fixtures

grpc = pytest.importorskip("grpc")

pytestmark = pytest.mark.slow


@pytest.fixture
def proxy(firestore_emulator, firestore_project, monkeypatch):
    from tests.backends.grpc_proxy import Proxy

    made = Proxy(firestore_emulator.host)
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", made.host)
    yield made
    made.close()


@pytest.fixture
def direct(firestore_emulator, firestore_project, monkeypatch):
    """A client that does not go through the proxy."""
    from google.cloud import firestore

    with monkeypatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)
        client = firestore.Client(project=firestore_project)
        client.collection("x").document("y").get()  # connected, before the environment names the proxy
    yield client
    client.close()


def test_without_injuries_everything_passes(direct, proxy, make):  # noqa: F811
    handle = run(make(), lambda: "x" * 800_000)

    assert ended(direct, handle.request_id)["result_chunks"]["count"] == 1
    assert {method for method, _ in proxy.calls} >= {"Commit"}


PASSING = ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "INTERNAL", "ABORTED", "hang"]


@pytest.mark.parametrize("mood", PASSING)
def test_an_outage_costs_the_task_nothing_and_all_arrives_in_order_afterwards(direct, proxy, make, mood):  # noqa: F811
    app = make()
    proxy.mood = "hang" if mood == "hang" else getattr(grpc.StatusCode, mood)
    begun = time.monotonic()
    handle = run(app, lambda: {"made": True})
    took = time.monotonic() - begun
    until(lambda: proxy.calls)

    proxy.mood = None
    document = ended(direct, handle.request_id)

    assert took < 5  # three calls, two seconds until each is given up
    assert document["result_data"] == {"made": True}
    store = app.extensions["bgtasks"].store
    until(lambda: store.stats().deliveries_pending == 0)
    assert store.dead_deliveries() == []
    assert read(direct, "request_progress", handle.request_id)["status"] == "completed"


@pytest.mark.parametrize(
    ("mood", "mend"),
    [
        ("PERMISSION_DENIED", "roles/datastore.user"),
        ("UNAUTHENTICATED", "make a new key"),
        ("NOT_FOUND", "create the database"),
        ("INVALID_ARGUMENT", "report it"),
        ("FAILED_PRECONDITION", "Native mode"),
    ],
)
def test_what_no_later_try_can_change_says_what_to_mend(direct, proxy, make, mood, mend):  # noqa: F811
    app = make()
    store = app.extensions["bgtasks"].store
    proxy.mood = getattr(grpc.StatusCode, mood)
    handle = run(app, lambda: 1)
    until(lambda: len(store.dead_deliveries()) == 3)  # accepted, started, completed
    assert all(mend in letter.error for letter in store.dead_deliveries())

    proxy.mood = None
    replayed = app.test_cli_runner().invoke(args=["bgtasks", "replay", "--sink", "firestore"])
    app.extensions["bgtasks"].deliveries.wake()

    assert replayed.output.startswith("replayed 3 deliveries")
    assert ended(direct, handle.request_id)["result_data"] == 1


def test_no_call_waits_longer_than_its_deadline(direct, proxy, make):  # noqa: F811
    app = make()
    sink = app.extensions["bgtasks"].plugins.get("firestore")
    proxy.mood = "hang"
    handle = run(app, lambda: 1)
    state = app.extensions["bgtasks"]
    event = state.store.events(handle.request_id)[-1]

    begun = time.monotonic()
    with pytest.raises(Exception, match="unreachable"):
        sink.bgtasks_task_event(handle.task, event, lambda: None)

    assert 1.5 < time.monotonic() - begun < 20  # it hangs for ever


def test_an_answer_that_breaks_off_in_the_middle_is_unavailability(firestore_project, proxy):
    app = Flask("breaks-off")
    bgtasks = BackgroundTasks(app, store=f"firestore://{firestore_project}", runner="external")

    @bgtasks.task
    def work():
        return 1

    with app.app_context():
        handle = work.submit()
        store = app.extensions["bgtasks"].store
        assert len(store.events(handle.request_id)) == 1
        proxy.mood = "break off"

        with pytest.raises(StoreUnavailable, match="broken off"):
            store.events(handle.request_id)
        with pytest.raises(StoreUnavailable, match="broken off"):
            store.find(TaskQuery(limit=5))

        proxy.mood = None
    app.extensions["bgtasks"].close(grace=5)


def test_a_mirror_that_is_down_is_said_once_and_that_it_is_back(direct, proxy, make, monkeypatch, caplog):  # noqa: F811
    monkeypatch.setattr("flask_bgtasks.sinks.firestore.AGAIN_SECONDS", 0.0)
    monkeypatch.setattr("flask_bgtasks.sinks.firestore.PROGRESS_SECONDS", 0.05)
    caplog.set_level("INFO", "flask_bgtasks")
    app, go_on = make(), threading.Event()

    def tries():
        return sum(method in ("BatchWrite", "BatchGetDocuments") for method, _ in proxy.calls)

    def work():
        with step("Draw"):
            while not go_on.is_set():
                current_task.update(details=str(time.monotonic()))
                time.sleep(0.01)

    thread = threading.Thread(target=run, args=(app, work))
    thread.start()
    try:
        until(lambda: tries() > 1)
        proxy.mood, before = grpc.StatusCode.UNAVAILABLE, tries()
        until(lambda: tries() > before + 5)
        proxy.mood = None
        until(lambda: "progress is mirrored again" in caplog.text)
    finally:
        go_on.set()
        thread.join(20)

    assert sum("not mirrored yet" in record.message for record in caplog.records) == 1
