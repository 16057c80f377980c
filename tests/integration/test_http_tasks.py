"""Reading a task and acting upon it: status, progress, result, cancel, retry, seen, delete; and bad requests."""

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from flask_bgtasks.core.model import Status
from flask_bgtasks.http.problems import BASE, TYPES
from flask_bgtasks.http.responses import representation
from tests.support.http_app import PATIENCE, make, with_owners

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(params=["memory://", "sqlite:///tasks.sqlite3"])
def studio(request, tmp_path):
    made = make(request.param, tmp_path)
    yield made
    for gate in list(made.reached):
        made.open(gate)
    made.state.close(grace=PATIENCE)


@pytest.fixture
def client(studio):
    return studio.app.test_client()


@pytest.fixture(scope="module", params=["memory://", "sqlite:///tasks.sqlite3"])
def reader(request, tmp_path_factory):
    """A client of an app that its tests leave as it is: one for all of them."""
    made = make(request.param, tmp_path_factory.mktemp("reader"))
    yield made.app.test_client()
    made.state.close(grace=PATIENCE)


def problem(answer, name):
    """Assert that this is that problem; its document."""
    assert answer.content_type == "application/problem+json", answer.text
    document = json.loads(answer.data)
    assert document["type"] == BASE + name
    assert document["status"] == answer.status_code == TYPES[name].status
    assert document["title"] == TYPES[name].title
    return document


# -- status ------------------------------------------------------------------------------------------------------------


def test_a_finished_task_has_its_result_in_its_status(client, studio):
    request_id = studio.done()

    answer = client.get(f"/tasks/{request_id}")

    assert answer.status_code == 200
    assert answer.json["status"] == "completed"
    assert answer.json["result_data"] == {"blocks": ["x"]}
    assert answer.json["result_omitted"] is False
    assert answer.json["done"] is True
    assert answer.json["poll_after_ms"] is None
    assert answer.json["progress"]["progress_percentage"] == 100
    assert answer.json["created_at"].endswith("Z")
    assert "Retry-After" not in answer.headers


def test_an_unfinished_task_says_when_to_ask_again(client, studio):
    request_id = studio.running()

    answer = client.get(f"/tasks/{request_id}")

    assert answer.json["status"] == "processing"
    assert answer.json["done"] is False
    assert answer.json["poll_after_ms"] > 0
    assert int(answer.headers["Retry-After"]) * 1000 >= answer.json["poll_after_ms"]


def test_a_failed_task_is_200_too(client, studio):
    answer = client.get(f"/tasks/{studio.done('/break')}")

    assert answer.status_code == 200
    assert (answer.json["status"], answer.json["result_data"]) == ("failed", None)
    assert answer.json["error_message"]
    assert "Traceback" not in answer.text


def test_a_result_that_is_not_json_is_left_to_its_link(client, studio):
    answer = client.get(f"/tasks/{studio.done('/odd')}")

    assert (answer.json["result_data"], answer.json["result_omitted"]) == (None, False)


def test_a_large_result_is_left_to_its_link_and_that_is_said(client, studio, monkeypatch):
    monkeypatch.setattr(representation, "INLINE_RESULT_BYTES", 5)

    answer = client.get(f"/tasks/{studio.done()}")

    assert (answer.json["result_data"], answer.json["result_omitted"]) == (None, True)
    assert client.get(answer.json["links"]["result"]).json == {"blocks": ["x"]}


def test_the_etag_is_the_number_of_the_newest_event(client, studio):
    answer = client.get(f"/tasks/{studio.done()}")

    assert answer.headers["ETag"] == f'"{answer.json["seq"]}"'


@pytest.mark.parametrize("template", ["{}", "W/{}", '"x", {}', "*", "{}, W/{}"])
def test_what_the_client_has_is_not_sent_again(client, studio, template):
    path = f"/tasks/{studio.done()}"
    etag = client.get(path).headers["ETag"]

    answer = client.get(path, headers={"If-None-Match": template.format(etag, etag)})

    assert (answer.status_code, answer.data) == (304, b"")
    assert answer.headers["ETag"] == etag


@pytest.mark.parametrize("etag", ['"0"', '"x"', "", "@@", '"1'])
def test_another_version_is_sent(client, studio, etag):
    assert client.get(f"/tasks/{studio.done()}", headers={"If-None-Match": etag}).status_code == 200


def test_one_version_has_one_representation(client, studio):
    path = f"/tasks/{studio.running()}"
    versions = {}
    for _ in range(20):
        answer = client.get(path)
        versions.setdefault(answer.headers["ETag"], set()).add(answer.data)

    studio.open("gate")
    studio.finish(path.rpartition("/")[2])
    while True:  # who sees the end before it is announced may poll an answer of 2 ms ago: see Answers
        answer = client.get(path)
        versions.setdefault(answer.headers["ETag"], set()).add(answer.data)
        if answer.json["status"] == "completed":
            break

    assert all(len(bodies) == 1 for bodies in versions.values())
    assert len(versions) >= 2


def test_a_poll_sees_at_once_what_this_process_wrote(client, studio):
    request_id = studio.running()
    before = client.get(f"/tasks/{request_id}").json["seq"]

    client.post(f"/tasks/{request_id}/cancel")

    assert client.get(f"/tasks/{request_id}").json["seq"] > before
    assert client.get(f"/tasks/{request_id}").json["cancel_requested_at"] is not None


def test_a_poll_sees_what_another_process_wrote(tmp_path):
    here, there = make("sqlite:///tasks.sqlite3", tmp_path), make("sqlite:///tasks.sqlite3", tmp_path)
    request_id = here.running()
    path = f"/tasks/{request_id}"
    assert there.app.test_client().get(path).json["status"] == "processing"

    here.open("gate")
    here.finish(request_id)

    answer = there.app.test_client().get(path + "?wait=20")
    assert answer.json["status"] == "completed"
    assert answer.data == here.app.test_client().get(path).data
    here.state.close(grace=PATIENCE)
    there.state.close(grace=PATIENCE)


def test_many_more_tasks_than_the_cache_holds_are_answered(tmp_path):
    from flask_bgtasks.http.responses.status_cache import StatusCache

    studio = make("memory://", tmp_path)
    ids = [studio.done() for _ in range(8)]
    answers = StatusCache(studio.state.store, "/tasks", max_entries=3)

    seen = [answers.get(request_id, "") for _ in range(3) for request_id in ids]

    assert [entry.task.request_id for entry in seen] == ids * 3
    assert len(answers._entries) <= 3
    small = StatusCache(studio.state.store, "/tasks", max_bytes=3000)
    assert all(small.whole(small.get(request_id, "")) for request_id in ids)
    assert sum(entry.size for entry in small._entries.values()) <= 3000
    studio.state.close(grace=PATIENCE)


def test_progress_is_the_published_document(client, studio):
    request_id = studio.running()

    answer = client.get(f"/tasks/{request_id}/progress")

    assert answer.json["request_id"] == request_id
    assert {"step", "step_number", "total_steps", "details", "progress_percentage", "status"} <= answer.json.keys()
    assert "Retry-After" in answer.headers
    again = client.get(f"/tasks/{request_id}/progress", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code in (200, 304)


# -- long polls --------------------------------------------------------------------------------------------------------


def test_a_long_poll_is_answered_with_the_next_change(client, studio):
    request_id = studio.running()
    etag = client.get(f"/tasks/{request_id}").headers["ETag"]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(
            studio.app.test_client().get, f"/tasks/{request_id}?wait=20", headers={"If-None-Match": etag}
        )
        client.post(f"/tasks/{request_id}/cancel")

        changed = answer.result(PATIENCE)

    assert changed.status_code == 200
    assert changed.headers["ETag"] != etag
    assert changed.json["done"] is False


def test_a_long_poll_without_a_change_is_304(client, studio):
    request_id = studio.running()
    etag = _settled(studio, request_id)

    answer = client.get(f"/tasks/{request_id}", headers={"If-None-Match": etag, "Prefer": "wait=0.05"})

    assert answer.status_code == 304
    assert answer.headers["Preference-Applied"] == "wait=0.05"


def _settled(studio, request_id):
    """The version of a task that waits at a gate, once everything that it reported is stored."""
    with studio.state.watcher.follow([request_id]) as following:
        while following.wait(3 * studio.state.settings.progress_interval):
            pass
    return f'"{studio.state.store.get(request_id).seq}"'


def test_a_long_poll_of_an_older_version_is_answered_at_once(client, studio):
    request_id = studio.running()

    answer = client.get(f"/tasks/{request_id}?wait=20", headers={"If-None-Match": '"1"'})

    assert answer.status_code == 200


def test_a_wait_without_a_version_is_for_the_end(client, studio):
    request_id = studio.running()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(studio.app.test_client().get, f"/tasks/{request_id}?wait=20")
        studio.open("gate")

        assert answer.result(PATIENCE).json["status"] == "completed"


def test_a_wait_for_the_end_that_does_not_come_tells_how_it_stands(client, studio):
    answer = client.get(f"/tasks/{studio.running()}?wait=0.05")

    assert (answer.status_code, answer.json["status"]) == (200, "processing")


def test_a_long_poll_without_a_free_place_is_answered_at_once(tmp_path):
    studio = make("memory://", tmp_path, max_streams=0)
    request_id = studio.running()

    answer = studio.app.test_client().get(f"/tasks/{request_id}", headers={"Prefer": "wait=20"})

    assert (answer.status_code, answer.json["status"]) == (200, "processing")
    assert "Preference-Applied" not in answer.headers
    studio.open("gate")
    studio.state.close(grace=PATIENCE)


def test_a_wait_of_any_length_is_cut_to_what_is_granted(tmp_path):
    studio = make("memory://", tmp_path, max_wait=0.05)
    request_id = studio.running()

    assert studio.app.test_client().get(f"/tasks/{request_id}?wait=1e9").status_code == 200
    studio.open("gate")
    studio.state.close(grace=PATIENCE)


@pytest.mark.parametrize("wait", ["abc", "-1", "nan", "inf", "", "1;2", "1,5"])
def test_a_wait_that_is_no_time_is_refused(client, studio, wait):
    answer = client.get(f"/tasks/{studio.done()}", query_string={"wait": wait})

    document = problem(answer, "invalid-parameter")
    assert document["parameter"] == "wait"
    assert "number of seconds" in document["detail"]


def test_all_places_are_given_back(client, studio):
    from flask_bgtasks.http.context import parts_of

    request_id = studio.running()
    client.get(f"/tasks/{request_id}?wait=0.01")
    client.post("/wait", json={"gate": "gate"}, headers={"Prefer": "wait=0.01"})
    client.get(f"/tasks/{request_id}/result?wait=0.01")

    assert parts_of(studio.app).slots.taken == 0


# -- result ------------------------------------------------------------------------------------------------------------


def test_the_result_is_the_views_answer_byte_for_byte(client, studio):
    answer = client.get(f"/tasks/{studio.done('/odd')}/result")

    assert (answer.status_code, answer.data) == (299, b"\x00\xff\r\n")
    assert answer.headers["Content-Type"] == "image/x-odd; q=1"


def test_a_result_that_is_not_there_yet_is_202(client, studio):
    request_id = studio.running()

    answer = client.get(f"/tasks/{request_id}/result")

    assert answer.status_code == 202
    assert (answer.json["request_id"], answer.json["status"]) == (request_id, "processing")
    assert answer.headers["Location"] == f"/tasks/{request_id}"
    assert int(answer.headers["Retry-After"]) > 0


def test_a_result_can_be_waited_for(client, studio):
    request_id = studio.running()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(studio.app.test_client().get, f"/tasks/{request_id}/result?wait=20")
        studio.open("gate")

        assert answer.result(PATIENCE).json == {"gate": "gate"}


def test_what_the_view_aborted_with_is_the_result(client, studio):
    answer = client.get(f"/tasks/{studio.done('/refuse/422')}/result")

    assert answer.status_code == 422
    assert "because of that" in answer.text


def test_a_task_that_failed_without_an_answer_is_a_problem(client, studio):
    @studio.bgtasks.task
    def draw():
        raise RuntimeError("no ink")

    with studio.app.app_context():
        request_id = studio.finish(draw.submit().request_id)

    assert "no ink" in problem(client.get(f"/tasks/{request_id}/result"), "task-failed")["detail"]


def test_a_functions_value_is_the_result(client, studio):
    @studio.bgtasks.task
    def add(a, b):
        return a + b

    with studio.app.app_context():
        request_id = studio.finish(add.submit(1, 2).request_id)

    assert client.get(f"/tasks/{request_id}/result").json == 3
    assert client.get(f"/tasks/{request_id}").json["result_data"] == 3


def test_tracked_code_without_a_result_is_204(client, studio):
    with studio.app.app_context(), studio.bgtasks.track_request("by-hand") as task:
        request_id = task.request_id

    assert client.get(f"/tasks/{request_id}/result").status_code == 204


def test_the_result_of_a_cancelled_task_is_409(client, studio):
    request_id = studio.running()
    client.post(f"/tasks/{request_id}/cancel")
    studio.open("gate")
    studio.finish(request_id)

    problem(client.get(f"/tasks/{request_id}/result"), "task-cancelled")


# -- cancel, retry, seen, delete ---------------------------------------------------------------------------------------


def test_a_running_task_stops_at_its_next_report(client, studio):
    request_id = studio.running()

    answer = client.post(f"/tasks/{request_id}/cancel")

    assert (answer.status_code, answer.json["status"]) == (202, "processing")
    studio.open("gate")
    studio.finish(request_id)
    assert client.get(f"/tasks/{request_id}").json["status"] == "cancelled"


def test_a_task_that_had_not_begun_is_cancelled_at_once(tmp_path):
    studio = make("memory://", tmp_path, workers=1)
    client = studio.app.test_client()
    studio.running("a")
    waiting = studio.submit("/wait", json={"gate": "b"})

    answer = client.post(f"/tasks/{waiting}/cancel")

    assert (answer.status_code, answer.json["status"]) == (200, "cancelled")
    studio.open("a")
    studio.state.close(grace=PATIENCE)
    assert not studio.reached["b"].is_set()


def test_cancelling_a_finished_task_changes_nothing(client, studio):
    request_id = studio.done()

    answer = client.post(f"/tasks/{request_id}/cancel")

    assert (answer.status_code, answer.json["status"]) == (200, "completed")


def test_a_failed_task_is_run_again(client, studio):
    request_id = studio.done("/break")

    answer = client.post(f"/tasks/{request_id}/retry")

    assert (answer.status_code, answer.json["status"]) == (202, "started")
    assert answer.headers["Location"] == f"/tasks/{request_id}"
    studio.finish(request_id)
    assert client.get(f"/tasks/{request_id}").json["attempt"] == 2


def test_a_completed_task_is_not_run_again(client, studio):
    document = problem(client.post(f"/tasks/{studio.done()}/retry"), "transition-refused")

    assert document["task_status"] == "completed"


@pytest.mark.parametrize("via", ["poll", "stream", "push", "firestore"])
def test_a_client_says_that_it_showed_the_outcome(client, studio, via):
    request_id = studio.done()
    etag = client.get(f"/tasks/{request_id}").headers["ETag"]

    answer = client.post(f"/tasks/{request_id}/seen", json={"via": via})

    assert (answer.status_code, answer.data) == (204, b"")
    assert studio.state.store.get(request_id).seen_via == via
    assert client.get(f"/tasks/{request_id}").headers["ETag"] == etag


def test_a_beacon_without_a_json_type_is_understood(client, studio):
    request_id = studio.done()

    assert client.post(f"/tasks/{request_id}/seen", data='{"via": "stream"}').status_code == 204
    assert client.post(f"/tasks/{request_id}/seen").status_code == 204
    assert studio.state.store.get(request_id).seen_via == "stream"


@pytest.mark.parametrize("body", ['{"via": "x"}', "{}", "[]", "x", '{"via": 1}', "null", '{"via": ["poll"]}'])
def test_a_wrong_word_for_where_it_was_seen_is_refused(client, studio, body):
    answer = client.post(f"/tasks/{studio.done()}/seen", data=body, content_type="application/json")

    assert "firestore" in problem(answer, "invalid-body")["detail"]


def test_what_has_no_outcome_yet_cannot_have_been_seen(client, studio):
    problem(client.post(f"/tasks/{studio.running()}/seen", json={"via": "poll"}), "transition-refused")


def test_a_finished_task_can_be_erased(client, studio):
    request_id = studio.done()
    assert client.get(f"/tasks/{request_id}").status_code == 200

    assert client.delete(f"/tasks/{request_id}").status_code == 204

    for path in ("", "/progress", "/events", "/result"):
        problem(client.get(f"/tasks/{request_id}{path}"), "task-not-found")
    problem(client.delete(f"/tasks/{request_id}"), "task-not-found")


def test_a_running_task_is_not_erased(client, studio):
    problem(client.delete(f"/tasks/{studio.running()}"), "transition-refused")


# -- what is not there -------------------------------------------------------------------------------------------------

CALLS = [
    ("GET", ""),
    ("DELETE", ""),
    ("GET", "/progress"),
    ("GET", "/events"),
    ("GET", "/result"),
    ("POST", "/cancel"),
    ("POST", "/retry"),
    ("POST", "/seen"),
    ("POST", "/mute"),
    ("DELETE", "/mute"),
    ("POST", "/live-activity"),
    ("DELETE", "/live-activity"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize(
    "request_id", [UNKNOWN, "x", "1", UNKNOWN.upper().replace("0", "A"), "..%00", "%F0%9F%99%82", "a" * 500]
)
def test_an_id_that_never_was_is_404(reader, method, path, request_id):
    problem(reader.open(f"/tasks/{request_id}{path}", method=method), "task-not-found")


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_someone_elses_task_is_404_like_one_that_never_was(client, studio, method, path):
    with_owners(studio)
    request_id = studio.done(headers={"X-User": "ann"})

    for headers in ({}, {"X-User": "bob"}):
        answer = client.open(f"/tasks/{request_id}{path}", method=method, headers=headers)
        never = client.open(f"/tasks/{UNKNOWN}{path}", method=method, headers=headers)
        problem(answer, "task-not-found")
        assert answer.text.replace(request_id, UNKNOWN) == never.text
    assert client.get(f"/tasks/{request_id}", headers={"X-User": "ann"}).status_code == 200


@pytest.mark.parametrize(("method", "path"), [call for call in CALLS if call != ("DELETE", "")])
def test_a_task_whose_time_is_over_is_410(client, studio, method, path):
    request_id = studio.done()
    assert client.get(f"/tasks/{request_id}").status_code == 200  # so that its answer lies ready
    studio.advance(timedelta(days=7, seconds=1))

    document = problem(client.open(f"/tasks/{request_id}{path}", method=method), "task-expired")

    assert document["request_id"] == request_id


@pytest.mark.parametrize("query", ["", "?wait=0.1"])
@pytest.mark.parametrize(("method", "path"), CALLS)
def test_someone_elses_task_whose_time_is_over_is_404_too(client, studio, method, path, query):
    """410 would tell that it was there."""
    with_owners(studio)
    request_id = studio.done(headers={"X-User": "ann"})
    studio.advance(timedelta(days=7, seconds=1))

    for headers in ({}, {"X-User": "bob"}):
        answer = client.open(f"/tasks/{request_id}{path}{query}", method=method, headers=headers)
        never = client.open(f"/tasks/{UNKNOWN}{path}{query}", method=method, headers=headers)
        problem(answer, "task-not-found")
        assert answer.text.replace(request_id, UNKNOWN) == never.text
    problem(client.get(f"/tasks/{request_id}", headers={"X-User": "ann"}), "task-expired")


def test_an_owner_may_delete_a_task_whose_time_is_over(client, studio):
    with_owners(studio)
    request_id = studio.done(headers={"X-User": "ann"})
    studio.advance(timedelta(days=7, seconds=1))

    problem(client.delete(f"/tasks/{request_id}", headers={"X-User": "bob"}), "task-not-found")
    assert client.delete(f"/tasks/{request_id}", headers={"X-User": "ann"}).status_code == 204
    problem(client.get(f"/tasks/{request_id}", headers={"X-User": "ann"}), "task-not-found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "", "GET, HEAD, OPTIONS"),
        ("PUT", f"/{UNKNOWN}", "GET, HEAD, DELETE, OPTIONS"),
        ("GET", f"/{UNKNOWN}/cancel", "POST, OPTIONS"),
        ("HEAD", f"/{UNKNOWN}/seen", "POST, OPTIONS"),
        ("PATCH", f"/{UNKNOWN}/result", "GET, HEAD, OPTIONS"),
        ("DELETE", "/stats", "GET, HEAD, OPTIONS"),
        ("POST", "/events", "GET, HEAD, OPTIONS"),
        ("GET", f"/{UNKNOWN}/mute", "POST, DELETE, OPTIONS"),
        ("PUT", f"/{UNKNOWN}/live-activity", "POST, DELETE, OPTIONS"),
    ],
)
def test_a_method_that_is_not_for_this_address_is_405(client, method, path, allow):
    answer = client.open(f"/tasks{path}", method=method)

    assert answer.status_code == 405
    assert answer.headers["Allow"] == allow
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize(
    "path", ["", "/stats", "/health", "/events", "/devices", "/preferences", f"/{UNKNOWN}", f"/{UNKNOWN}/seen"]
)
def test_options_lists_what_is_allowed(client, path):
    answer = client.options(f"/tasks{path}")

    assert answer.status_code == 200
    assert "OPTIONS" in answer.headers["Allow"]


@pytest.mark.parametrize("path", ["", "/progress", "/result", "/events"])
def test_head_is_get_without_the_body(client, studio, path):
    request_id = studio.done()

    head, get = client.head(f"/tasks/{request_id}{path}"), client.get(f"/tasks/{request_id}{path}")

    assert (head.status_code, head.data) == (get.status_code, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


# -- access tokens -----------------------------------------------------------------------------------------------------


@pytest.fixture
def anns(studio):
    """Ann's task, and what it is read with by who sends no headers."""
    with_owners(studio)
    request_id = studio.done(headers={"X-User": "ann"})
    with studio.app.app_context():
        return request_id, {"access_token": studio.bgtasks.access_token(request_id)}


@pytest.mark.parametrize("path", ["", "/progress", "/events", "/result"])
def test_a_token_reads_its_task(client, anns, path):
    request_id, token = anns

    assert client.get(f"/tasks/{request_id}{path}", query_string=token).status_code == 200


@pytest.mark.parametrize(("method", "path"), [call for call in CALLS if call[0] != "GET"])
def test_a_token_changes_nothing(client, anns, method, path):
    request_id, token = anns

    problem(client.open(f"/tasks/{request_id}{path}", method=method, query_string=token), "task-not-found")


@pytest.mark.parametrize("path", ["", "/progress", "/events", "/result"])
def test_a_token_reads_no_other_task(client, studio, anns, path):
    other = studio.done(headers={"X-User": "bob"})

    for token in (anns[1], {"access_token": "x"}, {"access_token": anns[1]["access_token"] + "x"}):
        answer = client.get(f"/tasks/{other}{path}", query_string=token)
        problem(answer, "access-denied")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert token["access_token"] not in answer.text or token["access_token"] == "x"


def test_a_token_is_good_for_a_while(client, studio, anns, monkeypatch):
    import itsdangerous.timed

    request_id, token = anns
    later = itsdangerous.timed.time.time() + studio.state.settings.access_token_seconds + 2
    monkeypatch.setattr(itsdangerous.timed.time, "time", lambda: later)

    problem(client.get(f"/tasks/{request_id}", query_string=token), "access-denied")


def test_who_reads_by_a_token_gets_no_fresh_one(client, studio):
    with_owners(studio)
    answer = client.post("/wait", json={"gate": "g"}, headers={"X-User": "ann"})
    path = answer.json["links"]["result"]

    by_token = client.get(path, query_string={"access_token": answer.json["access_token"]})
    by_owner = client.get(path, headers={"X-User": "ann"})

    assert (by_token.status_code, "access_token" in by_token.json) == (202, False)
    assert (by_owner.status_code, "access_token" in by_owner.json) == (202, True)
    studio.open("g")


# -- many at once ------------------------------------------------------------------------------------------------------


def test_a_client_that_wakes_asks_for_all_its_tasks_in_one_call(client, studio):
    done, running = studio.done(), studio.running()

    answer = client.get(f"/tasks?ids={running},{UNKNOWN},{done},x")

    assert [task["request_id"] for task in answer.json["tasks"]] == [running, done]
    assert [task["done"] for task in answer.json["tasks"]] == [False, True]
    assert answer.json["missing"] == [UNKNOWN, "x"]
    assert "result_data" not in answer.json["tasks"][1]
    etag = answer.headers["ETag"]
    studio.open("gate")
    studio.finish(running)
    assert client.get(f"/tasks?ids={running}", headers={"If-None-Match": etag}).status_code == 200


def test_a_list_that_is_as_it_was_is_304(client, studio):
    path = f"/tasks?ids={studio.done()}"

    answer = client.get(path, headers={"If-None-Match": client.get(path).headers["ETag"]})

    assert answer.status_code == 304


def test_no_ids_are_no_tasks(client):
    assert client.get("/tasks?ids=").json == {"tasks": [], "missing": [], "cursor": None, "anonymous": False}


def test_a_list_says_that_nobody_is_logged_in_where_somebody_should_be(studio):
    with_owners(studio)
    client, request_id = studio.app.test_client(), studio.done()

    path = f"/tasks?ids={request_id}"

    assert client.get(path).json["anonymous"] is True
    assert client.get(path, headers={"X-User": "ann"}).json["anonymous"] is False


def test_a_hundred_ids_are_answered_and_one_more_is_refused(client):
    ids = [str(uuid.uuid4()) for _ in range(101)]

    assert len(client.get("/tasks?ids=" + ",".join(ids[:100])).json["missing"]) == 100
    assert problem(client.get("/tasks?ids=" + ",".join(ids)), "invalid-parameter")["parameter"] == "ids"


def test_someone_elses_ids_are_missing(client, studio):
    with_owners(studio)
    request_id = studio.done(headers={"X-User": "ann"})

    assert client.get(f"/tasks?ids={request_id}", headers={"X-User": "bob"}).json["missing"] == [request_id]
    assert client.get(f"/tasks?ids={request_id}", headers={"X-User": "ann"}).json["missing"] == []


def test_ids_whose_time_is_over_are_missing(client, studio):
    request_id = studio.done()
    assert client.get(f"/tasks?ids={request_id}").json["missing"] == []
    studio.advance(timedelta(days=7, seconds=1))

    assert client.get(f"/tasks?ids={request_id}").json["missing"] == [request_id]


def test_an_owner_lists_what_they_have_missed(client, studio):
    with_owners(studio)
    ann = {"X-User": "ann"}
    seen, unseen, failed = (studio.done(path, headers=ann) for path in ("/process", "/process", "/break"))
    studio.done(headers={"X-User": "bob"})
    client.post(f"/tasks/{seen}/seen", json={"via": "poll"}, headers=ann)

    def ids(**query):
        return [t["request_id"] for t in client.get("/tasks", query_string=query, headers=ann).json["tasks"]]

    assert ids() == [failed, unseen, seen]
    assert ids(seen="false") == [failed, unseen]
    assert ids(status="failed") == [failed]
    assert ids(status="failed,completed", seen="true") == [seen]
    assert ids(name="process") == [unseen, seen]
    assert ids(ids=f"{seen},{failed}", status="failed") == [failed]
    assert ids(ids=f"{seen},{failed}", seen="false") == [failed]
    client.post(f"/tasks/{failed}/seen", json={"via": "poll"}, headers=ann)
    assert ids(ids=f"{seen},{failed}", seen="false") == []


def test_a_list_from_the_store_says_what_was_seen_and_what_is_muted(client, studio):
    with_owners(studio)
    ann = {"X-User": "ann"}
    request_id = studio.done(headers={**ann, "Idempotency-Key": "k"})
    lists = ["/tasks", "/tasks?idempotency_key=k", f"/tasks?ids={request_id}&seen="]

    def shown(path):
        (task,) = client.get(path, headers=ann).json["tasks"]
        return task["seen_at"] is not None, task["seen_via"], task["muted"]

    assert [shown(path + "false" * path.endswith("seen=")) for path in lists] == [(False, None, False)] * 3
    etag = client.get("/tasks", headers=ann).headers["ETag"]

    client.post(f"/tasks/{request_id}/seen", json={"via": "push"}, headers=ann)
    client.post(f"/tasks/{request_id}/mute", headers=ann)

    assert [shown(path + "true" * path.endswith("seen=")) for path in lists] == [(True, "push", True)] * 3
    assert client.get("/tasks", headers={**ann, "If-None-Match": etag}).status_code == 200


def test_what_is_answered_from_memory_does_not_speak_of_what_memory_cannot_know(client, studio):
    request_id = studio.done()
    polls = [f"/tasks/{request_id}", f"/tasks?ids={request_id}"]
    before = [client.get(path).data for path in polls]

    client.post(f"/tasks/{request_id}/seen")

    assert [client.get(path).data for path in polls] == before
    assert all(b"seen_at" not in body for body in before)


def test_pages_follow_one_another(client, studio):
    with_owners(studio)
    ann = {"X-User": "ann"}
    ids = [studio.done(headers=ann) for _ in range(5)]

    found, cursor = [], None
    while True:
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = client.get("/tasks", query_string=query, headers=ann).json
        found += [task["request_id"] for task in page["tasks"]]
        cursor = page["cursor"]
        if cursor is None:
            break

    assert found == ids[::-1]


def test_without_an_owner_nothing_is_listed(client, studio):
    studio.done()

    problem(client.get("/tasks"), "listing-refused")
    with_owners(studio)
    problem(client.get("/tasks?status=failed"), "listing-refused")


def test_a_key_finds_the_owners_task_and_no_one_elses(client, studio):
    with_owners(studio)
    headers = {"Idempotency-Key": "k1"}
    request_id = studio.done(headers={**headers, "X-User": "ann"})
    other = studio.done(headers={"X-User": "ann"})

    def found(**query):
        owner = {"X-User": query.pop("by")}
        answer = client.get("/tasks", query_string={"idempotency_key": "k1", **query}, headers=owner)
        return [task["request_id"] for task in answer.json["tasks"]]

    assert found(by="ann") == [request_id]
    assert found(by="ann", name="process") == [request_id]
    assert found(by="ann", name="wait") == []
    assert found(by="ann", status="failed") == []
    assert found(by="ann", ids=f"{request_id},{other}") == [request_id]
    assert found(by="bob") == []


@pytest.mark.parametrize("key", ["1", "order-17", "k" * 15])
def test_a_key_that_can_be_guessed_finds_nothing_without_an_owner(client, studio, key):
    studio.done(headers={"Idempotency-Key": key})

    for query in ({}, {"name": "process"}, {"status": "completed"}):
        answer = client.get("/tasks", query_string={"idempotency_key": key, **query})
        assert "16 characters" in problem(answer, "listing-refused")["detail"]


def test_a_key_that_cannot_be_guessed_finds_its_task_without_an_owner(client, studio):
    key = str(uuid.uuid4())
    request_id = studio.done(headers={"Idempotency-Key": key})

    found = client.get("/tasks", query_string={"idempotency_key": key}).json["tasks"]

    assert [task["request_id"] for task in found] == [request_id]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("status=x", "status"),
        ("status=", "status"),
        ("status=failed,", "status"),
        ("seen=yes", "seen"),
        ("seen=", "seen"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=1.5", "limit"),
        ("limit=%D9%A1", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=%F0%9F%99%82", "cursor"),
    ],
)
def test_a_wrong_parameter_is_named(client, studio, query, parameter):
    with_owners(studio)

    document = problem(client.get(f"/tasks?{query}", headers={"X-User": "ann"}), "invalid-parameter")

    assert document["parameter"] == parameter
    assert document["detail"].startswith(parameter)


# -- the service -------------------------------------------------------------------------------------------------------


def test_figures_are_totals(client, studio):
    studio.done()
    studio.running()

    answer = client.get("/tasks/stats")

    assert answer.json["tasks"] == {"started": 0, "processing": 1, "completed": 1, "failed": 0, "cancelled": 0}
    assert "process" not in answer.json["tasks"]


def test_figures_say_how_soon_outcomes_are_seen(client, studio, monkeypatch):
    monkeypatch.setattr("flask_bgtasks.http.responses.stats_cache.FRESH_SECONDS", -1)
    figures = client.get("/tasks/stats").json
    assert (figures["seen"], figures["mean_seconds_to_seen"]) == (0, None)
    client.post(f"/tasks/{studio.done()}/seen")
    studio.done()

    figures = client.get("/tasks/stats").json

    assert figures["seen"] == 1
    assert 0 < figures["mean_seconds_to_seen"] < PATIENCE


def test_in_an_app_with_a_login_figures_are_for_its_users(client, studio):
    with_owners(studio)

    problem(client.get("/tasks/stats"), "listing-refused")
    assert client.get("/tasks/stats", headers={"X-User": "ann"}).status_code == 200


def test_a_process_that_works_is_ready(client):
    answer = client.get("/tasks/health")

    assert (answer.status_code, answer.json["status"]) == (200, "ok")


def test_a_process_that_stops_is_not_ready(client, studio):
    studio.state.runner.stop(0)

    answer = client.get("/tasks/health")

    assert problem(answer, "not-ready")["checks"] == {"store": "ok", "runner": "draining", "threads": "ok"}
    assert "Retry-After" in answer.headers


def test_a_store_out_of_reach_is_503_and_its_address_stays_in_the_log(client, studio, monkeypatch):
    from flask_bgtasks.errors import StoreUnavailable

    def fail(*_, **__):
        raise StoreUnavailable("cannot connect to db.internal:5432")

    request_id = studio.done()
    for name in ("get", "check", "versions", "change_token", "find"):
        monkeypatch.setattr(studio.state.store, name, fail)

    for path in (f"/{request_id}", f"/{request_id}/events", f"?ids={request_id}", "/health"):
        answer = client.get(f"/tasks{path}")
        assert answer.status_code == 503
        assert answer.content_type == "application/problem+json"
        assert "Retry-After" in answer.headers
        assert "db.internal" not in answer.text


def test_an_owner_loader_that_aborts_is_answered_as_a_problem(client, studio):
    from flask import abort

    studio.bgtasks.owner_loader(lambda: abort(401, description="log in"))

    answer = client.get("/tasks")

    assert (answer.status_code, answer.json["type"], answer.json["detail"]) == (401, "about:blank", "log in")


def test_a_bug_shows_no_traceback(client, studio, monkeypatch):
    def fail(_):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(studio.state.store, "get", fail)

    answer = client.get(f"/tasks/{UNKNOWN}")

    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    assert "secret detail" not in answer.text


def test_another_prefix_moves_everything(tmp_path):
    studio = make("memory://", tmp_path, url_prefix="/api/jobs/")
    client = studio.app.test_client()
    request_id = studio.done()

    answer = client.get(f"/api/jobs/{request_id}")

    assert answer.json["links"]["result"] == f"/api/jobs/{request_id}/result"
    assert "/api/jobs/{request_id}/result" in client.get("/api/jobs/openapi.json").json["paths"]
    assert client.get(f"/tasks/{request_id}").status_code == 404
    studio.state.close(grace=PATIENCE)


def test_every_poll_of_many_threads_is_answered_truly(studio):
    """Polls race with changes; each answer is one that was true, and none goes back."""
    request_id = studio.running()
    stop = threading.Event()

    def poll(_):
        client, newest = studio.app.test_client(), 0
        while not stop.is_set():
            document = client.get(f"/tasks/{request_id}").json
            assert document["seq"] >= newest
            newest = document["seq"]
        return client.get(f"/tasks/{request_id}").json["status"]

    with ThreadPoolExecutor(4) as pool:
        polls = [pool.submit(poll, n) for n in range(4)]
        studio.open("gate")
        studio.finish(request_id)
        stop.set()

        assert {p.result(PATIENCE) for p in polls} == {Status.COMPLETED.value}
