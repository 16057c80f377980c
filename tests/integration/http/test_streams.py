"""The event stream: what it says, how it resumes, when it ends, and how many there may be."""

import random
import threading
import time

import pytest

from flask_bgtasks import current_task, step
from flask_bgtasks.http.streaming import sse
from tests.support.http_app import PATIENCE, make, with_owners
from tests.support.sse_reader import read


@pytest.fixture
def studio_settings():
    return {"progress_interval": 0.01}


@pytest.fixture
def story(studio):
    """A task that leaves a history of some 150 events; its id."""

    @studio.bgtasks.task(name="story")
    def story():
        for chapter in range(6):
            with step(f"Chapter {chapter}"):
                for line in range(10):
                    with step(f"Line {line}"):
                        current_task.emit(f"{chapter}.{line} ")
        return {}

    with studio.app.app_context():
        return studio.finish(story.submit().request_id)


def first_events(studio, path, count, **headers):
    """The first so many events of a stream that the client then leaves."""
    answer = studio.app.test_client().get(path, headers=headers, buffered=False)
    assert answer.status_code == 200
    received = b""
    for chunk in answer.response:
        received += chunk
        if len([e for e in read(received) if e.type != "ping"]) >= count:
            break
    answer.close()
    return [e for e in read(received) if e.type != "ping"][:count]


def test_a_stream_says_everything_once_in_order_and_ends(studio, story):
    events = studio.events(f"/tasks/{story}/events")

    assert [int(e.last_id) for e in events] == list(range(1, len(events) + 1))
    assert (events[0].type, events[-1].type) == ("accepted", "completed")
    assert "".join(c for e in events if e.type == "output" for c in e.document["chunks"]) == "".join(
        f"{chapter}.{line} " for chapter in range(6) for line in range(10)
    )


def test_two_hundred_random_cuts_leave_the_same_sequence(studio, story):
    whole = studio.events(f"/tasks/{story}/events")
    random_ = random.Random(7)
    for _ in range(200):
        cut = random_.randrange(1, len(whole))
        before = first_events(studio, f"/tasks/{story}/events", cut)
        after = studio.events(f"/tasks/{story}/events", headers={"Last-Event-ID": before[-1].last_id})

        assert before + after == whole


def test_a_stream_that_is_cut_again_and_again_while_the_task_runs_misses_nothing(studio):
    go_on = threading.Event()

    @studio.bgtasks.task(name="live")
    def live():
        for n in range(300):
            current_task.emit(f"{n} ")
            if n % 10 == 0:
                go_on.wait(0.005)
        return {}

    with studio.app.app_context():
        request_id = live.submit().request_id
    random_, seen, last = random.Random(11), [], "0"
    while not seen or seen[-1].type != "completed":
        part = first_events(studio, f"/tasks/{request_id}/events", random_.randrange(1, 6), **{"Last-Event-ID": last})
        seen += part
        last = part[-1].last_id

    assert [int(e.last_id) for e in seen] == list(range(1, len(seen) + 1))
    assert seen == studio.events(f"/tasks/{request_id}/events")
    chunks = [c for e in seen if e.type == "output" for c in e.document["chunks"]]
    assert chunks == [f"{n} " for n in range(300)]


def test_a_reader_sees_a_change_while_the_task_still_runs(studio):
    request_id = studio.running()
    events = first_events(studio, f"/tasks/{request_id}/events", 3)

    assert [e.type for e in events] == ["accepted", "started", "step_started"]


def test_the_cursor_may_stand_in_the_address(studio, story):
    whole = studio.events(f"/tasks/{story}/events")

    assert studio.events(f"/tasks/{story}/events?starting_after=5") == whole[5:]


def test_headers_keep_proxies_from_holding_a_stream_back(studio, story):
    answer = studio.app.test_client().get(f"/tasks/{story}/events")

    assert answer.content_type.startswith("text/event-stream")
    assert "no-transform" in answer.headers["Cache-Control"]
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.data.startswith(b"retry: ")


def test_a_reconnect_with_nothing_left_is_told_to_stop(studio, story):
    newest = studio.events(f"/tasks/{story}/events")[-1].last_id
    answer = studio.app.test_client().get(f"/tasks/{story}/events", headers={"Last-Event-ID": newest})

    assert answer.status_code == 204


@pytest.mark.parametrize("cursor", ["-1", "x", "1.5", "٣", "9" * 40])
@pytest.mark.parametrize("where", ["header", "address"])
def test_a_cursor_that_no_stream_gave_is_refused(studio, story, cursor, where):
    given = (
        {"headers": {"Last-Event-ID": cursor}} if where == "header" else {"query_string": {"starting_after": cursor}}
    )
    answer = studio.app.test_client().get(f"/tasks/{story}/events", **given)

    assert (answer.status_code, answer.content_type) == (400, "application/problem+json")


def test_a_cursor_from_the_future_gets_the_task_as_it_stands(studio, story):
    events = studio.events(f"/tasks/{story}/events?starting_after=100000")

    assert events[0].type == "snapshot"
    assert events[0].document["status"] == "completed"


def test_a_cursor_older_than_the_kept_history_gets_a_snapshot_then_the_rest(tmp_path):
    studio = make("memory://", tmp_path, max_events=100, progress_interval=0.01)

    @studio.bgtasks.task(name="long")
    def long():
        for n in range(400):
            with step(f"Step {n}"):
                pass
        return {}

    with studio.app.app_context():
        request_id = studio.finish(long.submit().request_id)
    events = studio.events(f"/tasks/{request_id}/events?starting_after=3")

    assert events[0].type == "snapshot"
    numbers = [int(e.last_id) for e in events]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == studio.app.test_client().get(f"/tasks/{request_id}").json["seq"]
    studio.state.close(grace=PATIENCE)


def test_pings_are_named_events_without_an_id(studio, monkeypatch):
    monkeypatch.setattr(sse, "PING_SECONDS", 0.02)
    request_id = studio.running()
    answer = studio.app.test_client().get(f"/tasks/{request_id}/events", buffered=False)
    received = b""
    for chunk in answer.response:
        received += chunk
        if received.count(b"event: ping") >= 2:
            break
    answer.close()
    block = received[received.index(b"event: ping") :].split(b"\n\n")[0]

    assert block == b"event: ping\ndata: {}"


def test_a_stream_lives_for_its_time_and_the_client_goes_on_with_the_next(tmp_path):
    studio = make("memory://", tmp_path, stream_seconds=1)
    request_id = studio.running()
    began = time.monotonic()
    events = studio.events(f"/tasks/{request_id}/events")

    assert events[-1].type != "completed"
    assert time.monotonic() - began < PATIENCE
    studio.open("gate")
    studio.finish(request_id)
    rest = studio.events(f"/tasks/{request_id}/events", headers={"Last-Event-ID": events[-1].last_id})
    assert rest[-1].type == "completed"
    studio.state.close(grace=PATIENCE)


def test_over_the_limit_a_stream_is_refused_and_its_end_gives_the_place_back(tmp_path):
    studio = make("memory://", tmp_path, max_streams=1)
    request_id, client = studio.running(), studio.app.test_client()
    first = client.get(f"/tasks/{request_id}/events", buffered=False)
    next(iter(first.response))
    refused = studio.app.test_client().get(f"/tasks/{request_id}/events")

    assert (refused.status_code, refused.content_type) == (503, "application/problem+json")
    assert int(refused.headers["Retry-After"]) >= 1
    first.close()
    assert first_events(studio, f"/tasks/{request_id}/events", 1)
    studio.open("gate")
    studio.finish(request_id)
    studio.state.close(grace=PATIENCE)


def test_a_stream_that_was_never_read_gives_its_place_back(tmp_path):
    studio = make("memory://", tmp_path, max_streams=1)
    request_id = studio.running()
    for _ in range(3):
        answer = studio.app.test_client().get(f"/tasks/{request_id}/events", buffered=False)
        assert answer.status_code == 200
        answer.close()
    studio.open("gate")
    studio.finish(request_id)
    studio.state.close(grace=PATIENCE)


def test_the_same_events_are_a_page_of_json(studio, story):
    whole = studio.events(f"/tasks/{story}/events")
    page = studio.app.test_client().get(f"/tasks/{story}/events", headers={"Accept": "application/json"}).json

    assert [e["seq"] for e in page["events"]] == [int(e.last_id) for e in whole]


def test_one_stream_tells_of_many_tasks_and_resumes_all_of_them(studio):
    ids = [studio.done() for _ in range(4)]
    path = "/tasks/events?ids=" + ",".join(ids)
    whole = studio.events(path)
    for request_id in ids:
        mine = [e.document["seq"] for e in whole if e.document["request_id"] == request_id]
        assert mine == list(range(1, len(mine) + 1))
    for cut in range(1, len(whole)):
        before = first_events(studio, path, cut)
        after = studio.events(path, headers={"Last-Event-ID": before[-1].last_id})
        seen = [(e.document["request_id"], e.document["seq"]) for e in before + after]

        assert sorted(seen) == sorted((e.document["request_id"], e.document["seq"]) for e in whole)


def test_another_owners_stream_is_not_there(tmp_path):
    studio = with_owners(make("memory://", tmp_path))
    answer = studio.app.test_client().post("/process", json={"input_text": "x"}, headers={"X-User": "ada"})
    request_id = studio.finish(answer.json["request_id"])
    path, client = f"/tasks/{request_id}/events", studio.app.test_client()

    assert client.get(path, headers={"X-User": "eve"}).status_code == 404
    assert client.get(path).status_code == 404
    assert client.get(path, headers={"X-User": "ada"}).status_code == 200
    token = answer.json["access_token"]
    assert client.get(path, query_string={"access_token": token}).status_code == 200
    assert client.get(path, query_string={"access_token": token + "x"}).status_code == 401
    other = client.post("/process", json={"input_text": "x"}, headers={"X-User": "ada"}).json["request_id"]
    assert client.get(f"/tasks/{other}/events", query_string={"access_token": token}).status_code == 401
    studio.state.close(grace=PATIENCE)
