"""Devices over HTTP: registering, listing and forgetting them, by their owner, by a stranger, by nobody."""

import json
import logging
from datetime import timedelta

import pytest

from flask_bgtasks import hookimpl
from flask_bgtasks.core.devices import LIVE_ACTIVITY, make_device
from tests.support.http_app import PATIENCE, make, with_owners
from tests.support.http_devices import FID, TOKEN, register
from tests.support.problems import problem

ANN, BOB = {"X-User": "ann"}, {"X-User": "bob"}
KEYS = {"p256dh": "BNcRdreALRFXTkOOUHK1EtK2wtaz5Ry4YfYCA_0QTpQtUbVlUls0VJXg7A8u-Ts1XbjhazAkj7I99e8QcYP7DkM"}
KEYS["auth"] = "tBHItJI5svbpez7KI4CCXg"  # both are the example's in RFC 8291, section 5
SUBSCRIPTION = {"endpoint": "https://push.example.net/push/JzLQ3raZJfFBR0aqvOMsLrt54w4rJUsV", "keys": KEYS}


@pytest.fixture
def studio_settings():
    return {"max_devices_per_owner": 3}


@pytest.fixture
def studio(studio):
    return with_owners(studio)


@pytest.fixture(scope="module", params=["memory://", "sqlite:///tasks.sqlite3"])
def empty_studio(request, tmp_path_factory):
    """One for all tests that leave it empty."""
    made = with_owners(make(request.param, tmp_path_factory.mktemp("devices")))
    yield made
    made.state.close(grace=PATIENCE)


def listed(client, headers=ANN):
    return client.get("/tasks/devices", headers=headers).json["devices"]


def stored(studio, owner="ann"):
    return {device.value: device for device in studio.state.store.devices(owner=owner)}


# -- registering -------------------------------------------------------------------------------------------------------


def test_a_device_is_registered_and_its_address_is_not_repeated(client, studio):
    answer = register(client, platform="ios", app="com.example.lessons/3.1", lang="pt-BR")

    assert answer.status_code == 201
    document = answer.json
    assert document == {
        "id": document["id"],
        "kind": "fid",
        "platform": "ios",
        "app": "com.example.lessons/3.1",
        "lang": "pt-BR",
        "created_at": document["created_at"],
        "seen_at": document["seen_at"],
    }
    assert answer.headers["Location"] == f"/tasks/devices/{document['id']}"
    assert answer.headers["Cache-Control"] == "no-store"
    assert FID not in answer.text
    assert stored(studio)[FID].owner == "ann"


def test_a_device_that_is_known_is_seen_again(client, studio):
    first = register(client, platform="ios").json
    studio.advance(timedelta(hours=1))

    again = register(client)

    assert again.status_code == 200
    assert (again.json["id"], again.json["created_at"]) == (first["id"], first["created_at"])
    assert again.json["seen_at"] > first["seen_at"]
    assert len(listed(client)) == 1


def test_what_is_left_out_stays_as_it_was_known(client):
    register(client, platform="ios", app="lessons", lang="de")

    known = register(client, lang="fr", platform=None).json

    assert (known["platform"], known["app"], known["lang"]) == ("ios", "lessons", "fr")


@pytest.mark.parametrize(
    ("header", "lang"),
    [("pt-BR,pt;q=0.9,en;q=0.8", "pt-BR"), ("en;q=0.5, de", "de"), ("*", None), ("not a language", None), ("", None)],
)
def test_the_language_of_the_request_counts_where_no_other_is_known(client, header, lang):
    spoken = {**ANN, "Accept-Language": header}

    assert register(client, headers=spoken).json["lang"] == lang
    assert register(client, headers=spoken, lang="it").json["lang"] == "it"
    assert register(client, headers=spoken).json["lang"] == "it"


def test_a_registration_token_is_taken_as_well(client, studio):
    assert register(client, TOKEN, "fcm_token").status_code == 201
    assert stored(studio)[TOKEN].kind == "fcm_token"


def test_a_firebase_installation_id_replaces_its_installations_token(client, studio):
    register(client, TOKEN, "fcm_token", platform="android")

    answer = register(client, FID)

    assert (answer.status_code, answer.json["platform"]) == (201, "android")
    assert list(stored(studio)) == [FID]


def test_a_subscription_is_kept_with_its_keys(client, studio):
    answer = register(client, {**SUBSCRIPTION, "expirationTime": None}, "webpush", platform="web")

    assert answer.status_code == 201
    assert SUBSCRIPTION["endpoint"] not in answer.text
    assert stored(studio)[SUBSCRIPTION["endpoint"]].details == {"keys": KEYS}


def test_keys_may_have_their_padding(client, studio):
    padded = {"p256dh": KEYS["p256dh"] + "=", "auth": KEYS["auth"] + "=="}

    assert register(client, {**SUBSCRIPTION, "keys": padded}, "webpush").status_code == 201
    assert stored(studio)[SUBSCRIPTION["endpoint"]].details == {"keys": KEYS}


def test_a_device_on_which_somebody_else_logs_in_is_theirs(client):
    anns = register(client, TOKEN, "fcm_token", platform="ios").json

    bobs = register(client, TOKEN, "fcm_token", headers=BOB)

    assert (bobs.status_code, bobs.json["id"]) == (200, anns["id"])
    assert listed(client, ANN) == []
    assert [device["id"] for device in listed(client, BOB)] == [anns["id"]]


@pytest.mark.parametrize("before", [{"token": TOKEN}, {"value": TOKEN, "kind": "fcm_token"}])
def test_an_installation_on_which_somebody_else_logs_in_is_theirs_by_its_token(client, before):
    register(client, **before)

    bobs = register(client, token=TOKEN, headers=BOB)

    assert bobs.status_code == 201
    assert listed(client, ANN) == []
    assert [device["id"] for device in listed(client, BOB)] == [bobs.json["id"]]


@pytest.mark.parametrize(
    "guess",
    [
        {},
        {"token": FID + ":made-up"},
        {"token": FID},
        {"value": FID + ":made-up", "kind": "fcm_token"},
        {"value": FID, "kind": "fcm_token"},
    ],
)
def test_who_knows_an_installations_id_does_not_disconnect_its_owner(client, guess):
    anns = register(client, token=TOKEN).json

    bobs = register(client, headers=BOB, **guess).json

    assert listed(client, ANN) == [anns]
    assert listed(client, BOB) == [bobs]
    problem(client.delete(f"/tasks/devices/{anns['id']}", headers=BOB), "device-not-found")
    assert client.delete(f"/tasks/devices/{bobs['id']}", headers=BOB).status_code == 204
    assert listed(client, ANN) == [anns]


def test_a_token_that_was_once_shown_counts_until_there_is_a_newer_one(client):
    register(client, token=TOKEN)
    register(client, lang="de")

    register(client, token=TOKEN, headers=BOB)
    assert listed(client, ANN) == []
    register(client, token=TOKEN + "2", headers=BOB)
    register(client, token=TOKEN)

    assert len(listed(client, BOB)) == 1


def test_the_token_that_a_firebase_installation_id_replaces_is_remembered(client):
    register(client, TOKEN, "fcm_token")
    register(client)

    register(client, TOKEN, "fcm_token", headers=BOB)

    assert listed(client, ANN) == []


def test_of_a_token_beside_an_installations_id_only_a_hash_is_kept(client, studio):
    register(client, token=TOKEN)

    (device,) = stored(studio).values()

    assert TOKEN[len(FID) + 1 :] not in json.dumps(dict(device.details))


def test_an_earlier_address_of_the_device_is_forgotten_where_it_is_named(client, studio):
    old = register(client, "old", "fcm_token").json["id"]
    kept = register(client, "other", "fcm_token").json["id"]

    new = register(client, "new", "fcm_token", replaces=old).json["id"]

    assert {device["id"] for device in listed(client)} == {new, kept}


def test_nobody_replaces_somebody_elses_device(client):
    anns = register(client, "anns", "fcm_token").json["id"]

    register(client, "bobs", "fcm_token", headers=BOB, replaces=anns)

    assert [device["id"] for device in listed(client)] == [anns]


def test_of_too_many_devices_the_one_unseen_for_longest_makes_room(client, studio):
    ids = []
    for n in range(5):
        studio.advance(timedelta(seconds=1))
        ids.append(register(client, f"token-{n}", "fcm_token").json["id"])

    assert [device["id"] for device in listed(client)] == ids[:1:-1]  # the last seen first


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({}, "kind"),
        ({"kind": "fid"}, "value"),
        ({"kind": "fid", "value": ""}, "value"),
        ({"kind": "fid", "value": None}, "value"),
        ({"kind": "fid", "value": 7}, "value"),
        ({"kind": "fid", "value": ["x"]}, "value"),
        ({"kind": "fid", "value": "x" * 4097}, "value"),
        ({"kind": "fcm_token", "value": "a\nb"}, "value"),
        ({"kind": "fcm_token", "value": "a\x00b"}, "value"),
        ({"kind": "fcm_token", "value": "ab\n"}, "value"),
        ({"kind": "fcm_token", "value": "\ud800"}, "value"),
        ({"kind": "fcm_token", "value": SUBSCRIPTION}, "value"),
        ({"kind": "apns", "value": "x"}, "kind"),
        ({"kind": "live_activity", "value": "x"}, "kind"),
        ({"kind": ["fid"], "value": "x"}, "kind"),
        ({"kind": {}, "value": "x"}, "kind"),
        ({"kind": "fid", "value": "x", "owner": "bob"}, "owner"),
        ({"kind": "fid", "value": "x", "details": {}, "request_id": "y"}, "details"),
        ({"kind": "fid", "value": "x", "platform": "i o s"}, "platform"),
        ({"kind": "fid", "value": "x", "platform": "x" * 33}, "platform"),
        ({"kind": "fid", "value": "x", "app": "x" * 256}, "app"),
        ({"kind": "fid", "value": "x", "app": 1}, "app"),
        ({"kind": "fid", "value": "x", "lang": "de_DE"}, "lang"),
        ({"kind": "fid", "value": "x", "lang": "x" * 36}, "lang"),
        ({"kind": "fid", "value": "x", "lang": "en" + "-abcdefgh" * 4}, "lang"),
        ({"kind": "fid", "value": "x", "lang": ["de"]}, "lang"),
        ({"kind": "fid", "value": "x", "replaces": "../x"}, "replaces"),
        ({"kind": "fid", "value": "x", "token": "x: y"}, "token"),
        ({"kind": "fid", "value": "x", "token": ""}, "token"),
        ({"kind": "fid", "value": "x", "token": 7}, "token"),
        ({"kind": "fid", "value": "x", "token": ["x:y"]}, "token"),
        ({"kind": "fid", "value": "x", "token": "x" * 4097}, "token"),
        ({"kind": "fcm_token", "value": "x:y", "token": "x:y"}, "token"),
        ({"kind": "webpush", "value": SUBSCRIPTION, "token": "x:y"}, "token"),
        ({"kind": "webpush", "value": "https://push.example.net/x"}, "value"),
        ({"kind": "webpush", "value": {"endpoint": "https://push.example.net/x"}}, "value.keys"),
        ({"kind": "webpush", "value": {"keys": KEYS}}, "value.endpoint"),
        ({"kind": "webpush", "value": {**SUBSCRIPTION, "endpoint": "http://push.example.net/x"}}, "value.endpoint"),
        ({"kind": "webpush", "value": {**SUBSCRIPTION, "endpoint": "https://u:p@push.example.net/"}}, "value.endpoint"),
        ({"kind": "webpush", "value": {**SUBSCRIPTION, "endpoint": "https://localhost/x"}}, "value.endpoint"),
        ({"kind": "webpush", "value": {**SUBSCRIPTION, "endpoint": "https://a.example/ x"}}, "value.endpoint"),
        (
            {"kind": "webpush", "value": {**SUBSCRIPTION, "endpoint": "https://a.example/" + "x" * 4096}},
            "value.endpoint",
        ),
        ({"kind": "webpush", "value": {**SUBSCRIPTION, "keys": {**KEYS, "auth": "c2hvcnQ"}}}, "value.keys.auth"),
        ({"kind": "webpush", "value": {**SUBSCRIPTION, "keys": {**KEYS, "auth": "!" * 22}}}, "value.keys.auth"),
        ({"kind": "webpush", "value": {**SUBSCRIPTION, "keys": {**KEYS, "p256dh": "A" * 87}}}, "value.keys.p256dh"),
        ({"kind": "webpush", "value": {**SUBSCRIPTION, "keys": {"auth": KEYS["auth"]}}}, "value.keys.p256dh"),
    ],
)
def test_what_is_wrong_in_a_registration_is_named(empty_studio, body, names):
    answer = empty_studio.app.test_client().post("/tasks/devices", json=body, headers=ANN)

    assert names in problem(answer, "invalid-body")["detail"]
    assert stored(empty_studio) == {}


def test_every_field_that_there_is_not_is_named(client):
    answer = register(client, secret="x", user="ann")

    assert "'secret', 'user'" in problem(answer, "invalid-body")["detail"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 30_000, b"1" * 10_000])
def test_what_is_no_json_object_is_refused(client, body):
    answer = client.post("/tasks/devices", data=body, content_type="application/json", headers=ANN)

    problem(answer, "invalid-body")


def test_a_huge_body_is_refused(client):
    assert problem(register(client, "x" * 70_000), "payload-too-large")["limit"] == 65536


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_form_on_another_site_could_send_is_refused(client, studio, content_type):
    body = json.dumps({"kind": "fid", "value": FID})

    answer = client.post("/tasks/devices", data=body, content_type=content_type, headers=ANN)

    assert "application/json" in problem(answer, "unsupported-media-type")["detail"]
    assert stored(studio) == {}


def test_a_plugin_may_serve_other_kinds(client, studio):
    class Expo:
        device_kinds = ("expo", LIVE_ACTIVITY)

        @hookimpl
        def bgtasks_send_notification(self, notification, load_devices):
            return []

    with studio.app.app_context():
        studio.bgtasks.register(Expo(), name="expo")

    assert register(client, "ExponentPushToken[x]", "expo").status_code == 201
    problem(register(client, "x", LIVE_ACTIVITY), "invalid-body")


# -- listing and forgetting --------------------------------------------------------------------------------------------


def test_an_owner_sees_their_devices_and_nobody_elses(client):
    anns = register(client, platform="ios").json
    register(client, SUBSCRIPTION, "webpush", headers=BOB)

    answer = client.get("/tasks/devices", headers=ANN)

    assert answer.json == {"devices": [anns], "application_server_key": None}
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_browser_learns_the_key_that_it_subscribes_with(client, studio):
    class WebPush:
        application_server_key = "BPublicKey"

        @hookimpl
        def bgtasks_send_notification(self, notification, load_devices):
            return []

    with studio.app.app_context():
        studio.bgtasks.register(WebPush(), name="webpush")

    assert client.get("/tasks/devices", headers=ANN).json["application_server_key"] == "BPublicKey"


def test_a_device_is_forgotten(client):
    device = register(client).json["id"]

    assert client.delete(f"/tasks/devices/{device}", headers=ANN).status_code == 204
    assert listed(client) == []
    problem(client.delete(f"/tasks/devices/{device}", headers=ANN), "device-not-found")


def test_a_strangers_device_is_404_like_one_that_never_was(client):
    device = register(client).json["id"]
    never = device[::-1]

    answer = client.delete(f"/tasks/devices/{device}", headers=BOB)

    problem(answer, "device-not-found")
    assert answer.text.replace(device, never) == client.delete(f"/tasks/devices/{never}", headers=BOB).text
    assert len(listed(client)) == 1


def test_what_is_for_one_task_is_no_device_of_its_owner(client, studio):
    activity = make_device(LIVE_ACTIVITY, "token", owner="ann", request_id=studio.done(headers=ANN))
    studio.state.store.save_device(activity, max_devices=3)

    assert listed(client) == []
    problem(client.delete(f"/tasks/devices/{activity.id}", headers=ANN), "device-not-found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/devices"),
        ("POST", "/devices"),
        ("DELETE", "/devices/x"),
        ("GET", "/preferences"),
        ("PUT", "/preferences"),
    ],
)
def test_who_is_nobody_is_told_to_log_in_or_to_send_the_token_along(client, tmp_path, method, path):
    without_login = make("memory://", tmp_path / "other")

    for one in (client, without_login.app.test_client()):
        answer = one.open(f"/tasks{path}", method=method, json={"kind": "fid", "value": FID})
        detail = problem(answer, "owner-required")["detail"]
        assert "Log in" in detail
        assert "user_token" in detail
    without_login.state.close(grace=PATIENCE)


def test_devices_and_preferences_are_no_tasks(client):
    for path in ("devices", "preferences"):
        assert client.get(f"/tasks/{path}", headers=ANN).status_code == 200
    for method, path, allow in [
        ("PUT", "devices", "GET, HEAD, POST, OPTIONS"),
        ("DELETE", "devices", "GET, HEAD, POST, OPTIONS"),
        ("GET", "devices/x", "DELETE, OPTIONS"),
        ("GET", "devices/progress", "DELETE, OPTIONS"),
        ("DELETE", "preferences", "GET, HEAD, PUT, OPTIONS"),
    ]:
        answer = client.open(f"/tasks/{path}", method=method, headers=ANN)
        assert (answer.status_code, answer.headers["Allow"]) == (405, allow)


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_no_address_is_in_an_answer_or_a_log(client, studio, caplog):
    caplog.set_level(logging.DEBUG)
    secrets = [FID, "secret-token", TOKEN, SUBSCRIPTION["endpoint"], KEYS["auth"], KEYS["p256dh"]]
    answers = [
        register(client),
        register(client, token=TOKEN),
        register(client, token=TOKEN, headers=BOB),
        register(client, TOKEN, "webpush", token=TOKEN),
        register(client, "secret-token", "fcm_token"),
        register(client, SUBSCRIPTION, "webpush"),
        register(client, "secret-token", "fcm_token", headers=BOB),
        register(client, "secret-token" + "\n", "fcm_token"),
        register(client, "secret-token", "apns"),
        register(client, {**SUBSCRIPTION, "keys": {**KEYS, "auth": KEYS["auth"] + "!"}}, "webpush"),
        client.get("/tasks/devices", headers=ANN),
    ]

    for secret in secrets:
        assert all(secret not in answer.text for answer in answers)
        assert secret not in caplog.text


def test_a_store_that_fails_is_503_and_logs_no_address(client, studio, monkeypatch, caplog):
    from flask_bgtasks.errors import StoreUnavailable

    def fail(*_, **__):
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(studio.state.store, "save_device", fail)

    problem(register(client), "store-unavailable")
    assert FID not in caplog.text
