"""Many tasks at once: by their ids, by their owner in pages, by a key."""

import uuid
from datetime import timedelta

import pytest

from tests.support.http_app import with_owners
from tests.support.http_calls import UNKNOWN
from tests.support.problems import problem


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
