"""One client cannot take all places for streams and long polls: an owner, or an address, has a share of them."""

import contextlib

import pytest

from tests.support.http_app import PATIENCE, make, with_owners

ANN, BOB = {"X-User": "ann"}, {"X-User": "bob"}
FAR, FARTHER = "8.8.8.8", "2a00:1450::1"


@pytest.fixture
def studio(tmp_path):
    made = with_owners(make("memory://", tmp_path, runner="external", max_streams=6))
    yield made
    made.state.close(grace=PATIENCE)


@pytest.fixture
def follow(studio):
    """Opens a stream and leaves it open; its answer."""
    with contextlib.ExitStack() as stack:

        def open_one(request_id, headers=None, *, address="127.0.0.1", **query):
            environ = {"REMOTE_ADDR": address}
            answer = studio.app.test_client().get(
                f"/tasks/{request_id}/events", headers=headers, query_string=query, environ_overrides=environ
            )
            stack.callback(answer.close)
            return answer

        yield open_one


def test_an_owner_has_half_of_the_places_and_the_rest_is_for_others(studio, follow):
    anns, bobs = studio.submit(headers=ANN), studio.submit(headers=BOB)

    answers = [follow(anns, ANN) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 503]
    refused = answers[-1]
    assert refused.json["type"].endswith("#stream-limit-reached")
    assert "BGTASKS_MAX_STREAMS_PER_OWNER" in refused.json["detail"]
    assert int(refused.headers["Retry-After"]) > 0
    assert [follow(bobs, BOB).status_code for _ in range(3)] == [200] * 3
    assert "BGTASKS_MAX_STREAMS)" in follow(bobs, BOB).json["detail"]


def test_long_polls_are_of_the_same_share_and_answered_at_once_beyond_it(studio, follow):
    anns = studio.submit(headers=ANN)
    for _ in range(3):
        follow(anns, ANN)

    answer = studio.app.test_client().get(f"/tasks/{anns}?wait=30", headers=ANN)

    assert (answer.status_code, answer.json["status"]) == (200, "started")


@pytest.mark.parametrize("address", [FAR, FARTHER, "127.0.0.1", ""])
def test_nobody_has_a_share_by_address(studio, follow, address):
    task = studio.submit()

    statuses = [follow(task, address=address).status_code for _ in range(4)]

    assert statuses == [200, 200, 200, 503]
    assert follow(task, address="9.9.9.9").status_code == 200


def test_an_ipv6_client_does_not_get_more_by_changing_its_address(studio, follow):
    task = studio.submit()

    statuses = [follow(task, address=f"2a00:1450::{n}").status_code for n in range(1, 5)]

    assert statuses == [200, 200, 200, 503]


def test_whoever_reads_by_a_token_counts_by_the_address(studio, follow):
    task = studio.submit(headers=ANN)
    with studio.app.app_context():
        token = studio.bgtasks.access_token(task)

    statuses = [follow(task, address=FAR, access_token=token).status_code for _ in range(4)]

    assert statuses == [200, 200, 200, 503]
    assert follow(task, ANN, address=FAR).status_code == 200


@pytest.mark.parametrize("path", ["/tasks/{}/events?access_token=", "/tasks/events?ids={}&access_token="])
def test_a_token_that_says_nothing_makes_no_second_share(studio, follow, path):
    task = studio.submit(headers=ANN)
    for _ in range(3):
        follow(task, ANN, address=FAR)

    answer = studio.app.test_client().get(path.format(task), headers=ANN, environ_overrides={"REMOTE_ADDR": FAR})

    assert answer.status_code == 503
    answer.close()


@pytest.mark.parametrize(("address", "most"), [("127.0.0.1", 4), ("10.0.0.1", 4), (FAR, 2)])
def test_in_an_app_without_owners_a_proxy_is_not_one_client(tmp_path, address, most):
    studio = make("memory://", tmp_path, runner="external", max_streams=4)
    task, answers = studio.submit(), []
    for _ in range(5):
        environ = {"REMOTE_ADDR": address}
        answers.append(studio.app.test_client().get(f"/tasks/{task}/events", environ_overrides=environ))

    assert [answer.status_code for answer in answers] == [200] * most + [503] * (5 - most)
    for answer in answers:
        answer.close()
    studio.state.close(grace=PATIENCE)


def test_the_share_can_be_set(tmp_path, studio):
    made = with_owners(make("memory://", tmp_path, runner="external", max_streams=6, max_streams_per_owner=1))
    task = made.submit(headers=ANN)
    answers = [made.app.test_client().get(f"/tasks/{task}/events", headers=ANN) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 503]
    for answer in answers:
        answer.close()
    made.state.close(grace=PATIENCE)
