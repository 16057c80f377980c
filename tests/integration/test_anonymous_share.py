"""Requests without an owner, in an app that names owners, have a share of the queue: they cannot shut out its users."""

import pytest

from tests.support.http_app import PATIENCE, make, with_owners


@pytest.fixture(params=["memory://", "sqlite:///tasks.sqlite3"])
def studio(request, tmp_path):
    made = with_owners(make(request.param, tmp_path, runner="external", max_queued_anonymous=2))
    yield made
    made.state.close(grace=PATIENCE)


def submit(studio, **headers):
    return studio.app.test_client().post("/process", json={"input_text": "x"}, headers=headers)


def test_nobodys_flood_is_refused_and_users_are_served(studio):
    answers = [submit(studio) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [202, 202, 503, 503]
    assert answers[-1].json["type"].endswith("#anonymous-queue-full")
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert submit(studio, **{"X-User": "ada"}).status_code == 202
    assert studio.count() == 3


def test_a_repeated_request_finds_its_task_in_a_full_share(studio):
    first = submit(studio, **{"Idempotency-Key": "k"})
    submit(studio)

    again = submit(studio, **{"Idempotency-Key": "k"})

    assert (again.status_code, again.headers["Task-Id"]) == (202, first.headers["Task-Id"])


def test_who_cancels_and_opens_again_gets_no_more_than_the_share(studio):
    client, ids = studio.app.test_client(), []
    for _ in range(4):
        ids.append(submit(studio).json["request_id"])
        assert client.post(f"/tasks/{ids[-1]}/cancel").status_code == 200

    answers = [client.post(f"/tasks/{request_id}/retry") for request_id in ids]

    assert [answer.status_code for answer in answers] == [202, 202, 503, 503]
    assert answers[-1].json["type"].endswith("#anonymous-queue-full")
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert client.get(f"/tasks/{ids[-1]}").json["status"] == "cancelled"
    assert submit(studio, **{"X-User": "ada"}).status_code == 202


def test_an_app_without_owners_has_the_whole_queue_for_them(tmp_path):
    studio = make("memory://", tmp_path, runner="external", max_queued_anonymous=1)

    assert [submit(studio).status_code for _ in range(3)] == [202, 202, 202]
    studio.state.close(grace=PATIENCE)


def test_code_that_serves_no_request_is_not_held_to_the_share_of_nobody(studio):
    @studio.bgtasks.task
    def nightly(number):
        return number

    with studio.app.app_context():
        for number in range(4):
            nightly.submit(number)

    assert studio.count() == 4


def test_a_task_of_nobody_that_a_request_submits_counts(studio):
    @studio.bgtasks.task
    def made(number):
        return number

    with studio.app.test_request_context():
        made.submit(1)

    assert [submit(studio).status_code for _ in range(2)] == [202, 503]
