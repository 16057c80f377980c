"""Both clients against a real server: submitting, following, waiting, ending."""

import asyncio
import threading
from datetime import timedelta

import httpx
import pytest
from flask import request

from flask_bgtasks import TaskNotFound, TransitionRefused
from flask_bgtasks.client import (
    AsyncClient,
    Client,
    CredentialsRefused,
    KeyReused,
    Kind,
    TaskCancelled,
    TaskFailed,
    TaskGone,
    TaskRejected,
    TooManyPending,
    WaitTimeout,
)
from flask_bgtasks.client.pending import registry
from tests.backends.network import Network
from tests.backends.wsgi import served
from tests.support.client.timing import HASTE
from tests.support.http_app import opened, with_owners
from tests.support.waiting import PATIENCE, until


@pytest.fixture
def studio(tmp_path):
    with opened(tmp_path) as made:
        yield made


@pytest.fixture
def server(studio):
    with served(studio.app) as server:
        yield server


@pytest.fixture
def told():
    return []


@pytest.fixture
def connect(server, tmp_path, told):
    """Makes clients of one store, as processes that come one after the other do."""
    made = []

    def make_client(url=None, **options):
        options = {"store": tmp_path / "pending.sqlite3", "timing": HASTE, "on_outcome": told.append, **options}
        made.append(Client(url or server.url, **options))
        return made[-1]

    yield make_client
    for client in made:
        client.close()


def test_a_submission_is_followed_live_to_its_result(connect, told):
    client = connect()

    task = client.submit("/process", json={"input_text": "Whales"})
    events = list(task)

    assert [event.type for event in events if event.kind is Kind.STEP] == ["step_started", "step_finished"] * 2
    assert [event.chunks for event in events if event.kind is Kind.OUTPUT] == [["Whales"]]
    assert (events[-1].kind, events[-1].percentage) == (Kind.TERMINAL, 100)
    assert task.wait() == {"blocks": ["Whales"]}
    assert [(outcome.result, outcome.request_id) for outcome in told] == [({"blocks": ["Whales"]}, task.request_id)]
    assert client.pending() == []


def test_that_an_outcome_was_seen_is_told_to_the_server(connect, studio):
    task = connect().submit("/process", json={"input_text": "x"})

    task.wait()

    assert studio.state.store.get(task.request_id).seen_via == "stream"


def test_the_callback_of_wait_gets_what_happens_on_the_way(connect):
    shown = []

    connect().submit("/process", json={"input_text": "x"}).wait(on_progress=shown.append)

    assert {Kind.PROGRESS, Kind.STEP, Kind.OUTPUT} == {event.kind for event in shown}
    assert [e.percentage for e in shown] == sorted(e.percentage for e in shown)


def test_a_result_that_is_no_json_comes_as_its_bytes(connect):
    assert connect().submit("/odd", json={}).wait() == b"\x00\xff\r\n"


def test_a_body_of_another_type_is_sent_as_it_is(connect):
    form = b"--x\r\nContent-Disposition: form-data; name=title\r\n\r\nT\r\n--x\r\nContent-Disposition: form-data; "
    form += b"name=file; filename=a.txt\r\n\r\nabc\r\n--x--\r\n"

    task = connect().submit("/upload", body=form, content_type="multipart/form-data; boundary=x")

    assert task.wait() == {"name": "a.txt", "size": 3, "title": "T"}


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("/break", TaskFailed, "the pen broke"),
        ("/nowhere", TaskRejected, "404"),
        ("/checked/tuple", TaskRejected, "too short"),
        ("/tasks/devices", TaskRejected, "belong to an owner.*403"),
    ],
)
def test_what_ends_without_a_result_is_an_error_and_an_outcome(connect, told, path, error, words):
    client = connect()

    with pytest.raises(error, match=words):
        client.submit(path, json={}).wait()

    assert [outcome.status for outcome in told] == ["failed" if error is TaskFailed else "rejected"]
    assert client.pending() == []


def test_the_same_key_is_the_same_task_and_another_body_is_refused(connect):
    client = connect()
    first = client.submit("/process", json={"input_text": "x"}, key="lesson-1")

    again = client.submit("/process", json={"input_text": "x"}, key="lesson-1")

    assert again.request_id == first.request_id
    with pytest.raises(KeyReused):
        client.submit("/process", json={"input_text": "y"}, key="lesson-1")


def test_a_task_waits_no_longer_than_it_is_told_and_stays_pending(connect, studio):
    client = connect()
    task = client.submit("/wait", json={"gate": "g"})
    assert studio.reached["g"].wait(20)

    with pytest.raises(TimeoutError) as caught:
        task.wait(timeout=0.2)

    assert type(caught.value) is WaitTimeout
    assert [pending.key for pending in client.pending()] == [task.key]
    studio.open("g")
    assert task.wait() == {"gate": "g"}


def test_cancelling_and_retrying(connect, studio, told):
    client = connect()
    task = client.submit("/wait", json={"gate": "g"})
    assert studio.reached["g"].wait(20)

    assert task.cancel() == "processing"
    studio.open("g")
    with pytest.raises(TaskCancelled):
        task.wait()
    assert task.retry() == "started"
    assert task.wait() == {"gate": "g"}
    with pytest.raises(TransitionRefused, match="retry refused"):
        task.retry()

    assert [outcome.status for outcome in told] == ["cancelled", "completed"]


def test_leaving_a_loop_cancels_nothing_and_the_next_one_goes_on_where_it_was_left(connect, studio):
    client = connect()
    task = client.submit("/wait", json={"gate": "g"})
    first = []
    for event in task:
        first.append(event)
        if event.type == "step_started":
            break
    studio.open("g")

    rest = list(task)

    assert [event.seq for event in first + rest] == list(range(1, len(first + rest) + 1))
    assert task.status == "completed"


def test_another_task_is_followed_by_its_id_after_what_is_known_of_it(connect, studio, told):
    request_id = studio.done()

    events = list(connect().follow(request_id, after=3))

    assert events[0].seq == 4
    assert [outcome.request_id for outcome in told] == [request_id]


def test_a_task_that_is_unknown_to_the_server_is_gone(connect):
    with pytest.raises(TaskGone):
        connect().follow("00000000-0000-4000-8000-000000000000").wait()


def test_a_result_that_has_expired_is_gone(connect, studio):
    client = connect(on_outcome=None)
    task = client.follow(studio.done())
    studio.advance(timedelta(days=8))

    with pytest.raises(TaskGone, match="result|expired"):
        task.wait()


def test_what_is_no_id_is_no_task(connect):
    with pytest.raises(TaskNotFound):
        connect().follow("../../admin")


def test_a_submission_whose_task_was_learnt_another_way_is_one_record_and_one_outcome(connect, server, studio, told):
    with Network(server.server_port) as network:
        network.refuse()
        task = connect(network.url).submit("/process", json={"input_text": "x"})
        headers = {"Idempotency-Key": task.key, "Content-Type": "application/json"}
        request_id = httpx.post(server.url + "/process", content=b'{"input_text":"x"}', headers=headers).json()[
            "request_id"
        ]
        client = connect(network.url)
        network.heal()
        studio.finish(request_id)
        client.follow(request_id).wait()

        assert task.wait() == {"blocks": ["x"]}

    assert task.request_id == request_id
    assert [outcome.request_id for outcome in told] == [request_id]
    assert client.pending() == []


def test_removing_forgets_here_and_cancels_nothing(connect, studio, told):
    client = connect()
    task = client.submit("/wait", json={"gate": "g"})
    client.remove(task.request_id)
    studio.open("g")
    until(lambda: studio.state.store.get(task.request_id).done)

    assert client.check_pending() == []
    assert (client.pending(), told) == ([], [])
    client.remove("never heard of")


def test_many_are_followed_at_once(connect, told):
    client = connect()
    tasks = [client.submit("/process", json={"input_text": str(n)}) for n in range(8)]

    ends = [event.request_id for event in client.events(*tasks) if event.kind is Kind.TERMINAL]

    assert sorted(ends) == sorted(task.request_id for task in tasks)
    assert len(told) == 8


def test_threads_share_a_client(connect, told):
    client = connect()
    results = []

    def work(n):
        results.append(client.submit("/process", json={"input_text": str(n)}).wait())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(result["blocks"][0] for result in results) == [str(n) for n in range(8)]
    assert len(told) == 8


def test_a_check_sends_what_waits_and_tells_what_ended(connect, server, studio, told):
    with Network(server.server_port) as network:
        network.refuse()
        client = connect(network.url)
        task = client.submit("/process", json={"input_text": "x"})
        assert (task.request_id, task.status) == (None, "queued")
        assert client.check_pending() == []

        network.heal()
        client.check_pending()
        until(lambda: client.check_pending() or told)

    assert [outcome.result for outcome in told] == [{"blocks": ["x"]}]
    assert studio.count() == 1


def test_clients_of_several_owners_and_servers_do_not_meet_in_one_file(connect):
    anna, bert = connect(owner="anna"), connect(owner="bert")

    task = anna.submit("/process", json={"input_text": "x"}, key="k")
    other = bert.submit("/process", json={"input_text": "y"}, key="k2")

    assert [t.key for t in anna.pending()] == [task.key]
    assert [t.key for t in bert.pending()] == [other.key]
    assert connect("http://127.0.0.1:9").pending() == []


def test_the_user_token_goes_along(connect, studio):
    client = connect(user_token="f" * 22)

    task = client.submit("/process", json={"input_text": "x"})

    assert studio.state.store.get(task.request_id).user_token == "f" * 22


def test_owners_see_their_own_tasks_by_the_headers_of_the_moment(studio, connect):
    with_owners(studio)
    who = {"X-User": "anna"}
    client = connect(headers=lambda: who)
    task = client.submit("/process", json={"input_text": "x"})
    assert task.wait() == {"blocks": ["x"]}

    stranger = connect(headers={"X-User": "eve"}, owner="eve")

    with pytest.raises(TaskGone):
        stranger.follow(task.request_id).wait()
    with pytest.raises(TaskNotFound):
        stranger.follow(task.request_id).retry()


def test_401_blocks_and_new_credentials_go_on(studio, connect, told):
    @studio.app.before_request
    def log_in():
        return ("who are you?", 401) if request.headers.get("Authorization") != "Bearer good" else None

    task = connect(headers={"Authorization": "Bearer bad"}).submit("/process", json={"input_text": "x"})
    with pytest.raises(CredentialsRefused):
        task.wait()
    assert told == []

    client = connect(headers={"Authorization": "Bearer good"})
    (pending,) = client.pending()
    client.check_pending()

    assert pending.key == task.key
    assert pending.wait() == {"blocks": ["x"]}
    assert len(told) == 1


def test_a_login_that_has_expired_without_a_word_makes_no_task_gone(studio, connect, told):
    with_owners(studio)  # whose loader names nobody then, where it might answer 401
    login = {"X-User": "ann"}
    client = connect(headers=lambda: login)
    task = client.submit("/process", json={"input_text": "x"})
    login.clear()
    with pytest.raises(CredentialsRefused):
        task.wait()
    client.check_pending()
    client.check_pending()
    assert told == []

    login["X-User"] = "ann"

    assert task.wait() == {"blocks": ["x"]}
    assert len(told) == 1


def test_there_is_a_limit_to_what_waits(connect, monkeypatch):
    monkeypatch.setattr(registry, "MAX_PENDING", 2)
    client = connect("http://127.0.0.1:9")
    for _ in range(2):
        client.submit("/process", json={})

    with pytest.raises(TooManyPending):
        client.submit("/process", json={})


# -- awaited ---------------------------------------------------------------------------------------------------------


def test_the_awaited_client_does_the_same(server, tmp_path):
    told = []

    async def note(outcome):
        told.append(outcome.result)

    async def main():
        async with AsyncClient(server.url, store=tmp_path / "a.sqlite3", timing=HASTE, on_outcome=note) as client:
            task = await client.submit("/process", json={"input_text": "x"})
            events = [event async for event in task]
            several = await asyncio.gather(*[client.submit("/process", json={"input_text": str(n)}) for n in range(5)])
            results = await asyncio.gather(*[one.wait(timeout=PATIENCE) for one in several])
            with pytest.raises(TaskFailed, match="pen"):
                await (await client.submit("/break", json={})).wait()
            assert await client.pending() == []
            return events, results

    events, results = asyncio.run(main())

    assert [event.type for event in events][-1] == "completed"
    assert [result["blocks"] for result in results] == [[str(n)] for n in range(5)]
    assert len(told) == 7


def test_an_awaited_wait_can_be_given_up_and_taken_up_again(server, tmp_path, studio):
    async def main():
        async with AsyncClient(server.url, store=tmp_path / "a.sqlite3", timing=HASTE) as client:
            task = await client.submit("/wait", json={"gate": "g"})
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(task.wait(), 0.3)
            with pytest.raises(WaitTimeout):
                await task.wait(timeout=0.3)
            studio.open("g")
            return await task.wait()

    assert asyncio.run(main()) == {"gate": "g"}


def test_leaving_an_awaited_loop_cancels_nothing(server, tmp_path, studio):
    async def main():
        async with AsyncClient(server.url, store=tmp_path / "a.sqlite3", timing=HASTE) as client:
            task = await client.submit("/wait", json={"gate": "g"})
            async for event in task:
                if event.type == "step_started":
                    break
            studio.open("g")
            return await task.wait()

    assert asyncio.run(main()) == {"gate": "g"}
