"""The ``user_token`` of a request for work: registered for the task's owner, with its language, and seldom written."""

import logging
import threading
from datetime import timedelta

import pytest

from flask_bgtasks import hookimpl
from flask_bgtasks.delivery import device_registry
from flask_bgtasks.errors import StoreUnavailable
from tests.support.http_app import PATIENCE, make, with_owners
from tests.support.http_devices import FID, TOKEN, register

ANN, BOB = {"X-User": "ann"}, {"X-User": "bob"}


class Expo:
    """A sink with a kind of addresses of its own."""

    device_kinds = ("expo",)

    def __init__(self):
        self.sent_to = []
        self.given = []  # what a sink finds that looks at no device
        self.langs = []
        self.sent = threading.Event()

    @hookimpl
    def bgtasks_send_notification(self, notification, load_devices):
        devices = load_devices()
        self.sent_to += [(device.kind, device.value) for device in devices]
        self.langs += [device.lang for device in devices]
        self.given.append(notification.user_token)
        self.sent.set()


@pytest.fixture
def studio_settings():
    return {"sinks": [Expo()], "max_devices_per_owner": 3}


@pytest.fixture
def studio(studio):
    with_owners(studio)

    @studio.app.post("/lesson")
    @studio.bgtasks.background(notify="Your lesson is ready")
    def lesson():
        return {}

    @studio.app.post("/slow-lesson")
    @studio.bgtasks.background(notify="Your lesson is ready")
    def slow_lesson():
        studio.stop_at("lesson")
        return {}

    return studio


@pytest.fixture
def writes(studio, monkeypatch):
    """What was written to the store, device by device."""
    written, save = [], studio.state.store.save_device

    def save_device(device, **kwargs):
        written.append(device)
        return save(device, **kwargs)

    monkeypatch.setattr(studio.state.store, "save_device", save_device)
    return written


def ask(client, token=FID, headers=ANN, **fields):
    answer = client.post("/process", json={"input_text": "x", "user_token": token, **fields}, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.headers["Task-Id"]


def devices(studio, owner="ann"):
    return list(studio.state.store.devices(owner=owner))


def later(studio, monkeypatch, *, seconds=device_registry.MOMENT_SECONDS + 1):
    """What this process has registered is no longer of this moment."""
    clock = device_registry.time.monotonic
    monkeypatch.setattr(device_registry.time, "monotonic", lambda: clock() + seconds)


@pytest.mark.parametrize(("token", "kind"), [(FID, "fid"), (TOKEN, "fcm_token"), ("x", "fcm_token")])
def test_the_token_of_a_request_is_registered_for_its_owner(client, studio, token, kind):
    request_id = ask(client, token)

    (device,) = devices(studio)
    assert (device.kind, device.value, device.owner) == (kind, token, "ann")
    assert studio.state.store.get(request_id).user_token == token


def test_the_token_of_a_form_is_too(client, studio):
    client.post("/odd", data={"user_token": FID, "lang": "de"}, headers=ANN)

    assert [(device.value, device.lang) for device in devices(studio)] == [(FID, "de")]


def test_the_token_of_a_submitted_function_is_too(studio):
    @studio.bgtasks.task(name="generate")
    def generate():
        return None

    with studio.app.app_context():
        generate.submit(owner="ann", user_token=FID)

    assert [device.value for device in devices(studio)] == [FID]


def test_the_token_of_tracked_code_is_too(studio):
    with studio.app.app_context(), studio.bgtasks.track_request("by hand", owner="ann", user_token=FID):
        assert [device.value for device in devices(studio)] == [FID]


def test_without_an_owner_it_is_for_its_task_only(client, studio, writes):
    request_id = ask(client, headers={})

    assert studio.state.store.get(request_id).user_token == FID
    assert writes == []


@pytest.mark.parametrize(
    ("said", "header", "lang"),
    [
        ("pt-BR", "de", "pt-BR"),
        (None, "de-AT,de;q=0.9", "de-AT"),
        ("not a tag", "de", "de"),
        (["de"], "", None),
        (None, "*", None),
    ],
)
def test_the_language_is_the_one_that_is_said_or_that_the_request_asks_for(client, studio, said, header, lang):
    ask(client, lang=said, headers={**ANN, "Accept-Language": header})

    assert [device.lang for device in devices(studio)] == [lang]


def test_a_kind_that_is_said_counts_where_there_is_one(client, studio):
    ask(client, "ExponentPushToken[x]", user_token_kind="expo")
    ask(client, "a", user_token_kind="fid")
    ask(client, "b", user_token_kind="webpush")  # takes keys, which are not there

    kinds = {device.value: device.kind for device in devices(studio)}
    assert kinds == {"ExponentPushToken[x]": "expo", "a": "fid", "b": "fcm_token"}


@pytest.mark.parametrize("token", ["a\nb", "a\x00b", "\ud800", "x" * 4097, "", 7, None, {"value": "x"}])
def test_what_is_no_address_counts_as_none_and_refuses_nothing(client, studio, writes, token):
    request_id = ask(client, token)

    assert studio.state.store.get(request_id).user_token is None
    assert writes == []


@pytest.mark.parametrize("depth", [100, 50_000])
def test_a_body_that_is_nested_without_an_end_has_no_address_and_is_not_refused(client, studio, depth):
    body = f'{{"user_token":{"[" * depth}{"]" * depth}}}'
    answer = client.post("/process", data=body, content_type="application/json", headers=ANN)

    assert answer.status_code == 202
    assert studio.state.store.get(answer.headers["Task-Id"]).user_token is None


def test_what_is_known_of_the_device_stays_known(client, studio):
    register(client, platform="ios", app="lessons", lang="de")

    ask(client, headers={**ANN, "Accept-Language": "en"})

    (device,) = devices(studio)
    assert (device.platform, device.app, device.lang) == ("ios", "lessons", "de")


def test_another_language_is_taken_note_of_at_once(client, studio):
    ask(client, lang="de")

    ask(client, lang="fr")

    assert [device.lang for device in devices(studio)] == ["fr"]


# -- how often it is written -------------------------------------------------------------------------------------------


def test_requests_that_follow_each_other_ask_the_store_for_nothing(client, studio, writes, monkeypatch):
    ask(client, lang="de")

    def find_device(device_id):
        raise AssertionError("the store was asked")

    monkeypatch.setattr(studio.state.store, "find_device", find_device)
    for _ in range(3):
        ask(client, lang="de")
        ask(client)

    assert len(writes) == 1


def test_a_token_is_written_once_a_day(client, studio, writes, monkeypatch):
    ask(client)
    later(studio, monkeypatch)
    studio.advance(timedelta(hours=23))
    ask(client)
    assert len(writes) == 1

    later(studio, monkeypatch)
    studio.advance(timedelta(hours=2))
    ask(client)

    assert len(writes) == 2


def test_a_device_on_which_somebody_else_logs_in_is_theirs_at_once(client, studio):
    ask(client, TOKEN, headers=ANN)
    ask(client, TOKEN, headers=BOB)
    assert (devices(studio, "ann"), len(devices(studio, "bob"))) == ([], 1)

    ask(client, TOKEN, headers=ANN)

    assert (len(devices(studio, "ann")), devices(studio, "bob")) == (1, [])


def test_an_installation_that_comes_back_to_its_owner_is_registered_at_once(client, studio):
    register(client, token=TOKEN)
    ask(client, FID)
    register(client, token=TOKEN, headers=BOB)
    assert devices(studio) == []

    ask(client, FID)
    register(client, token=TOKEN)

    assert (len(devices(studio, "ann")), devices(studio, "bob")) == (1, [])


def test_a_device_that_another_process_gave_to_somebody_else_comes_back_within_a_moment(
    client, studio, tmp_path, monkeypatch
):
    other = with_owners(make("memory://", tmp_path / "other"))
    monkeypatch.setattr(other.state.device_registry, "_store", studio.state.store)  # as two processes share one
    ask(client, TOKEN, headers=ANN)
    other.state.device_registry.note(studio.state.store.get(ask(client, TOKEN, headers=BOB)))
    assert devices(studio, "ann") == []

    later(studio, monkeypatch)
    ask(client, TOKEN, headers=ANN)

    assert (len(devices(studio, "ann")), devices(studio, "bob")) == (1, [])
    other.state.close(grace=PATIENCE)


def test_a_device_that_was_forgotten_is_registered_by_the_next_request(client, studio):
    ask(client)
    client.delete(f"/tasks/devices/{devices(studio)[0].id}", headers=ANN)
    assert devices(studio) == []

    ask(client)

    assert len(devices(studio)) == 1


def test_a_new_token_of_an_installation_replaces_the_one_before(client, studio):
    ask(client, TOKEN, lang="de")

    ask(client, TOKEN + "2")

    assert [(device.value, device.lang) for device in devices(studio)] == [(TOKEN + "2", "de")]


def test_an_installation_that_has_moved_to_its_id_is_not_put_back_to_its_token(client, studio, writes):
    register(client, FID, platform="android")
    writes.clear()

    for _ in range(3):
        ask(client, TOKEN)

    assert [(device.value, device.platform) for device in devices(studio)] == [(FID, "android")]
    assert [device.value for device in writes] == [FID]  # once: that its client has the token


def test_the_token_of_a_request_shows_whose_an_installation_is(client, studio):
    register(client, FID)
    ask(client, TOKEN)

    ask(client, TOKEN, headers=BOB)
    assert (devices(studio, "ann"), len(devices(studio, "bob"))) == ([], 1)
    register(client, FID, headers=BOB)
    register(client, TOKEN, "fcm_token")

    assert (len(devices(studio, "ann")), devices(studio, "bob")) == (1, [])


@pytest.mark.parametrize("guess", [FID, FID + ":made-up", FID + ":"])
def test_a_request_with_somebodys_installation_id_does_not_disconnect_them(client, studio, guess):
    ask(client, TOKEN)
    ask(client, guess, headers=BOB)
    assert [device.value for device in devices(studio)] == [TOKEN]
    register(client, token=TOKEN)

    ask(client, guess, headers=BOB)

    assert [device.value for device in devices(studio)] == [FID]


def test_what_is_remembered_of_tokens_is_bounded(client, studio, monkeypatch):
    asked, find = [], studio.state.store.find_device
    monkeypatch.setattr(
        studio.state.store, "find_device", lambda device_id: (asked.append(device_id), find(device_id))[1]
    )
    monkeypatch.setattr(device_registry, "MAX_REMEMBERED", 2)
    for token in ("a", "b", "c"):
        ask(client, token)
    asked.clear()

    ask(client, "c")
    ask(client, "b")
    assert asked == []
    ask(client, "a")
    assert len(asked) == 1


# -- what must not happen ----------------------------------------------------------------------------------------------


def test_a_token_that_cannot_be_registered_is_logged_without_it_and_the_task_runs(client, studio, monkeypatch, caplog):
    def fail(device, **_):
        raise StoreUnavailable(f"no room for {device.value}")

    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(studio.state.store, "save_device", fail)

    request_id = studio.finish(ask(client, "secret-token"))

    assert studio.state.store.get(request_id).status.value == "completed"
    assert f"the user_token of task {request_id} could not be registered for its owner: StoreUnavailable" in caplog.text
    assert "secret-token" not in caplog.text


def test_no_token_is_in_an_answer_or_a_log(client, studio, caplog):
    caplog.set_level(logging.DEBUG)
    request_id = studio.finish(ask(client, "secret-token"))

    for path in ("", "/progress", "/events", "/result"):
        assert "secret-token" not in client.get(f"/tasks/{request_id}{path}", headers=ANN).text
    for path in ("/tasks", "/tasks/devices", f"/tasks?ids={request_id}"):
        assert "secret-token" not in client.get(path, headers=ANN).text
    assert "secret-token" not in caplog.text


def test_a_form_on_another_site_registers_no_address_for_its_visitor(client, studio):
    """With the visitor's cookies it would have all of their notifications sent to an address of its own."""
    form = {"data": {"user_token": "stranger"}, "headers": {**ANN, "Sec-Fetch-Site": "cross-site"}}

    request_id = client.post("/odd", **form).headers["Task-Id"]

    assert devices(studio) == []
    assert studio.state.store.get(request_id).user_token == "stranger"
    form["headers"]["Sec-Fetch-Site"] = "same-origin"
    client.post("/odd", **form)
    assert [device.value for device in devices(studio)] == ["stranger"]


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ({}, True),  # no browser
        ({"Origin": "http://localhost"}, True),
        ({"Origin": "https://localhost"}, True),  # TLS ends at the proxy
        ({"Referer": "http://localhost/page?x=http://evil.example"}, True),
        ({"Sec-Fetch-Site": "none", "Origin": "null"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://localhost.evil.example"}, False),
        ({"Origin": "http://localhost:8080"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, True),
        ({"Referer": "http://evil.example/localhost"}, False),
        ({"Referer": "http://evil.example?http://localhost"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://blog.localhost"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://app.example.com"}, True),  # named in BGTASKS_CORS_ORIGINS
    ],
)
@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_form_of_another_origin_registers_no_address(client, studio, headers, kept, content_type):
    object.__setattr__(studio.state.settings, "cors_origins", ("https://app.example.com/", "*"))
    form = {"data": {"user_token": "stranger"}, "headers": {**ANN, **headers}, "content_type": content_type}

    client.post("/odd", **form)

    assert bool(devices(studio)) == kept


@pytest.mark.parametrize(
    ("host", "origin"),
    [("my_app:5000", "null"), ("my_app", "about:blank"), ("[::1", "file://"), ("a b", "null"), ("", "https://")],
)
def test_where_the_apps_own_host_is_not_known_every_origin_is_another(client, studio, host, origin):
    """Werkzeug knows no host with an underscore in it, and calls it an empty one."""
    client.post("/odd", data={"user_token": "stranger"}, headers={**ANN, "Host": host, "Origin": origin})

    assert devices(studio) == []


def test_an_address_that_is_registered_is_not_told_of_its_own_task_twice(client, studio):
    answer = client.post("/lesson", json={"user_token": "ExponentPushToken[x]", "user_token_kind": "expo"}, headers=ANN)
    assert answer.status_code == 202

    sink = studio.state.plugins.get("Expo")

    assert sink.sent.wait(PATIENCE)
    assert sink.sent_to == [("expo", "ExponentPushToken[x]")]


# -- whose it is when the task ends ------------------------------------------------------------------------------------


def start_slowly(client, studio, token=FID, headers=ANN, **kwargs):
    """A task with this token, which runs until the gate is opened."""
    body = kwargs or {"json": {"user_token": token}}
    assert client.post("/slow-lesson", **body, headers=headers).status_code == 202
    assert studio.reached["lesson"].wait(PATIENCE)


def told(studio):
    """Which addresses were told of it, as a sink finds them in either way."""
    studio.open("lesson")
    sink = studio.state.plugins.get("Expo")
    assert sink.sent.wait(PATIENCE)
    return [value for _, value in sink.sent_to], sink.given


@pytest.mark.parametrize(("token", "taken"), [(FID, FID), (TOKEN, TOKEN), (TOKEN, FID), (FID, TOKEN)])
def test_an_address_that_somebody_else_has_taken_over_is_not_told(client, studio, token, taken):
    if token == FID:
        register(client, token=TOKEN)
    start_slowly(client, studio, token)

    if taken == FID:
        register(client, token=TOKEN, headers=BOB)
    else:
        register(client, TOKEN, "fcm_token", headers=BOB)

    assert told(studio) == ([], [None])


@pytest.mark.parametrize("guess", [{}, {"token": FID + ":x"}, {"value": FID + ":x", "kind": "fcm_token"}])
@pytest.mark.parametrize("token", [FID, TOKEN])
def test_an_installation_whose_id_somebody_else_knows_is_told(client, studio, token, guess):
    start_slowly(client, studio, token)

    register(client, headers=BOB, **guess)

    assert told(studio) == ([token], [token])


def test_an_address_that_its_owner_has_signed_off_is_not_told(client, studio):
    start_slowly(client, studio)

    client.delete(f"/tasks/devices/{devices(studio)[0].id}", headers=ANN)

    assert told(studio) == ([], [None])


def test_an_address_whose_owner_came_back_is_told(client, studio):
    register(client, token=TOKEN)
    start_slowly(client, studio)

    register(client, token=TOKEN, headers=BOB)
    register(client, token=TOKEN, headers=ANN)

    assert told(studio) == ([FID], [FID])


def test_an_installation_that_has_moved_to_its_id_is_told_there(client, studio):
    start_slowly(client, studio, TOKEN)

    register(client, FID)

    assert told(studio)[0] == [FID]


def test_an_address_that_could_not_be_registered_is_told_of_its_own_task(client, studio, monkeypatch):
    def fail(device, **_):
        raise StoreUnavailable("no room")

    with monkeypatch.context() as patched:
        patched.setattr(studio.state.store, "save_device", fail)
        start_slowly(client, studio)

    assert told(studio) == ([FID], [FID])


def test_an_address_that_is_kept_for_one_task_is_not_told_once_it_is_somebody_elses(client, studio):
    form = {"data": {"user_token": TOKEN}}
    start_slowly(client, studio, headers={**ANN, "Sec-Fetch-Site": "cross-site"}, **form)

    register(client, TOKEN, "fcm_token", headers=BOB)

    assert told(studio) == ([], [None])


def test_a_task_of_nobody_is_told_where_it_was_asked_for_whoever_has_logged_in_there(client, studio):
    start_slowly(client, studio, headers={})

    register(client, headers=BOB)

    assert told(studio) == ([FID], [FID])


def test_it_is_registered_before_anyone_can_run_the_task(client, studio, monkeypatch):
    seen, create = [], studio.state.store.create

    def look(*args, **kwargs):
        seen.extend(devices(studio))
        return create(*args, **kwargs)

    monkeypatch.setattr(studio.state.store, "create", look)

    ask(client)

    assert [device.value for device in seen] == [FID]


# -- what is said about it, without an owner ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "header", "lang"), [("pt-BR", "de", "pt-BR"), (None, "de-AT,de;q=0.9", "de-AT"), (None, "*", None)]
)
def test_the_language_counts_without_an_owner_too(client, studio, said, header, lang):
    client.post("/lesson", json={"user_token": FID, "lang": said}, headers={"Accept-Language": header})

    sink = studio.state.plugins.get("Expo")
    assert sink.sent.wait(PATIENCE)
    assert sink.langs == [lang]


@pytest.mark.parametrize(("token", "kind"), [("ExponentPushToken[x]", "expo"), ("Z" * 22, "fcm_token"), ("a", "fid")])
def test_the_kind_counts_without_an_owner_too(client, studio, token, kind):
    client.post("/lesson", json={"user_token": token, "user_token_kind": kind})

    sink = studio.state.plugins.get("Expo")
    assert sink.sent.wait(PATIENCE)
    assert sink.sent_to == [(kind, token)]


def test_what_is_said_of_an_address_that_is_not_kept_counts_for_its_own_task(client, studio):
    form = {"user_token": "ExponentPushToken[x]", "user_token_kind": "expo", "lang": "de"}
    client.post("/lesson", data=form, headers={**ANN, "Sec-Fetch-Site": "cross-site"})

    sink = studio.state.plugins.get("Expo")
    assert sink.sent.wait(PATIENCE)
    assert (sink.sent_to, sink.langs) == ([("expo", "ExponentPushToken[x]")], ["de"])
