"""Live Activities over HTTP: a task's own tokens, which rotate and are forgotten."""

import json
import logging

import pytest

from flask_bgtasks.core.devices import LIVE_ACTIVITY
from flask_bgtasks.core.transitions.outside import RequestCancel
from tests.support.http_app import PATIENCE, make, with_owners
from tests.support.http_devices import FID, TOKEN
from tests.support.problems import problem

ANN, BOB = {"X-User": "ann"}, {"X-User": "bob"}


@pytest.fixture
def studio_settings():
    return {"max_devices_per_owner": 3}


@pytest.fixture
def studio(studio):
    return with_owners(studio)


@pytest.fixture
def running(client, studio):
    """Ann's task, which runs."""
    return client.post("/wait", json={"gate": "gate"}, headers=ANN).headers["Task-Id"]


def start(client, request_id, token="80ab", device=FID, headers=ANN):
    return client.post(f"/tasks/{request_id}/live-activity", json={"token": token, "device": device}, headers=headers)


def end(client, request_id, headers=ANN, **kwargs):
    return client.delete(f"/tasks/{request_id}/live-activity", headers=headers, **kwargs)


def tokens(studio, request_id):
    return {device.value for device in studio.state.store.devices(request_id=request_id)}


@pytest.mark.parametrize(
    ("device", "kept"),
    [
        (FID, {"kind": "fid", "value": FID}),
        (TOKEN, {"kind": "fcm_token", "value": TOKEN}),
        ({"kind": "fid", "value": FID}, {"kind": "fid", "value": FID}),
        ({"kind": "fcm_token", "value": FID}, {"kind": "fcm_token", "value": FID}),
    ],
)
def test_an_activity_is_kept_with_the_task_and_the_device_it_is_on(client, studio, running, device, kept):
    answer = start(client, running, device=device)

    assert (answer.status_code, answer.data) == (204, b"")
    (activity,) = studio.state.store.devices(request_id=running)
    assert (activity.kind, activity.value, activity.owner) == (LIVE_ACTIVITY, "80ab", "ann")
    assert activity.details == {"device": kept}
    assert studio.state.store.devices(owner="ann") == []


def test_a_newer_token_of_the_same_device_replaces_the_older(client, studio, running):
    start(client, running, "80ab")
    start(client, running, "9911", device=TOKEN)

    start(client, running, "4e2f")

    assert tokens(studio, running) == {"9911", "4e2f"}


def test_of_too_many_activities_the_oldest_make_room(client, studio, running):
    for n in range(5):
        start(client, running, f"token-{n}", device=f"device-{n}")

    assert tokens(studio, running) == {"token-2", "token-3", "token-4"}


def test_one_activity_is_forgotten_or_all(client, studio, running):
    for n in range(3):
        start(client, running, f"token-{n}", device=f"device-{n}")

    assert end(client, running, json={"token": "token-1"}).status_code == 204
    assert tokens(studio, running) == {"token-0", "token-2"}
    assert end(client, running, json={"token": "token-1"}).status_code == 204
    assert end(client, running).status_code == 204
    assert tokens(studio, running) == set()


def test_a_token_is_of_one_task(client, studio, running):
    other = client.post("/wait", json={"gate": "gate"}, headers=ANN).headers["Task-Id"]
    start(client, running)
    start(client, other)

    end(client, other, json={"token": "80ab"})

    assert (tokens(studio, running), tokens(studio, other)) == ({"80ab"}, set())


def test_a_task_that_has_ended_has_no_activity(client, studio):
    request_id = studio.done(headers=ANN)

    assert problem(start(client, request_id), "transition-refused")["task_status"] == "completed"
    assert tokens(studio, request_id) == set()
    assert end(client, request_id).status_code == 204


def test_an_activity_of_a_task_that_ends_meanwhile_is_not_kept(client, studio, monkeypatch):
    """What the end is told to was read before the token was there: nobody would end that activity."""
    store = studio.state.store
    request_id = client.post("/wait", json={"gate": "gate"}, headers=ANN).headers["Task-Id"]
    save = store.save_device

    def end_and_save(device, **kwargs):
        studio.open("gate")
        studio.finish(request_id)
        return save(device, **kwargs)

    monkeypatch.setattr(store, "save_device", end_and_save)

    problem(start(client, request_id), "transition-refused")
    assert tokens(studio, request_id) == set()


def test_activities_are_for_the_owner_of_the_task(client, studio, running):
    start(client, running)

    for headers in (BOB, {}):
        problem(start(client, running, "stolen", headers=headers), "task-not-found")
        problem(end(client, running, headers=headers), "task-not-found")
    assert tokens(studio, running) == {"80ab"}


def test_without_a_login_who_knows_the_id_may(tmp_path):
    studio = make("memory://", tmp_path)
    request_id = studio.running()

    assert start(studio.app.test_client(), request_id).status_code == 204

    assert tokens(studio, request_id) == {"80ab"}
    studio.open("gate")
    studio.state.close(grace=PATIENCE)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"device": FID}, "token"),
        ({"token": "", "device": FID}, "token"),
        ({"token": "a b", "device": FID}, "token"),
        ({"token": 7, "device": FID}, "token"),
        ({"token": "80ab"}, "device"),
        ({"token": "80ab", "device": ""}, "device"),
        ({"token": "80ab", "device": "x" * 4097}, "device"),
        ({"token": "80ab", "device": {"kind": "webpush", "value": "https://x.example/"}}, "device.kind"),
        ({"token": "80ab", "device": {"kind": "fid"}}, "value"),
        ({"token": "80ab", "device": {"kind": "fid", "value": FID, "id": "x"}}, "'id'"),
        ({"token": "80ab", "device": FID, "activity": "x"}, "'activity'"),
    ],
)
def test_what_is_wrong_with_an_activity_is_named(client, studio, running, body, names):
    answer = client.post(f"/tasks/{running}/live-activity", json=body, headers=ANN)

    assert names in problem(answer, "invalid-body")["detail"]
    assert tokens(studio, running) == set()


def test_an_activity_is_json_and_says_so(client, running):
    body = json.dumps({"token": "80ab", "device": FID})

    answer = client.post(f"/tasks/{running}/live-activity", data=body, headers=ANN, content_type="text/plain")

    problem(answer, "unsupported-media-type")
    problem(end(client, running, json={"tokens": []}), "invalid-body")


def test_no_token_is_in_an_answer_or_a_log(client, studio, running, caplog):
    caplog.set_level(logging.DEBUG)
    answers = [
        start(client, running, "secret-token"),
        start(client, running, "secret-token", device={"kind": "x", "value": "secret-value"}),
        client.get(f"/tasks/{running}", headers=ANN),
        client.get("/tasks", headers=ANN),
        client.get("/tasks/devices", headers=ANN),
        end(client, running, json={"token": "secret-token"}),
    ]

    assert all("secret" not in answer.text for answer in answers)
    assert "secret" not in caplog.text


def test_the_links_of_a_task_lead_here(client, studio, running):
    links = client.get(f"/tasks/{running}", headers=ANN).json["links"]

    assert client.post(links["live_activity"], json={"token": "80ab", "device": FID}, headers=ANN).status_code == 204
    assert client.post(links["mute"], headers=ANN).status_code == 204
    assert studio.state.store.transition(running, RequestCancel()).task.muted_at is not None
