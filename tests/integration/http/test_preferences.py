"""Preferences and muted tasks over HTTP, and the push that they keep back."""

import json

import pytest

from flask_bgtasks.core.preferences import Preferences
from tests.support.http_app import with_owners
from tests.support.problems import problem
from tests.support.waiting import until

ANN, BOB = {"X-User": "ann"}, {"X-User": "bob"}
DEFAULTS = {"kinds": ["completed", "failed", "cancelled", "progress"], "quiet_hours": None, "muted": []}
NIGHT = {"from": "22:00", "to": "07:00", "time_zone": "Europe/Berlin", "then": "hold"}


@pytest.fixture
def studio_settings():
    return {"sinks": ["memory"]}


@pytest.fixture
def studio(studio):
    with_owners(studio)

    @studio.app.post("/lesson")
    @studio.bgtasks.background(notify="Your lesson is ready")
    def lesson():
        return {}

    @studio.app.post("/slow")
    @studio.bgtasks.background(notify="It took a while")
    def slow():
        studio.stop_at("slow")
        return {}

    return studio


def save(client, document, headers=ANN):
    return client.put("/tasks/preferences", json=document, headers=headers)


def load(client, headers=ANN):
    return client.get("/tasks/preferences", headers=headers).json


def told(studio, *, of=1):
    """Who was notified, once this many ends were delivered and nothing is pending any more."""
    sink, store = studio.state.plugins.get("memory"), studio.state.store
    until(lambda: sum(event.type.terminal for _, event in sink.events) >= of and not store.stats().deliveries_pending)
    return [notification.owner for notification in sink.notifications]


def test_without_any_everything_is_wanted(client):
    assert load(client) == DEFAULTS


def test_preferences_are_read_as_they_were_saved(client):
    wanted = {"kinds": ["completed", "failed"], "quiet_hours": NIGHT, "muted": ["digest", "report"]}

    answer = save(client, wanted)

    assert (answer.status_code, answer.json) == (200, wanted)
    assert load(client) == wanted
    assert load(client, BOB) == DEFAULTS


def test_what_is_left_out_is_as_it_is_without_any(client):
    save(client, {"kinds": ["failed"], "quiet_hours": {**NIGHT, "then": "drop"}})

    save(client, {"muted": ["report"]})

    assert load(client) == {**DEFAULTS, "muted": ["report"]}


@pytest.mark.parametrize(
    ("document", "names"),
    [
        ({"sound": False}, "sound"),
        ({"kinds": "completed"}, "kinds"),
        ({"kinds": ["done"]}, "done"),
        ({"muted": [""]}, "muted"),
        ({"muted": ["x"] * 101}, "muted"),
        ({"muted": ["a\x00b"]}, "muted"),
        ({"muted": ["\ud800"]}, "muted"),
        ({"quiet_hours": "night"}, "quiet_hours"),
        ({"quiet_hours": {**NIGHT, "from": "25:00"}}, "quiet_hours.from"),
        ({"quiet_hours": {**NIGHT, "time_zone": "Mars/Olympus"}}, "quiet_hours.time_zone"),
        ({"quiet_hours": {**NIGHT, "then": "wake"}}, "quiet_hours.then"),
    ],
)
def test_what_is_wrong_in_preferences_is_named_and_nothing_is_saved(client, document, names):
    assert names in problem(save(client, document), "invalid-body")["detail"]
    assert load(client) == DEFAULTS


def test_preferences_are_json_and_say_so(client):
    body = json.dumps({"kinds": []})

    problem(
        client.put("/tasks/preferences", data=body, headers=ANN, content_type="text/plain"), "unsupported-media-type"
    )
    assert load(client) == DEFAULTS


def test_what_was_saved_is_what_a_push_is_held_against(client, studio):
    save(client, {"quiet_hours": NIGHT})

    stored = studio.state.store.load_preferences("ann")

    assert Preferences.from_document(stored).quiet_hours.zone == "Europe/Berlin"


def test_who_wants_no_word_of_completion_gets_none(client, studio):
    save(client, {"kinds": ["failed"]})

    studio.done("/lesson", headers=ANN)
    studio.done("/lesson", headers=BOB)

    assert told(studio, of=2) == ["bob"]


# -- muting one task ---------------------------------------------------------------------------------------------------


def test_a_task_is_muted_and_not_muted_however_often_it_is_said(client, studio):
    request_id = studio.running()
    answer = client.post(f"/tasks/{request_id}/mute")

    assert (answer.status_code, answer.data) == (204, b"")
    assert studio.state.store.get(request_id).muted_at is not None
    assert client.post(f"/tasks/{request_id}/mute").status_code == 204
    assert client.delete(f"/tasks/{request_id}/mute").status_code == 204
    assert studio.state.store.get(request_id).muted_at is None
    assert client.delete(f"/tasks/{request_id}/mute").status_code == 204


def test_a_task_is_muted_by_its_owner_only(client, studio):
    request_id = studio.done(headers=ANN)

    for headers in (BOB, {}):
        for method in ("POST", "DELETE"):
            problem(client.open(f"/tasks/{request_id}/mute", method=method, headers=headers), "task-not-found")
    assert studio.state.store.get(request_id).muted_at is None
    assert client.post(f"/tasks/{request_id}/mute", headers=ANN).status_code == 204


def test_muting_leaves_the_version_as_it_was(client, studio):
    path = f"/tasks/{studio.done(headers=ANN)}"
    before = client.get(path, headers=ANN)

    client.post(f"{path}/mute", headers=ANN)
    client.post(f"{path}/seen", headers=ANN)

    after = client.get(path, headers=ANN)
    assert (after.headers["ETag"], after.data) == (before.headers["ETag"], before.data)


@pytest.mark.parametrize(("calls", "expected"), [(["POST"], []), (["POST", "DELETE"], ["ann"])])
def test_of_a_task_that_is_muted_nobody_is_told(client, studio, calls, expected):
    request_id = client.post("/slow", headers=ANN).headers["Task-Id"]
    for method in calls:
        client.open(f"/tasks/{request_id}/mute", method=method, headers=ANN)

    studio.open("slow")

    assert told(studio) == expected
