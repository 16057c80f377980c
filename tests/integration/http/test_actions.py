"""Acting upon a task: cancel, retry, seen, delete."""

import pytest

from tests.support.http_app import PATIENCE, make
from tests.support.problems import problem


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
