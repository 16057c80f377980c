"""A task's status and its progress: one representation for each version, read as often as a client likes."""

import pytest

from flask_bgtasks.http.responses import representation
from tests.support.http_app import PATIENCE, make


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
