"""Requests for work: how they are answered, what is refused before anything is stored, and what is sent twice."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from flask_bgtasks.core.model import Status
from flask_bgtasks.execution import claims
from tests.support.http_app import PATIENCE, make, with_owners
from tests.support.waiting import until


def stored(studio, request_id):
    return studio.state.store.get(request_id)


# -- 202


def test_a_backgrounded_view_answers_at_once_and_says_where_to_follow_it(client, studio):
    answer = client.post("/process", json={"input_text": "x"})

    request_id = answer.json["request_id"]
    assert answer.status_code == 202
    assert answer.json["status"] == "started"
    assert answer.json["links"]["result"] == f"/tasks/{request_id}/result"
    assert answer.headers["Location"] == f"/tasks/{request_id}"
    assert answer.headers["Task-Id"] == request_id
    assert answer.headers["Retry-After"] == "1"
    assert "Prefer" in answer.vary
    studio.finish(request_id)
    for link in answer.json["links"].values():
        assert client.options(link).status_code == 200


def test_links_stand_under_the_path_at_which_the_app_is_mounted(client):
    answer = client.post("/process", json={"input_text": "x"}, base_url="https://example.com/studio")

    assert answer.headers["Location"].startswith("/studio/tasks/")
    assert answer.json["links"]["events"].startswith("/studio/tasks/")


def test_the_token_of_the_answer_reads_the_task(client, studio):
    with_owners(studio)
    answer = client.post("/process", json={"input_text": "x"}, headers={"X-User": "ann"})
    studio.finish(answer.json["request_id"])

    assert client.get(answer.headers["Location"]).status_code == 404
    assert client.get(answer.headers["Location"], query_string=_token(answer)).status_code == 200


def _token(answer):
    return {"access_token": answer.json["access_token"]}


def test_without_a_secret_key_there_is_no_token(studio, client):
    studio.app.secret_key = None

    assert "access_token" not in client.post("/process", json={"input_text": "x"}).json


@pytest.mark.parametrize("path", ["/async", "/report?q=1", "/board"])
def test_asynchronous_views_and_views_without_a_body_are_tasks_too(client, studio, path):
    method = client.get if path.startswith("/report") else client.post
    answer = method(path, headers={"Prefer": "wait=20"})

    assert answer.status_code == 200
    assert stored(studio, answer.headers["Task-Id"]).status is Status.COMPLETED


def test_a_view_that_also_writes_answers_its_get_itself(client, studio):
    answer = client.get("/board")

    assert answer.json == {"method": "GET"}
    assert "Task-Id" not in answer.headers
    assert studio.count() == 0


@pytest.mark.parametrize("method", ["head", "options"])
def test_head_and_options_do_no_work(client, studio, method):
    assert getattr(client, method)("/report").status_code == 200
    assert studio.count() == 0


def test_an_upload_reaches_the_view(client):
    data = {"file": (io.BytesIO(b"\xff" * 1000), "a.bin"), "title": "Sommer"}

    answer = client.post("/upload", data=data, headers={"Prefer": "wait=20"})

    assert answer.json == {"name": "a.bin", "size": 1000, "title": "Sommer"}


def test_an_upload_that_a_before_request_function_has_read_reaches_the_view(client, studio):
    from flask import request

    studio.app.before_request(lambda: request.form.get("csrf") and None)
    data = {"file": (io.BytesIO(b"\xff" * 1000), "a.bin"), "title": "Sommer"}

    answer = client.post("/upload", data=data, headers={"Prefer": "wait=20"})

    assert answer.json == {"name": "a.bin", "size": 1000, "title": "Sommer"}


# -- Prefer


def test_who_prefers_to_wait_gets_the_views_own_answer(client):
    answer = client.post("/process", json={"input_text": "x"}, headers={"Prefer": "wait=20"})

    assert answer.status_code == 200
    assert answer.json == {"blocks": ["x"]}
    assert answer.headers["Preference-Applied"] == "wait=20"
    assert answer.headers["Content-Location"] == f"/tasks/{answer.headers['Task-Id']}/result"
    assert client.get(answer.headers["Content-Location"]).data == answer.data


def test_the_answer_is_the_views_byte_for_byte(client):
    answer = client.post("/odd", headers={"Prefer": "wait=20"})

    assert (answer.status_code, answer.data) == (299, b"\x00\xff\r\n")
    assert answer.headers["Content-Type"] == "image/x-odd; q=1"
    assert answer.headers["Content-Disposition"] == "attachment; filename=odd.bin"
    assert "Set-Cookie" not in answer.headers


def test_who_has_waited_long_enough_gets_202_and_follows(client, studio):
    answer = client.post("/wait", json={"gate": "a"}, headers={"Prefer": "wait=0"})

    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "wait=0"
    studio.open("a")


def test_no_one_waits_longer_than_the_server_grants(client, studio, tmp_path):
    short = make("memory://", tmp_path, max_wait=0.01)

    answer = short.app.test_client().post("/wait", json={"gate": "a"}, headers={"Prefer": "wait=1e9"})

    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "wait=0.01"
    short.open("a")
    short.state.close(grace=PATIENCE)


def test_who_waits_and_finds_all_places_taken_is_answered_at_once(tmp_path):
    full = make("memory://", tmp_path, max_streams=0)

    answer = full.app.test_client().post("/wait", json={"gate": "a"}, headers={"Prefer": "wait=20"})

    assert answer.status_code == 202
    assert "Preference-Applied" not in answer.headers
    full.open("a")
    full.state.close(grace=PATIENCE)


@pytest.mark.parametrize("status", [400, 404, 422, 500, 503])
def test_what_a_view_aborts_with_is_the_answer(client, studio, status):
    answer = client.post(f"/refuse/{status}", headers={"Prefer": "wait=20"})

    assert answer.status_code == status
    assert "because of that" in answer.text
    assert stored(studio, answer.headers["Task-Id"]).status is Status.FAILED


def test_a_view_that_breaks_answers_500_as_it_always_did(client, studio):
    answer = client.post("/break", headers={"Prefer": "wait=20"})

    assert answer.status_code == 500
    assert "Internal Server Error" in answer.text
    assert "Traceback" not in answer.text


# -- respond="prefer": views that know nothing of this


def test_todays_clients_notice_nothing(client, studio):
    answer = client.post("/legacy/plain", json={"a": 1})

    assert (answer.status_code, answer.json) == (201, {"kind": "plain", "text": {"a": 1}})
    assert answer.headers["X-Extra"] == "1"
    assert answer.headers["Content-Location"] == f"/tasks/{answer.headers['Task-Id']}/result"
    result = client.get(answer.headers["Content-Location"])
    assert (result.status_code, result.data) == (201, answer.data)


def test_a_wrapped_view_in_a_blueprint_keeps_its_arguments(client):
    assert client.post("/boards/anna").json == {"saved": "anna"}


def test_todays_clients_get_their_errors_too(client, studio):
    answer = client.post("/legacy/abort")

    assert answer.status_code == 422
    assert "not that" in answer.text
    task = stored(studio, answer.headers["Task-Id"])
    assert (task.status, task.result_status) == (Status.FAILED, 422)
    assert client.get(f"/tasks/{task.request_id}/result").data == answer.data


def test_a_wrapped_view_that_breaks_answers_500_as_it_always_did(client, studio):
    answer = client.post("/legacy/break")

    assert answer.status_code == 500
    assert stored(studio, answer.headers["Task-Id"]).status is Status.FAILED


def test_in_tests_a_wrapped_view_that_breaks_raises_as_it_always_did(client, studio):
    studio.app.testing = True

    with pytest.raises(RuntimeError, match="the pen broke"):
        client.post("/legacy/break")


def test_a_new_client_of_an_old_view_can_have_202(client, studio):
    answer = client.post("/legacy/plain", json={"a": 1}, headers={"Prefer": "respond-async"})

    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "respond-async"
    studio.finish(answer.json["request_id"])
    assert client.get(answer.json["links"]["result"]).status_code == 201


def test_a_new_client_of_an_old_view_can_wait(client):
    answer = client.post("/legacy/plain", json={"a": 1}, headers={"Prefer": "wait=20"})

    assert (answer.status_code, answer.json["text"]) == (201, {"a": 1})


def test_hold_never_answers_202(client):
    for prefer in ("respond-async", "wait=0", ""):
        answer = client.post("/hold", headers={"Prefer": prefer})
        assert (answer.status_code, answer.json) == (200, {"held": True})


def test_a_task_that_waits_for_its_client_can_be_cancelled_by_another(client, studio):
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(studio.app.test_client().post, "/legacy/gate")
        assert studio.reached["legacy"].wait(PATIENCE)
        task = _only(studio)
        assert client.post(f"/tasks/{task.request_id}/cancel").status_code == 202
        studio.open("legacy")

        # The view reports nothing after this, so it ends as it always did: cancelling is cooperative.
        assert answer.result(PATIENCE).status_code == 201


def _only(studio):
    from flask_bgtasks.stores.types import TaskQuery

    [task] = studio.state.store.find(TaskQuery()).tasks
    return task


# -- validate


@pytest.mark.parametrize(("name", "status", "text"), [("abort", 400, "no such name"), ("tuple", 422, "too short")])
def test_what_validate_refuses_is_answered_at_once_and_not_stored(client, studio, name, status, text):
    answer = client.post(f"/checked/{name}")

    assert answer.status_code == status
    assert text in answer.text
    assert studio.count() == 0


def test_what_validate_lets_pass_is_a_task(client, studio):
    answer = client.post("/checked/good", headers={"Prefer": "wait=20"})

    assert answer.json == {"name": "good"}
    assert studio.calls == ["validate good"]


def test_validate_need_not_take_the_views_arguments(studio, client):
    seen = []

    @studio.app.post("/v/<a>/<b>")
    @studio.bgtasks.background(name="v", validate=lambda *, b: seen.append(b))
    def view(a, b):
        return {}

    @studio.app.post("/w/<a>")
    @studio.bgtasks.background(name="w", validate=lambda **all: seen.append(all))
    def other(a):
        return {}

    client.post("/v/1/2")
    client.post("/w/3")

    assert seen == ["2", {"a": "3"}]


# -- limits


def test_a_body_over_the_limit_is_refused_and_not_stored(tmp_path):
    small = make("memory://", tmp_path, max_request_bytes=100)

    answer = small.app.test_client().post("/process", json={"input_text": "x" * 100})

    assert answer.status_code == 413
    assert answer.json["type"].endswith("#payload-too-large")
    assert answer.json["limit"] == 100
    assert small.count() == 0


def test_a_full_queue_is_503_with_retry_after_and_nothing_stored(tmp_path):
    full = make("memory://", tmp_path, workers=1, max_queued=1)
    full.running("a")
    full.submit()

    answer = full.app.test_client().post("/process", json={"input_text": "x"})

    assert answer.status_code == 503
    assert answer.json["type"].endswith("#queue-full")
    assert int(answer.headers["Retry-After"]) > 0
    assert full.count() == 2
    full.open("a")
    full.state.close(grace=PATIENCE)


def test_an_owner_with_too_many_waiting_is_429_and_others_are_not(tmp_path):
    full = with_owners(make("memory://", tmp_path, workers=1, max_queued_per_owner=1))
    client = full.app.test_client()
    full.submit("/wait", json={"gate": "a"}, headers={"X-User": "zoe"})
    assert full.reached["a"].wait(PATIENCE)
    full.submit(headers={"X-User": "ann"})

    answer = client.post("/process", json={"input_text": "x"}, headers={"X-User": "ann"})

    assert answer.status_code == 429
    assert answer.json["type"].endswith("#owner-queue-full")
    assert int(answer.headers["Retry-After"]) > 0
    full.submit(headers={"X-User": "bob"})
    full.open("a")
    full.state.close(grace=PATIENCE)


def test_a_process_that_stops_takes_no_more_work(client, studio):
    studio.state.runner.stop(0)

    answer = client.post("/process", json={"input_text": "x"})

    assert answer.status_code == 503
    assert answer.json["type"].endswith("#shutting-down")
    assert studio.count() == 0


# -- Idempotency-Key

KEY = {"Idempotency-Key": '"8e03978e-40d5-43e8-bc93-6894a57f9324"'}


def test_the_lost_answer(client, studio):
    """A client killed before it read the 202 sends the same request again and gets its task."""
    lost = client.post("/process", json={"input_text": "x"}, headers=KEY)

    again = client.post("/process", json={"input_text": "x"}, headers=KEY)

    assert again.status_code == 202
    assert again.json["request_id"] == lost.json["request_id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in lost.headers
    assert studio.count() == 1
    found = client.get("/tasks", query_string={"idempotency_key": KEY["Idempotency-Key"].strip('"')})
    assert [task["request_id"] for task in found.json["tasks"]] == [lost.json["request_id"]]


def test_the_lost_answer_of_a_task_that_has_ended(client, studio):
    first = studio.done(headers=KEY)

    again = client.post("/process", json={"input_text": "x"}, headers=KEY)

    assert (again.json["request_id"], again.json["status"]) == (first, "completed")
    assert "Retry-After" not in again.headers


def test_the_same_key_with_another_body_is_refused(client, studio):
    client.post("/process", json={"input_text": "x"}, headers=KEY)

    answer = client.post("/process", json={"input_text": "y"}, headers=KEY)

    assert answer.status_code == 422
    assert answer.json["type"].endswith("#idempotency-conflict")
    assert studio.count() == 1


def test_the_same_key_for_another_endpoint_is_another_task(client, studio):
    one = client.post("/process", json={"input_text": "x"}, headers=KEY)
    other = client.post("/wait", json={"gate": "a"}, headers=KEY)

    assert one.json["request_id"] != other.json["request_id"]
    studio.open("a")


def test_the_same_key_of_another_owner_is_another_task(client, studio):
    with_owners(studio)

    ids = {
        client.post("/process", json={"input_text": "x"}, headers={**KEY, "X-User": u}).json["request_id"] for u in "ab"
    }

    assert len(ids) == 2


def test_a_key_that_is_none_is_refused(client, studio):
    answer = client.post("/process", json={"input_text": "x"}, headers={"Idempotency-Key": "a b"})

    assert answer.status_code == 400
    assert answer.json["type"].endswith("#invalid-idempotency-key")
    assert studio.count() == 0


def test_a_request_that_is_sent_again_is_not_judged_again(client, studio):
    client.post("/checked/good", headers=KEY)

    client.post("/checked/good", headers=KEY)

    assert studio.calls == ["validate good"]


def test_a_request_sent_again_while_the_queue_is_full_still_gets_its_task(tmp_path):
    full = make("memory://", tmp_path, workers=1, max_queued=1)
    full.running("a")
    first = full.submit(headers=KEY)

    again = full.app.test_client().post("/process", json={"input_text": "x"}, headers=KEY)

    assert (again.status_code, again.json["request_id"]) == (202, first)
    full.open("a")
    full.state.close(grace=PATIENCE)


def test_an_old_view_answers_a_request_sent_again_with_the_same_bytes(client, studio):
    first = client.post("/legacy/plain", json={"a": 1}, headers=KEY)

    again = client.post("/legacy/plain", json={"a": 1}, headers=KEY)

    assert (again.status_code, again.data, again.content_type) == (201, first.data, first.content_type)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Content-Location"] == first.headers["Content-Location"]
    assert studio.calls == ["legacy plain"]


def test_a_request_sent_again_waits_for_the_first_to_be_answered(studio):
    def send():
        return studio.app.test_client().post("/legacy/gate", json={"a": 1}, headers=KEY)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(send)
        assert studio.reached["legacy"].wait(PATIENCE)
        second = pool.submit(send)
        studio.open("legacy")
        answers = [first.result(PATIENCE), second.result(PATIENCE)]

    assert studio.calls == ["legacy gate"]
    assert answers[0].data == answers[1].data
    assert [a.headers.get("Idempotent-Replayed") for a in answers] == [None, "true"]


def test_a_request_sent_again_does_not_wait_for_a_run_that_died(tmp_path):
    from datetime import timedelta

    made = make("memory://", tmp_path, max_wait=0)
    made.app.test_client().post("/legacy/plain", json={"a": 1}, headers={**KEY, "Prefer": "respond-async"})
    task = _only(made)
    made.finish(task.request_id)
    # As if the process had died in the middle of it: processing, with a lease that ran out.
    from dataclasses import replace

    store = made.state.store
    dead = replace(task, status=Status.PROCESSING, attempt=1, lease_until=store.now() - timedelta(hours=1))
    store._tasks[task.request_id] = dead

    answer = made.app.test_client().post("/legacy/plain", json={"a": 1}, headers=KEY)

    assert answer.status_code == 503
    assert answer.json["type"].endswith("#wait-timeout")
    assert answer.headers["Task-Id"] == task.request_id
    assert int(answer.headers["Retry-After"]) > 0


def test_a_request_sent_again_runs_the_task_that_nobody_has_begun(studio, client, monkeypatch):
    """The first request's thread was ended between storing it and running it."""
    monkeypatch.setattr(claims, "HELD_SECONDS", 0.05)
    submit = type(studio.state).submit

    def die_after(state, *args, **kwargs):
        submit(state, *args, **kwargs)
        raise SystemExit

    with monkeypatch.context() as dying, pytest.raises(SystemExit):
        dying.setattr(type(studio.state), "submit", die_after)
        client.post("/legacy/plain", json={"a": 1}, headers=KEY)
    until(lambda: not _only(studio).held or _only(studio).attempt > 1)

    again = client.post("/legacy/plain", json={"a": 1}, headers=KEY)

    assert (again.status_code, again.json["kind"]) == (201, "plain")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (_only(studio).attempt, _only(studio).crashes) == (2, 0)


def test_of_many_equal_requests_at_once_one_runs(studio):
    barrier = threading.Barrier(8)

    def send(_):
        client = studio.app.test_client()
        barrier.wait(PATIENCE)
        return client.post("/process", json={"input_text": "x"}, headers=KEY)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(8)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json["request_id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert studio.count() == 1


def test_a_multipart_form_that_a_browser_sends_again_is_the_same_request(client, studio):
    def send():
        return client.post("/upload", data={"file": (io.BytesIO(b"\xff"), "a.bin"), "title": "t"}, headers=KEY)

    first, again = send(), send()

    assert (again.status_code, again.json["request_id"]) == (202, first.json["request_id"])


# -- user_token


@pytest.mark.parametrize("body", [{"json": {"input_text": "x", "user_token": "tok"}}, {"data": {"user_token": "tok"}}])
def test_the_users_token_is_taken_from_the_body(client, studio, body):
    request_id = client.post("/process", **body).json["request_id"]

    assert stored(studio, request_id).user_token == "tok"


@pytest.mark.parametrize("token", [None, 7, "", ["a"], "x" * 5000])
def test_what_is_no_token_is_left_out(client, studio, token):
    request_id = client.post("/process", json={"input_text": "x", "user_token": token}).json["request_id"]

    assert stored(studio, request_id).user_token is None


def test_a_body_that_is_not_json_is_the_views_to_judge(client, studio):
    answer = client.post(
        "/process", data='{"user_token": "tok"', content_type="application/json", headers={"Prefer": "wait=20"}
    )

    assert answer.status_code == 400
    assert stored(studio, answer.headers["Task-Id"]).status is Status.FAILED


def test_the_users_token_reaches_no_client(client, studio):
    request_id = studio.done(json={"input_text": "x", "user_token": "secret-token"})

    for path in ("", "/progress", "/events", "/result"):
        assert "secret-token" not in client.get(f"/tasks/{request_id}{path}").text
    assert "secret-token" not in client.get(f"/tasks?ids={request_id}").text
