"""Long polls: a client waits for the next change, or for the end, for as long as it is granted."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.http_app import PATIENCE, make
from tests.support.problems import problem


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
