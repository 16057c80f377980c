"""The service that looks after what is pending: by hand and on schedule."""

import threading

import pytest

from flask_bgtasks import ConfigurationError
from flask_bgtasks.client import BackgroundTaskCompletionService, Client
from tests.backends.wsgi import served
from tests.support.client.timing import HASTE
from tests.support.http_app import opened
from tests.support.waiting import until


@pytest.fixture
def studio(tmp_path):
    with opened(tmp_path) as made:
        yield made


@pytest.fixture
def client(studio, tmp_path):
    with served(studio.app) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        with Client(url, store=tmp_path / "pending.sqlite3", timing=HASTE) as client:
            yield client


@pytest.fixture
def told():
    return []


def test_what_is_added_is_told_when_it_has_ended_and_once(client, studio, told):
    service = BackgroundTaskCompletionService(client, on_outcome=told.append)
    request_id = studio.running()
    service.add_pending_task(request_id)
    assert service.check_pending_tasks() == []

    studio.open("gate")
    studio.finish(request_id)
    outcomes = service.check_pending_tasks()

    assert [outcome.result for outcome in outcomes] == [{"gate": "gate"}]
    assert told == outcomes
    assert service.check_pending_tasks() == []


def test_what_is_removed_is_not_told(client, studio, told):
    service = BackgroundTaskCompletionService(client, on_outcome=told.append)
    request_id = studio.done()
    service.add_pending_task(request_id)

    service.remove_pending_task(request_id)

    assert service.check_pending_tasks() == []
    assert told == []


def test_the_schedule_checks_at_once_and_then_again_and_again(client, studio, told):
    with BackgroundTaskCompletionService(client, on_outcome=told.append, interval=0.05) as service:
        assert service.running
        service.start()  # does nothing more
        client.submit("/process", json={"input_text": "x"})

        until(lambda: told)

    assert not service.running
    assert [outcome.result for outcome in told] == [{"blocks": ["x"]}]
    assert not [thread for thread in threading.enumerate() if thread.name == "bgtasks-pending"]


def test_waking_it_does_not_wait_for_the_schedule(client, studio, told):
    with BackgroundTaskCompletionService(client, on_outcome=told.append, interval=3600) as service:
        task = client.submit("/process", json={"input_text": "x"})
        studio.finish(until(lambda: task.request_id))  # the schedule's first check may be sending it

        service.wake()

        until(lambda: told)


def test_a_check_that_fails_ends_no_schedule(client, told, caplog, studio):
    def broken(outcome):
        told.append(outcome)
        if len(told) == 1:
            raise RuntimeError("the screen broke")

    request_id = studio.done()
    with BackgroundTaskCompletionService(client, on_outcome=broken, interval=0.05) as service:
        service.add_pending_task(request_id)

        until(lambda: len(told) == 2)

    assert "the screen broke" in caplog.text


def test_the_shared_one_has_to_be_made_first(client, monkeypatch):
    monkeypatch.setattr(BackgroundTaskCompletionService, "_configured", None)
    with pytest.raises(ConfigurationError, match="configure"):
        _ = BackgroundTaskCompletionService.shared

    made = BackgroundTaskCompletionService.configure(client, interval=5)

    assert BackgroundTaskCompletionService.shared is made
