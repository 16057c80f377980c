"""With BGTASKS_NOTIFY="unseen": an outcome that went out on a stream, to a client that took it, needs no push."""

import contextlib
import http.client
import itertools
import socket
import sys
from datetime import timedelta

import pytest

from flask_bgtasks.core.transitions.outside import MarkTold
from flask_bgtasks.errors import StoreUnavailable
from flask_bgtasks.http.context import parts_of
from flask_bgtasks.pipeline.reporting import current_task
from flask_bgtasks.runtime import connection
from tests.backends import wsgi
from tests.support.http_app import PATIENCE, make
from tests.support.sse_reader import read
from tests.support.waiting import until

GRACE = timedelta(hours=1)


def prepared(store, folder, **settings):
    """An app whose stories tell their users when they are done, and one that is longer than a small buffer."""
    studio = make(store, folder, sinks=["memory"], notify_grace=GRACE.total_seconds(), **settings)

    @studio.app.post("/story")
    @studio.bgtasks.background(notify="Your story is ready")
    def story():
        studio.stop_at("story")
        return {}

    @studio.app.post("/wall")
    @studio.bgtasks.background(notify="Your wall of text is ready")
    def wall():
        for _ in range(200):
            current_task.emit("x" * 1000)
        return {}

    return studio


@pytest.fixture(params=["memory://", "sqlite:///tasks.sqlite3"])
def studio(request, tmp_path):
    made = prepared(request.param, tmp_path, notify="unseen")
    yield made
    made.close()


@pytest.fixture
def marks(studio, monkeypatch):
    """The marks that the streams ask the store for."""
    asked, transition = [], studio.state.store.transition

    def look(request_id, change, **kwargs):
        if isinstance(change, MarkTold):
            asked.append(request_id)
        return transition(request_id, change, **kwargs)

    monkeypatch.setattr(studio.state.store, "transition", look)
    return asked


def told_at(studio, request_id):
    return studio.state.store.get(request_id).told_at


def eventually(condition, what):
    until(condition, says=lambda: what)


def pushes(studio):
    """Which tasks were notified of, when the grace period is over and nothing is pending any more."""
    studio.advance(GRACE)

    def settled():
        studio.state.deliveries.wake()
        return not studio.state.store.stats().deliveries_pending

    eventually(settled, "something is still pending")
    return [notification.request_id for notification in studio.state.plugins.get("memory").notifications]


# -- what counts -------------------------------------------------------------------------------------------------------


def test_who_follows_a_task_to_its_end_was_told(client, studio):
    request_id = client.post("/story").json["request_id"]
    answer = client.get(f"/tasks/{request_id}/events", buffered=False)
    chunks = iter(answer.response)
    next(chunks), next(chunks)
    assert told_at(studio, request_id) is None
    studio.open("story")

    events = read(b"".join(chunks))

    assert events[-1].type == "completed"
    assert told_at(studio, request_id) is not None
    assert studio.state.store.get(request_id).seen_at is None  # that is for a client to say
    answer.close()


def test_who_asks_after_the_end_was_told(studio):
    request_id = studio.done()

    studio.events(f"/tasks/{request_id}/events")

    assert told_at(studio, request_id) is not None


def test_who_follows_many_was_told_of_each_as_it_ended(client, studio):
    done, running = studio.done(), studio.running()
    answer = client.get(f"/tasks/events?ids={done},{running}", buffered=False)
    chunks = iter(answer.response)
    next(chunks), next(chunks)
    assert told_at(studio, done) is None  # nobody has asked for more yet
    client.post(f"/tasks/{running}/cancel")  # an event that is none of the first task's
    next(chunks)
    assert told_at(studio, done) is not None
    assert told_at(studio, running) is None
    studio.open("gate")

    assert read(b"".join(chunks))[-1].type == "cancelled"

    assert told_at(studio, running) is not None
    answer.close()


def test_who_gets_the_end_in_a_snapshot_was_told(tmp_path):
    studio = prepared("memory://", tmp_path, notify="unseen", max_events=100)
    request_id = studio.done("/wall")

    events = studio.events(f"/tasks/{request_id}/events?starting_after=100000")

    assert events[0].type == "snapshot"
    assert told_at(studio, request_id) is not None
    studio.state.close(grace=PATIENCE)


@pytest.mark.parametrize("path", ["/tasks/{}/events", "/tasks/events?ids={}"])
def test_who_comes_back_with_the_last_event_was_told(client, studio, path):
    request_id = studio.done()
    path, last = path.format(request_id), {"Last-Event-ID": f"{request_id}:{studio.state.store.get(request_id).seq}"}

    client.head(path, headers=last)
    assert told_at(studio, request_id) is None
    assert client.get(path, headers=last).status_code == 204

    assert told_at(studio, request_id) is not None


def test_a_task_that_is_opened_again_has_told_nobody_of_its_next_end(client, studio):
    request_id = studio.done("/break")
    studio.events(f"/tasks/{request_id}/events")
    first = told_at(studio, request_id)

    client.post(f"/tasks/{request_id}/retry")
    studio.finish(request_id)
    assert told_at(studio, request_id) is None
    studio.events(f"/tasks/{request_id}/events")

    assert told_at(studio, request_id) > first


# -- what does not -----------------------------------------------------------------------------------------------------


def test_who_is_gone_before_the_server_asks_for_more_was_not_told(client, studio, marks):
    request_id = studio.done()
    answer = client.get(f"/tasks/{request_id}/events", buffered=False)
    chunks = iter(answer.response)
    while not any(event.type == "completed" for event in read(next(chunks))):
        pass

    answer.close()  # as a server does when the write has failed

    assert marks == []


def test_who_polls_or_reads_a_page_was_not_told(client, studio, marks):
    request_id = studio.done()

    client.get(f"/tasks/{request_id}")
    client.get(f"/tasks/{request_id}?wait=1")
    client.get(f"/tasks/{request_id}/result")
    client.get(f"/tasks/{request_id}/events", headers={"Accept": "application/json"})
    client.head(f"/tasks/{request_id}/events")

    assert marks == []


@pytest.mark.parametrize("notify", ["always", "never"])
def test_where_nobody_asks_whether_it_was_told_nothing_is_written(tmp_path, notify):
    studio = prepared("memory://", tmp_path, notify=notify)
    request_id = studio.done()
    before = studio.state.store.change_token()

    last = studio.events(f"/tasks/{request_id}/events")[-1].last_id
    studio.events(f"/tasks/events?ids={request_id}")
    studio.app.test_client().get(f"/tasks/{request_id}/events", headers={"Last-Event-ID": last})

    assert studio.state.store.change_token() == before
    studio.state.close(grace=PATIENCE)


def test_a_store_that_fails_costs_the_stream_nothing(studio, monkeypatch, caplog):
    request_id = studio.done()
    transition = studio.state.store.transition

    def fail(request_id, change, **kwargs):
        if isinstance(change, MarkTold):
            raise StoreUnavailable("the disk is full")
        return transition(request_id, change, **kwargs)

    monkeypatch.setattr(studio.state.store, "transition", fail)

    assert studio.events(f"/tasks/{request_id}/events")[-1].type == "completed"
    assert f"cannot record that a client received the end of task {request_id}: the disk is full" in caplog.text


# -- over real connections ---------------------------------------------------------------------------------------------


@pytest.fixture
def served(studio):
    """The app behind Werkzeug's server; its port."""
    with wsgi.served(studio.app) as server:
        yield server.server_port


@contextlib.contextmanager
def silent_client(port, path):
    """A client that asks for a stream, reads its beginning, and takes no more: its receive buffer is small and full."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.settimeout(PATIENCE)
        client.connect(("127.0.0.1", port))
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.recv(12).startswith(b"HTTP/1.1 200")
        yield client


in_memory = pytest.mark.parametrize("studio", ["memory://"], indirect=True)  # whose clock can be put forward


@in_memory
def test_a_client_that_reads_to_the_end_gets_no_push(studio, served):
    request_id = studio.submit("/wall")
    connection = http.client.HTTPConnection("127.0.0.1", served, timeout=PATIENCE)
    connection.request("GET", f"/tasks/{request_id}/events")
    events = read(connection.getresponse().read())
    connection.close()

    assert events[-1].type == "completed"
    eventually(lambda: told_at(studio, request_id) is not None, "it was not noted")
    assert pushes(studio) == []


@in_memory
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for a socket's send queue")
def test_a_client_that_takes_nothing_in_gets_its_push(studio, served, monkeypatch, marks):
    """A phone that fell asleep: the server wrote the end without an error, and nobody has acknowledged it."""
    monkeypatch.setattr(connection, "ARRIVAL_SECONDS", 0.3)
    slots = parts_of(studio.app).slots
    request_id = studio.done("/wall")

    with silent_client(served, f"/tasks/{request_id}/events") as asleep:
        eventually(lambda: slots.taken == 0, "the stream does not end")

        assert told_at(studio, request_id) is None
        assert marks == []
        assert pushes(studio) == [request_id]

        rest = b"".join(itertools.takewhile(bool, iter(lambda: asleep.recv(65536), b"")))
        assert b"event: completed" in rest  # all of it was there, in the server's buffer
