"""A task's access token: what it reads, and that it changes nothing."""

import pytest

from tests.support.http_app import with_owners
from tests.support.http_calls import CALLS
from tests.support.problems import problem


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
