"""The edges of event streams: wrong places, changed lists, retried, deleted and trimmed tasks, clients that leave."""

import contextlib
import gc
import itertools
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from flask import current_app, has_app_context, has_request_context

from flask_bgtasks.http.context import parts_of
from flask_bgtasks.http.streaming import sse
from flask_bgtasks.http.streaming.frame_cache import FrameCache
from flask_bgtasks.http.streaming.stream import Subscription, Teller
from flask_bgtasks.runtime.connection import gone
from tests.support.http_app import PATIENCE, make, with_owners
from tests.support.http_calls import UNKNOWN
from tests.support.sse_reader import read
from tests.support.waiting import until


@pytest.fixture
def studio_settings():
    return {"progress_interval": 0.01}


def problem_type(answer):
    assert answer.content_type == "application/problem+json", answer.text
    return answer.json["type"].rpartition("#")[2]


@contextlib.contextmanager
def opened(studio, path, **headers):
    """A stream that is read as it comes: an iterator over its events."""
    answer = studio.app.test_client().get(path, headers=headers, buffered=False)
    assert answer.status_code == 200, answer.text
    chunks = iter(answer.response)
    try:
        yield itertools.chain.from_iterable(map(read, chunks))
    finally:
        answer.close()


def taken(studio):
    return parts_of(studio.app).slots.taken


# -- wrong places ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["abc", "-1", "1.5", "1e3", "9" * 16, "%D9%A3", f"{UNKNOWN}:3"])
@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
def test_a_wrong_place_is_refused_before_the_stream_begins(client, studio, place, accept):
    request_id = studio.done()
    path = f"/tasks/{request_id}/events"

    by_address = client.get(f"{path}?starting_after={place}", headers={"Accept": accept})
    by_header = client.get(path, headers={"Last-Event-ID": place, "Accept": accept})

    assert by_address.status_code == by_header.status_code == 400
    assert problem_type(by_address) == problem_type(by_header) == "invalid-cursor"
    assert taken(studio) == 0


def test_the_header_is_newer_than_the_address(studio):
    path = f"/tasks/{studio.done()}/events?starting_after=1"
    whole = studio.events(path)

    assert studio.events(path, headers={"Last-Event-ID": "4"}) == whole[3:]


def test_an_empty_last_event_id_is_none(studio):
    path = f"/tasks/{studio.done()}/events"

    assert studio.events(path, headers={"Last-Event-ID": ""}) == studio.events(path)


def test_who_followed_many_goes_on_with_one(studio):
    one, other = studio.done(), studio.done()
    many = studio.events(f"/tasks/events?ids={one},{other}")
    last_of_one = [event for event in many if event.document["request_id"] == one][2]

    rest = studio.events(f"/tasks/{one}/events", headers={"Last-Event-ID": last_of_one.last_id})

    assert rest[0].document["seq"] == 4


def test_a_representation_that_there_is_not_is_406(client, studio):
    request_id = studio.done()

    assert problem_type(client.get(f"/tasks/{request_id}/events", headers={"Accept": "image/png"})) == "not-acceptable"
    many = client.get(f"/tasks/events?ids={request_id}", headers={"Accept": "application/json"})
    assert problem_type(many) == "not-acceptable"


def test_a_browser_page_gets_the_stream(client, studio):
    accept = "text/html,application/xhtml+xml,*/*;q=0.8"

    answer = client.get(f"/tasks/{studio.done()}/events", headers={"Accept": accept})

    assert answer.mimetype == "text/event-stream"


# -- the stream's end --------------------------------------------------------------------------------------------------


def test_a_task_that_was_retried_is_followed_beyond_its_first_end(client, studio):
    request_id = studio.done("/break")
    client.post(f"/tasks/{request_id}/retry")
    studio.finish(request_id)

    events = studio.events(f"/tasks/{request_id}/events")

    assert [event.type for event in events] == ["accepted", "started", "failed", "reopened", "started", "failed"]
    first_end = events[2].last_id
    assert studio.events(f"/tasks/{request_id}/events", headers={"Last-Event-ID": first_end}) == events[3:]


def test_a_task_that_is_deleted_ends_its_stream(client, studio):
    request_id = studio.running()
    with opened(studio, f"/tasks/{request_id}/events") as events:
        assert next(events).type == "accepted"
        client.post(f"/tasks/{request_id}/cancel")
        studio.open("gate")
        studio.finish(request_id)
        client.delete(f"/tasks/{request_id}")

        rest = list(events)  # it ends, whether it was told of the end before the task was gone or not

    assert client.get(f"/tasks/{request_id}/events").status_code == 404
    assert all(event.type != "ping" for event in rest)


def test_a_process_that_stops_ends_its_streams(studio):
    request_id = studio.running()
    with opened(studio, f"/tasks/{request_id}/events") as events:
        assert next(events).type == "accepted"
        studio.state.runner.stop(0)

        assert all(event.type != "cancelled" for event in events)  # and it ends: the server would wait for it


def test_a_store_that_fails_ends_the_stream_and_the_client_comes_back(studio, monkeypatch, caplog):
    from flask_bgtasks.errors import StoreUnavailable

    request_id = studio.done()
    until(lambda: not studio.state.watcher._topics)  # whoever waited for its end has gone: the store is asked
    get, view, opened = studio.state.store.get, threading.current_thread(), []

    def get_for_the_view_alone(*args):  # not for the watcher, which would have what the stream is to ask for
        if opened or threading.current_thread() is not view:
            raise StoreUnavailable("the disk is gone")
        return get(*args)

    monkeypatch.setattr(studio.state.store, "get", get_for_the_view_alone)
    answer = studio.app.test_client().get(f"/tasks/{request_id}/events", buffered=False)
    opened.append(answer)

    assert read(b"".join(answer.response)) == []
    answer.close()
    assert taken(studio) == 0
    assert "the disk is gone" in caplog.text


def test_a_stream_of_a_task_whose_time_is_over_is_410(client, studio):
    request_id = studio.done()
    studio.advance(timedelta(days=8))

    assert problem_type(client.get(f"/tasks/{request_id}/events")) == "task-expired"


# -- places on the server ----------------------------------------------------------------------------------------------


def test_a_stream_leaves_no_context_behind(client, studio):
    request_id = studio.running()
    answer = client.get(f"/tasks/{request_id}/events", buffered=False)
    chunks = iter(answer.response)
    next(chunks)

    assert not has_request_context()
    assert not has_app_context()
    next(chunks)  # what comes later needs none
    answer.close()
    with pytest.raises(RuntimeError):
        current_app.name  # noqa: B018


def test_head_takes_no_place(tmp_path):
    studio = make("memory://", tmp_path, max_streams=0)
    request_id = studio.done()

    answer = studio.app.test_client().head(f"/tasks/{request_id}/events")

    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
    studio.state.close(grace=PATIENCE)


def test_a_stream_that_an_after_request_function_breaks_gives_its_place_back(studio, client):
    studio.app.logger.disabled = True  # pytest keeps what is logged, its traceback, and with it every local variable

    @studio.app.after_request
    def break_(response):
        if response.mimetype == "text/event-stream":
            raise RuntimeError("the app's own")
        return response

    request_id = studio.running()

    assert client.get(f"/tasks/{request_id}/events").status_code == 500
    gc.collect()
    assert taken(studio) == 0


def test_a_page_of_json_takes_no_place(tmp_path):
    studio = make("memory://", tmp_path, max_streams=0)
    request_id = studio.done()

    answer = studio.app.test_client().get(f"/tasks/{request_id}/events", headers={"Accept": "application/json"})

    assert answer.status_code == 200
    studio.state.close(grace=PATIENCE)


def test_a_client_that_has_left_is_noticed_where_the_server_shows_its_connection():
    here, there = socket.socketpair()
    with here, there:
        look = gone({"gunicorn.socket": here})

        assert not look()
        there.sendall(b"GET ")  # the next request, sent ahead
        assert not look()
        here.recv(4)
        there.close()
        assert look()


@pytest.mark.parametrize("environ", [{}, {"gunicorn.socket": None}, {"werkzeug.socket": object()}])
def test_where_no_connection_is_shown_the_client_counts_as_there(environ):
    assert not gone(environ)()


def test_a_client_that_has_left_gives_its_place_back_without_a_word_from_the_task(studio):
    request_id = studio.running()
    left = []
    teller = Teller(
        studio.state.watcher,
        FrameCache(),
        Subscription(places={request_id: 0}, name=lambda _, p: str(p[request_id]), seconds=300, base="/tasks"),
        ended=lambda: bool(left),
    )
    chunks = teller.tell()
    next(chunks), next(chunks)
    left.append(True)

    with ThreadPoolExecutor(1) as pool:
        assert isinstance(pool.submit(list, chunks).result(PATIENCE), list)


# -- trimmed history ---------------------------------------------------------------------------------------------------


@pytest.fixture
def trimmed(tmp_path):
    """A task with more history than is kept, and its studio."""
    studio = make("memory://", tmp_path, max_events=100, progress_interval=0.01)

    @studio.bgtasks.task(name="long")
    def long():
        from flask_bgtasks import step

        for n in range(200):
            with step(f"Step {n}"):
                pass

    with studio.app.app_context():
        request_id = studio.finish(long.submit().request_id)
    yield studio, request_id
    studio.state.close(grace=PATIENCE)


def test_in_place_of_what_is_no_longer_kept_there_is_one_snapshot(trimmed):
    studio, request_id = trimmed

    events = studio.events(f"/tasks/{request_id}/events")

    assert [event.type for event in events] == ["snapshot", "completed"]
    task = studio.app.test_client().get(f"/tasks/{request_id}").json
    assert events[0].document["progress"] == task["progress"]
    assert events[0].document["status"] == "completed"
    assert events[1].last_id == str(task["seq"])
    last = events[1].last_id
    answer = studio.app.test_client().get(f"/tasks/{request_id}/events", headers={"Last-Event-ID": last})
    assert answer.status_code == 204


def test_a_place_that_is_still_kept_gets_no_snapshot(trimmed):
    studio, request_id = trimmed
    seq = studio.state.store.get(request_id).seq

    events = studio.events(f"/tasks/{request_id}/events?starting_after={seq - 50}")

    assert [int(event.last_id) for event in events] == list(range(seq - 49, seq + 1))


def test_a_page_says_that_something_is_no_longer_kept(trimmed):
    studio, request_id = trimmed
    client = studio.app.test_client()
    path, accept = f"/tasks/{request_id}/events", {"Accept": "application/json"}

    first = client.get(path, headers=accept).json
    rest = client.get(f"{path}?starting_after={first['events'][50]['seq']}", headers=accept).json

    assert first["trimmed"] is True
    assert rest["trimmed"] is False
    assert rest["next"] == rest["seq"]


def test_pages_of_events_follow_one_another(client, studio):
    request_id = studio.done()
    path, accept = f"/tasks/{request_id}/events", {"Accept": "application/json"}
    numbers, after = [], 0
    while True:
        page = client.get(f"{path}?limit=2&starting_after={after}", headers=accept).json
        if not page["events"]:
            break
        numbers += [event["seq"] for event in page["events"]]
        after = page["next"]

    assert numbers == list(range(1, page["seq"] + 1))
    assert (page["next"], page["trimmed"], page["done"]) == (page["seq"], False, True)
    assert problem_type(client.get(f"{path}?limit=0", headers=accept)) == "invalid-parameter"


def test_a_page_with_the_end_says_that_the_task_is_done(client, studio, monkeypatch):
    request_id, store = studio.running(), studio.state.store
    events_of = store.events

    def ends_meanwhile(*args, **kwargs):
        studio.open("gate")
        studio.finish(request_id)
        return events_of(*args, **kwargs)

    monkeypatch.setattr(store, "events", ends_meanwhile)
    page = client.get(f"/tasks/{request_id}/events", headers={"Accept": "application/json"}).json

    assert page["events"][-1]["type"] == "completed"
    assert (page["seq"], page["done"]) == (page["events"][-1]["seq"], True)


def test_a_place_beyond_the_newest_event_of_a_running_task_gets_a_snapshot_and_then_what_comes(studio):
    request_id = studio.running()
    with opened(studio, f"/tasks/{request_id}/events?starting_after=1000") as events:
        snapshot = next(events)
        assert snapshot.type == "snapshot"
        assert snapshot.document["status"] == "processing"
        studio.open("gate")
        rest = list(events)

    assert [int(event.last_id) for event in rest] == list(
        range(int(snapshot.last_id) + 1, int(snapshot.last_id) + 1 + len(rest))
    )
    assert rest[-1].type == "completed"


# -- many tasks --------------------------------------------------------------------------------------------------------


def test_ids_that_are_not_there_are_named_first(client, studio):
    request_id = studio.done()

    events = studio.events(f"/tasks/events?ids={UNKNOWN},{request_id},x")

    assert (events[0].type, events[0].document, events[0].last_id) == ("missing", {"missing": [UNKNOWN, "x"]}, "")
    assert events[-1].type == "completed"
    assert problem_type(client.get(f"/tasks/events?ids={UNKNOWN},x")) == "task-not-found"


@pytest.mark.parametrize("query", ["", "?ids=", "?ids=,"])
def test_a_stream_of_nothing_is_refused(client, query):
    assert problem_type(client.get(f"/tasks/events{query}")) == "invalid-parameter"


def test_a_place_in_another_list_of_tasks_is_refused(client, studio):
    one, other = studio.done(), studio.done()
    last = studio.events(f"/tasks/events?ids={one},{other}")[3].last_id

    answer = client.get(f"/tasks/events?ids={other},{one}", headers={"Last-Event-ID": last})

    assert problem_type(answer) == "invalid-cursor"
    assert "starting_after" in answer.json["detail"]


def test_where_lists_change_places_are_named(studio):
    one, other = studio.done(), studio.done()

    events = studio.events(f"/tasks/events?ids={one},{other}&starting_after={one}:6")

    assert next(e.document["seq"] for e in events if e.document["request_id"] == one) == 7
    assert next(e.document["seq"] for e in events if e.document["request_id"] == other) == 1


def test_many_tasks_of_which_the_client_has_everything_are_204(client, studio):
    ids = f"{studio.done()},{studio.done()}"
    last = studio.events(f"/tasks/events?ids={ids}")[-1].last_id

    assert client.get(f"/tasks/events?ids={ids}", headers={"Last-Event-ID": last}).status_code == 204


def test_many_running_tasks_are_told_of_as_it_happens_and_take_one_place(studio):
    one, other = studio.running("a"), studio.running("b")
    with opened(studio, f"/tasks/events?ids={one},{other}") as events:
        next(events)
        assert taken(studio) == 1
        studio.open("b")
        first_end = next(event for event in events if event.type == "completed")
        studio.open("a")
        second_end = next(event for event in events if event.type == "completed")
        assert list(events) == []

    assert first_end.document["request_id"] == other
    assert second_end.document["request_id"] == one


def test_someone_elses_tasks_are_missing_from_the_stream(client, studio):
    with_owners(studio)
    anns = studio.done(headers={"X-User": "ann"})
    bobs = studio.done(headers={"X-User": "bob"})

    events = studio.events(f"/tasks/events?ids={anns},{bobs}", headers={"X-User": "bob"})

    assert events[0].document == {"missing": [anns]}
    assert {event.document["request_id"] for event in events[1:]} == {bobs}


def test_a_token_for_each_task_opens_the_stream_of_all(client, studio):
    with_owners(studio)
    ids = [studio.done(headers={"X-User": "ann"}) for _ in range(2)]
    with studio.app.app_context():
        tokens = [studio.bgtasks.access_token(request_id) for request_id in ids]
    path = "/tasks/events?ids=" + ",".join(ids) + "&access_token="

    assert len({event.document["request_id"] for event in studio.events(path + ",".join(tokens))}) == 2
    assert problem_type(client.get(path + ",".join(tokens[::-1]))) == "access-denied"
    assert problem_type(client.get(path + tokens[0])) == "access-denied"


def test_every_clients_watchdog_lets_a_ping_be_missed():
    assert sse.PING_SECONDS * 2.5 <= 40  # the clients' own limit
