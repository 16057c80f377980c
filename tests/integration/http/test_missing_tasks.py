"""What is not there: tasks that never were, are someone else's or are over, and methods that an address lacks."""

from datetime import timedelta

import pytest

from tests.support.http_app import PATIENCE, make, with_owners
from tests.support.http_calls import CALLS, UNKNOWN
from tests.support.problems import problem


@pytest.fixture(scope="module", params=["memory://", "sqlite:///tasks.sqlite3"])
def reader(request, tmp_path_factory):
    """A client of an app that its tests leave as it is: one for all of them."""
    made = make(request.param, tmp_path_factory.mktemp("reader"))
    yield made.app.test_client()
    made.state.close(grace=PATIENCE)


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
