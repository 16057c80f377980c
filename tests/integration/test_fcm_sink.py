"""The FCM sink: firebase-admin itself, over real HTTP, against a stand-in that answers as FCM does."""

import itertools
import json
import logging
import socket
import threading
import time
import warnings
from datetime import timedelta

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, Notification, signals
from flask_bgtasks.core.backoff import Backoff
from flask_bgtasks.core.devices import FCM_TOKEN, FID, make_device
from flask_bgtasks.delivery import circuit_breaker as breaker_module
from flask_bgtasks.delivery import dispatcher as delivery_module
from flask_bgtasks.delivery import sink_worker as lanes_module
from flask_bgtasks.firebase.features import FIDS, LIVE_ACTIVITIES
from flask_bgtasks.sinks.fcm import client as client_module
from tests.backends import free_port
from tests.backends.fcm import DROP, Raw, error, over_quota
from tests.backends.firebase import needs
from tests.support.waiting import PATIENCE

firebase_admin = pytest.importorskip("firebase_admin")

FID_VALUE = "cXyZ0123456789abcdefGH"
TOKEN = f"eAbC0123456789abcdefGH:{'APA91b' * 20}"
OTHER = f"fAbC0123456789abcdefGH:{'APA91b' * 20}"


class Studio:
    """An app with the sink, and what a test asks it."""

    def __init__(self, folder, **settings):
        self.app = Flask("studio", instance_path=str(folder))
        self.bgtasks = BackgroundTasks()
        self.notify = {"completed": Notification("Ready: {topic}", "{text}", link="https://app.example/l/{request_id}")}

        @self.bgtasks.task(name="work", notify={"completed": self._tell, "failed": "Failed"})
        def work(fail=False, **result):
            if fail:
                raise ValueError("no paper")
            return result

        self.work = work
        self.bgtasks.init_app(self.app, store="memory://", sinks=["fcm"], **settings)
        self.state = self.app.extensions["bgtasks"]
        self.store = self.state.store

    def _tell(self, task, result):
        return self.told(task, result)

    told = staticmethod(lambda task, result: Notification("Ready", link=f"https://app.example/{task.request_id}"))

    def register(self, value, *, kind=FCM_TOKEN, owner="anna", **fields):
        return self.store.save_device(make_device(kind, value, owner=owner, **fields), max_devices=20)

    def run(self, *, owner="anna", user_token=None, **kwargs):
        with self.app.app_context():
            handle = self.work.submit(owner=owner, user_token=user_token, **kwargs)
            handle.wait_until_done(timeout=PATIENCE)
        return handle.request_id

    def settled(self):
        pause = threading.Event()
        for _ in range(2000):
            if self.store.stats().deliveries_pending == 0:
                return True
            pause.wait(0.01)
        raise AssertionError(f"still owed: {self.store.stats()}")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Retries come at once, so that no test waits for them."""
    monkeypatch.setattr(delivery_module, "backoff", lambda tries: 0.0)
    monkeypatch.setattr(lanes_module, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(breaker_module, "PAUSES", Backoff(0))


@pytest.fixture
def make(tmp_path, fcm):
    made = []

    def build(**settings):
        settings = {"fcm_endpoint": fcm.url, "firebase_project": "demo-studio", **settings}
        made.append(Studio(tmp_path, **settings))
        return made[-1]

    yield build
    for studio in made:
        studio.state.close(grace=5)


@pytest.fixture
def studio(make):
    return make()


# -- what is sent ------------------------------------------------------------------------------------------------------


@needs(FIDS)
def test_every_device_of_the_owner_gets_one_push_with_what_it_needs(studio, fcm):
    studio.register(FID_VALUE, kind=FID)
    studio.register(TOKEN)
    studio.register(OTHER, owner="bert")

    request_id = studio.run(text="secret")
    studio.settled()

    assert fcm.counts() == {FID_VALUE: 1, TOKEN: 1}
    (message,) = fcm.sent_to(FID_VALUE)
    assert message["fid"] == FID_VALUE
    assert message["notification"] == {"title": "Ready"}
    seq = studio.store.get(request_id).seq
    assert message["data"] == {
        "request_id": request_id,
        "status": "completed",
        "name": "work",
        "seq": str(seq),
        "attempt": "1",
        "link": f"https://app.example/{request_id}",
    }
    assert "secret" not in json.dumps(message)


def test_each_platform_gets_its_own_wrapping(studio, fcm):
    studio.register(TOKEN)
    request_id = studio.run()
    studio.settled()

    (message,) = fcm.sent_to(TOKEN)

    week = f"{7 * 86400}s"
    assert message["android"] == {"priority": "high", "ttl": week, "notification": {"tag": request_id}}
    headers = message["apns"]["headers"]
    assert headers["apns-push-type"] == "alert"
    assert headers["apns-priority"] == "10"
    assert headers["apns-collapse-id"] == request_id
    assert int(headers["apns-expiration"]) > studio.store.now().timestamp() + 6 * 86400
    aps = message["apns"]["payload"]["aps"]
    assert aps == {"sound": "default", "thread-id": "work", "mutable-content": 1, "content-available": 1}
    web = message["webpush"]
    assert web["headers"] == {"TTL": week[:-1], "Urgency": "high", "Topic": request_id.replace("-", "")}
    assert web["notification"] == {"tag": request_id}
    assert web["fcm_options"] == {"link": f"https://app.example/{request_id}"}


def test_on_android_it_is_shown_in_the_channel_that_the_setting_names(make, fcm):
    studio = make(android_channel="lessons")
    studio.register(TOKEN)
    request_id = studio.run()
    studio.settled()

    (message,) = fcm.sent_to(TOKEN)

    assert message["android"]["notification"] == {"tag": request_id, "channel_id": "lessons"}


def test_the_text_is_in_the_devices_language(studio, fcm):
    studio.told = lambda task, result: Notification(
        {"en": "Ready", "de": "Fertig"}, {"en": "A {brace}", "de": "Öffnen"}
    )
    studio.register(TOKEN, lang="de-AT")
    studio.register(OTHER, lang="sv")
    studio.run()
    studio.settled()

    (german,), (other,) = fcm.sent_to(TOKEN), fcm.sent_to(OTHER)

    assert german["notification"] == {"title": "Fertig", "body": "Öffnen"}
    assert other["notification"] == {"title": "Ready", "body": "A {brace}"}


@pytest.mark.parametrize("character", ["x", "é", "漢", "😀", '"', "\x01"])
def test_what_is_too_long_is_cut_and_never_refused(studio, fcm, character):
    studio.told = lambda task, result: Notification(
        character * 3000, character * 9000, data={"own": character * 5000, "screen": "lesson"}
    )
    studio.register(TOKEN)
    request_id = studio.run()
    studio.settled()

    (message,) = fcm.sent_to(TOKEN)

    assert message["notification"]["title"].startswith(character)
    assert message["data"]["request_id"] == request_id
    assert message["data"]["screen"] == "lesson"
    assert "own" not in message["data"]
    assert studio.store.dead_deliveries() == []


def test_names_that_fcm_keeps_for_itself_are_changed(studio, fcm, caplog):
    studio.told = lambda task, result: Notification("Ready", data={"from": "a", "google.x": "b", "gcm": "c", "mine": 1})
    studio.register(TOKEN)
    studio.run()
    studio.settled()

    (message,) = fcm.sent_to(TOKEN)

    assert message["data"].items() >= {"x_from": "a", "x_google.x": "b", "x_gcm": "c", "mine": "1"}.items()
    assert not {"from", "google.x", "gcm"} & set(message["data"])


def test_a_dry_run_is_checked_and_not_delivered(make, fcm):
    studio = make(fcm_dry_run=True)
    studio.register(TOKEN)
    studio.run()
    studio.settled()

    assert [one["dry"] for one in fcm.messages] == [True]


def test_a_push_by_hand_goes_to_its_address(studio, fcm):
    with studio.app.app_context():
        assert studio.bgtasks.send_push(TOKEN, "Hello", "You", {"n": 1}) == 1
    studio.settled()

    (message,) = fcm.sent_to(TOKEN)
    assert message["notification"] == {"title": "Hello", "body": "You"}
    assert message["data"] == {"n": "1"}


def test_a_push_by_hand_that_is_sent_again_replaces_the_first(studio, fcm):
    fcm.answer(DROP, None)
    with studio.app.app_context():
        studio.bgtasks.send_push(TOKEN, "Hello", "You")
        studio.settled()
        studio.bgtasks.send_push(TOKEN, "Hello", "Again")
        studio.settled()

    first, again, other = fcm.sent_to(TOKEN)

    tags = [message["android"]["notification"]["tag"] for message in (first, again, other)]
    assert tags[0] == tags[1] != tags[2]
    assert [message["apns"]["headers"]["apns-collapse-id"] for message in (first, again, other)] == tags
    assert {len(message["webpush"]["headers"]["Topic"]) for message in (first, again, other)} == {32}


# -- what FCM answers --------------------------------------------------------------------------------------------------

GONE = [
    error(404, "NOT_FOUND", "UNREGISTERED"),
    error(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"),
    error(
        400,
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        message="The registration token is not a valid FCM registration token",
    ),
    error(400, "INVALID_ARGUMENT", message="Invalid value at 'message.token' (TYPE_STRING)"),
]


@pytest.mark.parametrize("answer", GONE, ids=["unregistered", "another project's", "no token", "no text"])
def test_an_address_that_is_nobodys_is_forgotten(studio, fcm, answer):
    studio.register(TOKEN)
    studio.register(OTHER)
    fcm.answer(answer, to=TOKEN)

    studio.run()
    studio.settled()
    studio.run()
    studio.settled()

    assert fcm.counts() == {TOKEN: 1, OTHER: 2}
    assert studio.store.dead_deliveries() == []


NEVER = [
    (error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", message="Invalid value at 'message.android'"), "notify="),
    (error(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"), "Cloud Messaging"),
    (error(401, "UNAUTHENTICATED", "APNS_AUTH_ERROR"), "Cloud Messaging"),
]


@pytest.mark.parametrize(
    ("answer", "mend"), NEVER, ids=["our message", "the project's key for Apple", "by its old name"]
)
def test_what_no_later_try_can_change_is_a_letter_with_the_mend(studio, fcm, answer, mend):
    studio.register(TOKEN)
    studio.register(OTHER)
    fcm.answer(answer, to=TOKEN)
    failed = []
    with signals.notification_failed.connected_to(lambda app, final, **more: failed.append(final)):
        studio.run()
        studio.settled()

    (letter,) = studio.store.dead_deliveries(sink="fcm")
    assert mend in letter.error
    assert TOKEN not in letter.error
    assert fcm.counts()[OTHER] == 1
    assert failed == [True]


PASSING = {
    "busy": error(503, "UNAVAILABLE", "UNAVAILABLE"),
    "internal": error(500, "INTERNAL", "INTERNAL"),
    "a proxy's page": Raw(502, "<html>Bad gateway</html>"),
    "the service account may not": error(403, "PERMISSION_DENIED"),
    "no such project": error(404, "NOT_FOUND"),
    "the token is refused": error(401, "UNAUTHENTICATED"),
    "dropped after it was read": DROP,
}


@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING.keys())
def test_what_may_pass_is_tried_until_it_does(studio, fcm, answer):
    studio.register(TOKEN)
    fcm.answer(answer, answer, answer, answer, None)

    request_id = studio.run()
    studio.settled()

    messages = fcm.sent_to(TOKEN)
    assert len(messages) >= 5
    assert {m["android"]["notification"]["tag"] for m in messages} == {request_id}  # the device shows one
    assert {m["apns"]["headers"]["apns-collapse-id"] for m in messages} == {request_id}
    assert studio.store.dead_deliveries() == []
    assert len(studio.store.devices(owner="anna")) == 1


def test_the_sdk_itself_sends_nothing_twice(studio, fcm):
    studio.register(TOKEN)
    fcm.answer(error(503, "UNAVAILABLE", "UNAVAILABLE", headers={"Retry-After": "3600"}))

    studio.run()
    fcm.wait_for(lambda fcm: fcm.messages)
    studio.state.close(grace=5)

    assert fcm.counts() == {TOKEN: 1}


@pytest.mark.parametrize(
    "answer",
    [
        over_quota(**{"Retry-After": "3600"}),
        over_quota(),
        error(429, "RESOURCE_EXHAUSTED"),
        error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", message="Message rate of the project exceeded"),
        error(503, "UNAVAILABLE", "UNAVAILABLE", headers={"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}),
    ],
    ids=["quota", "quota without a time", "no word of which", "the project's", "a pause until a date"],
)
def test_a_pause_that_fcm_wants_is_kept_for_all_devices(make, fcm, answer):
    studio = make(push_concurrency=1)
    for number in range(10):
        studio.register(f"{number}{TOKEN}")
    fcm.answer(answer)

    studio.run()
    fcm.wait_for(lambda fcm: fcm.messages)
    studio.state.deliveries.wake()
    studio.state.close(grace=5)

    assert sum(fcm.counts().values()) == 1
    assert studio.store.stats().deliveries_pending == 10


def put_off(studio, count):
    """Wait until so many deliveries are owed and none of them is due within the next minutes."""
    pause = threading.Event()
    for _ in range(2000):
        owed = [delivery for delivery, _ in studio.store._deliveries.values()]
        soon = studio.store.now() + timedelta(minutes=5)
        if len(owed) == count and all(delivery.due_at > soon for delivery in owed):
            return owed
        pause.wait(0.01)
    raise AssertionError(owed)


def test_a_pause_is_kept_though_what_was_under_way_gets_through(make, fcm):
    studio = make(push_concurrency=8)
    for number in range(20):
        studio.register(f"{number}{TOKEN}")
    turns, together = itertools.count(), threading.Barrier(4)
    outage, pause = studio.state.deliveries._lanes["fcm"]._outage, threading.Event()

    def before(message):
        turn = next(turns)
        if turn < 4:
            together.wait(4)
        if turn == 0:
            fcm.answer(over_quota(**{"Retry-After": "3600"}), to=message["token"])
        for _ in range(300):
            if 0 < turn < 8 and outage.left == 0:  # they succeed after the refusal has come in
                pause.wait(0.01)

    fcm.before = before
    studio.run()
    fcm.wait_for(lambda fcm: len(fcm.messages) >= 4)
    studio.state.deliveries.wake()
    studio.state.close(grace=5)

    owed = [delivery for delivery, _ in studio.store._deliveries.values()]
    assert len(fcm.messages) <= 8
    assert len(owed) == 20 - (len(fcm.messages) - 1)
    assert sum(delivery.tries for delivery in owed) == 1  # the others were never tried


ONE_DEVICE = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"subject": "device", "description": "Device message rate exceeded"}],
}


@pytest.mark.parametrize("details", [[ONE_DEVICE], []], ids=["FCM says so", "FCM does not say"])
def test_one_device_that_is_sent_too_much_holds_up_no_other(make, fcm, details):
    studio = make(push_concurrency=1)
    studio.register(TOKEN)
    fcm.answer(error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", headers={"Retry-After": "3600"}, details=details))
    studio.run()
    put_off(studio, 1)
    fcm.answer(error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", details=details), to=TOKEN)
    fcm.answer(None)
    studio.register(OTHER)

    studio.run()
    owed = put_off(studio, 2)

    assert fcm.counts() == {TOKEN: 1, OTHER: 1}
    assert sorted(delivery.tries for delivery in owed) == [0, 1]


def test_two_devices_that_are_refused_without_a_word_of_whose_quota_it_is_have_used_up_the_projects(make, fcm):
    studio = make(push_concurrency=1)
    for number in range(10):
        studio.register(f"{number}{TOKEN}")
    fcm.answer(error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", headers={"Retry-After": "3600"}))

    studio.run()
    fcm.wait_for(lambda fcm: len(fcm.messages) == 2)
    studio.state.deliveries.wake()
    studio.state.close(grace=5)

    assert sum(fcm.counts().values()) == 2
    assert studio.store.stats().deliveries_pending == 10


def test_two_devices_that_are_sent_too_much_hold_up_no_third(make, fcm):
    studio = make(push_concurrency=1)
    addresses = [f"{number}{TOKEN}" for number in range(5)]
    for address in addresses:
        studio.register(address)
    refusal = error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", headers={"Retry-After": "3600"}, details=[ONE_DEVICE])
    fcm.answer(refusal, to=addresses[0])
    fcm.answer(refusal, to=addresses[1])

    studio.run()
    put_off(studio, 2)

    assert set(fcm.counts()) == set(addresses)


@pytest.mark.parametrize("after", ["0", "Thu, 01 Jan 2015 00:00:00 GMT"])
def test_a_pause_of_nothing_does_not_become_a_storm(studio, fcm, after):
    studio.register(TOKEN)
    fcm.answer(error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", headers={"Retry-After": after}), None)

    studio.run()
    studio.settled()

    first, second = (one["at"] for one in fcm.messages)
    assert second - first >= 0.99


def test_a_short_pause_is_over_by_itself(make, fcm):
    studio = make(push_concurrency=1)
    for number in range(5):
        studio.register(f"{number}{TOKEN}")
    fcm.answer(over_quota(**{"Retry-After": "1"}), None)

    studio.run()
    studio.settled()

    times = [one["at"] for one in fcm.messages]
    assert times[1] - times[0] >= 0.99
    assert len(times) == 6


@pytest.mark.parametrize(
    "body", ["<html>yes</html>", "{}", "null", "[]"], ids=["not JSON", "no name", "null", "a list"]
)
def test_a_success_that_cannot_be_read_is_not_sent_again(studio, fcm, body, caplog):
    studio.register(TOKEN)
    fcm.answer(Raw(200, body, "application/json"))

    studio.run()
    studio.settled()

    assert fcm.counts() == {TOKEN: 1}
    assert "taken as sent" in caplog.text
    assert TOKEN not in caplog.text


def test_a_message_that_the_sdk_refuses_is_a_letter_at_once(studio, fcm):
    from flask_bgtasks import Undeliverable
    from flask_bgtasks.sinks.fcm.messages import Push, PushAddress

    client = studio.state.plugins.get("fcm")._client

    with pytest.raises(Undeliverable, match="no message for FCM"):
        client.send(Push(PushAddress(FCM_TOKEN, TOKEN, "1"), title="Ready", data={"n": 1}))

    assert fcm.messages == []


@needs(LIVE_ACTIVITIES)
@pytest.mark.parametrize("answer", [error(400, "INVALID_ARGUMENT"), error(500, "INTERNAL"), error(403, "X")])
def test_what_fcm_says_about_tokens_is_told_without_them(studio, fcm, caplog, answer):
    from flask_bgtasks import BackgroundTasksError
    from flask_bgtasks.sinks.fcm.messages import Activity, Push, PushAddress

    code, body, *rest = answer
    fcm.answer((code, body.replace('"m"', f'"what is {TOKEN}, live_activity_token 80abSECRET?"'), *rest))
    push = Push(PushAddress(FCM_TOKEN, TOKEN, "1"), activity=Activity("80abSECRET", {"status": "processing"}, 1))

    with pytest.raises(BackgroundTasksError, match="what is") as told:
        studio.state.plugins.get("fcm")._client.send(push)

    for text in (str(told.value), caplog.text):
        assert TOKEN not in text
        assert "SECRET" not in text


def test_a_message_shows_no_address_where_it_is_logged(studio, fcm):
    told = []
    studio.register(TOKEN)
    with signals.notification_sent.connected_to(lambda app, message, **more: told.append(message)):
        studio.run()
        studio.settled()

    (message,) = told
    assert message.payload["to"]["value"] == TOKEN
    assert TOKEN not in repr(message)


def test_a_stand_in_is_reached_past_a_proxy(studio, fcm, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    studio.register(TOKEN)

    studio.run()
    studio.settled()

    assert fcm.counts() == {TOKEN: 1}


def test_where_nobody_listens_it_is_kept_and_sent_later(make, fcm):
    port = free_port()
    studio = make(fcm_endpoint=f"http://127.0.0.1:{port}")
    studio.register(TOKEN)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", port))
        request_id = studio.run()
        pause = threading.Event()
        for _ in range(500):
            if (owed := studio.store.stats().deliveries_pending) == 1 and _tries(studio.store) >= 3:
                break
            pause.wait(0.01)
        assert owed == 1
    from tests.backends.fcm import FcmStandIn

    back = FcmStandIn(port)
    try:
        studio.state.deliveries.wake()
        back.wait_for(lambda fcm: fcm.sent_to(TOKEN))
        assert back.sent_to(TOKEN)[0]["data"]["request_id"] == request_id
    finally:
        back.close()


def _tries(store):
    return max((delivery.tries for delivery, _ in store._deliveries.values()), default=0)


# -- credentials -------------------------------------------------------------------------------------------------------


def key_file(folder, token_uri):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    path = folder / "key.json"
    path.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": "studio-of-the-key",
                "private_key_id": "1",
                "private_key": pem,
                "client_email": "studio@example.iam.gserviceaccount.com",
                "client_id": "1",
                "token_uri": token_uri,
            }
        )
    )
    return path


def test_a_service_accounts_key_sends_and_one_that_is_refused_loses_nothing(tmp_path, fcm, caplog):
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    from flask_bgtasks.sinks.fcm.client import FcmClient
    from flask_bgtasks.sinks.fcm.messages import Push, PushAddress

    class Tokens(BaseHTTPRequestHandler):
        refused = True
        status = 400

        def log_message(self, *args):
            """Be quiet."""

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            code = type(self).status if type(self).refused else 200
            answer = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
            body = json.dumps(answer if code != 200 else {"access_token": "ya29.x", "expires_in": 3600}).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        path = key_file(tmp_path, f"http://127.0.0.1:{server.server_address[1]}/token")
        from google.oauth2 import service_account

        from flask_bgtasks import RetryLater
        from flask_bgtasks.firebase.credentials import SCOPES

        made = service_account.Credentials.from_service_account_file(str(path), scopes=SCOPES)
        client = FcmClient(project="studio-of-the-key", credentials=made, source="a key", endpoint=fcm.url)
        push = Push(PushAddress(FCM_TOKEN, TOKEN, "1"), title="Ready", body="")
        with pytest.raises(RetryLater, match="make a new key"):
            client.send(push)
        assert fcm.messages == []
        assert "make a new key" in caplog.text
        caplog.clear()

        Tokens.status = 503
        with pytest.raises(RetryLater, match="token server"):
            client.send(push)
        assert "make a new key" not in caplog.text

        Tokens.refused = False
        client.send(push)
        client.close()
        assert fcm.counts() == {TOKEN: 1}
    finally:
        server.shutdown()
        server.server_close()


def test_without_credentials_the_sink_says_at_start_what_is_wanted(tmp_path, monkeypatch):
    from flask_bgtasks import ConfigurationError

    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "FIRESTORE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")

    with pytest.raises(ConfigurationError, match="FCM: there are no credentials.*BGTASKS_FIREBASE_CREDENTIALS"):
        BackgroundTasks(Flask("none", root_path=str(tmp_path), instance_path=str(tmp_path)), sinks=["fcm"])


def test_the_developers_own_firebase_app_is_left_as_it_is(studio, fcm):
    from firebase_admin import messaging

    own = firebase_admin.initialize_app(
        options={"projectId": "own"}, credential=_anonymous(), name="the developer's own"
    )
    try:
        studio.register(TOKEN)
        studio.run()
        studio.settled()

        service = messaging._get_messaging_service(own)
        assert service._fcm_url == "https://fcm.googleapis.com/v1/projects/own/messages:send"
        assert service._client.session.get_adapter(service._fcm_url).max_retries.total != 0
    finally:
        firebase_admin.delete_app(own)


def _anonymous():
    from firebase_admin import credentials
    from google.auth.credentials import AnonymousCredentials

    class Anonymous(credentials.Base):
        def get_credential(self):
            return AnonymousCredentials()

    return Anonymous()


def test_an_address_that_the_sdk_calls_deprecated_warns_nobody():
    from firebase_admin import messaging

    from flask_bgtasks.sinks.fcm.client import _message
    from flask_bgtasks.sinks.fcm.messages import Push, PushAddress

    filters = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        made = _message(Push(PushAddress(FCM_TOKEN, TOKEN, "1"), title="Ready"))
        assert warnings.filters == before
    assert warnings.filters == filters
    assert json.loads(str(made))["token"] == TOKEN
    if hasattr(messaging.Message(), "fid"):  # since firebase-admin 7.5; before, there is nothing to avoid
        with pytest.warns(DeprecationWarning, match="token"):
            messaging.Message(token=TOKEN)


def test_the_private_parts_of_the_sdk_are_where_we_look_for_them(studio, caplog):
    client = studio.state.plugins.get("fcm")._client
    with caplog.at_level(logging.WARNING):
        app = client._firebase()

    from firebase_admin import messaging

    service = messaging._get_messaging_service(app)
    assert caplog.text == ""
    assert service._client.session.get_adapter("https://fcm.googleapis.com/v1").max_retries.total == 0


# -- how much at once --------------------------------------------------------------------------------------------------


def test_as_many_are_sent_at_once_as_the_setting_says(make, fcm):
    studio = make(push_concurrency=3, max_devices_per_owner=50)
    together, turns = threading.Barrier(3), itertools.count()
    fcm.before = lambda message: next(turns) < 3 and together.wait(4)
    for number in range(12):
        studio.register(f"{number}{TOKEN}")

    studio.run()
    studio.settled()

    assert fcm.most_at_once == 3
    assert len(fcm.messages) == 12


# -- progress ----------------------------------------------------------------------------------------------------------


def test_progress_is_not_pushed_unless_it_is_asked_for(studio):
    assert studio.state.plugins.implementing("bgtasks_task_progress") == []


class Stepping:
    """A running task, whose progress a test reports by hand."""

    def __init__(self, studio, store):
        from flask_bgtasks.core.model import Task, TaskKind
        from flask_bgtasks.core.transitions.attempt import Claim

        now = store.now()
        task = Task(
            "11111111-1111-4111-8111-111111111111", "work", TaskKind.FUNCTION, now, now, timedelta(days=1), owner="anna"
        )
        store.create(task, input={})
        self.task = store.transition(task.request_id, Claim("w", timedelta(hours=1))).task
        self.studio, self.number = studio, 0

    def step(self, name):
        from flask_bgtasks.core.model import Progress

        self.number += 1
        progress = Progress(self.studio.store.now(), 1, percentage=10.0 * self.number, step=name)
        self.studio.state.deliveries.tell_progress("fcm", self.task, progress)


def test_a_silent_push_at_most_once_in_the_time_for_each_device(make, fcm):
    studio = make(progress_push_seconds=60)
    studio.register(TOKEN, platform="android")
    studio.register(OTHER, platform="ios")
    running = Stepping(studio, studio.store)

    for name in ("Read", "Read", "Write", "Draw"):
        running.step(name)

    assert fcm.counts() == {TOKEN: 1, OTHER: 1}
    (message,) = fcm.sent_to(OTHER)
    assert "notification" not in message
    assert message["data"]["step"] == "Read"
    assert message["data"]["progress_percentage"] == "10"
    assert message["apns"]["headers"] == {
        "apns-push-type": "background",
        "apns-priority": "5",
        "apns-collapse-id": running.task.request_id,
    }
    assert message["apns"]["payload"] == {"aps": {"content-available": 1}}
    assert message["android"]["priority"] == "normal"


def test_the_name_of_a_step_may_be_of_any_length(make, fcm):
    studio = make(progress_push_seconds=60)
    studio.register(TOKEN)

    Stepping(studio, studio.store).step("Step \ud83d" + "ü" * 6000)

    (message,) = fcm.sent_to(TOKEN)
    step = message["data"]["step"]
    assert step.startswith("Step �ü")
    assert len(step.encode()) <= 200


@pytest.mark.parametrize("preferences", [{"kinds": ["completed"]}, {"muted": ["work"]}])
def test_progress_is_not_pushed_to_who_does_not_want_it(make, fcm, preferences):
    studio = make(progress_push_seconds=60)
    studio.register(TOKEN)
    studio.store.save_preferences("anna", preferences)

    Stepping(studio, studio.store).step("Read")

    assert fcm.messages == []


def test_a_device_that_is_gone_is_forgotten_by_its_progress_too(make, fcm):
    studio = make(progress_push_seconds=60)
    studio.register(TOKEN)
    fcm.answer(error(404, "NOT_FOUND", "UNREGISTERED"))

    Stepping(studio, studio.store).step("Read")

    assert studio.store.devices(owner="anna") == []


@pytest.mark.parametrize("answer", [error(401, "UNAUTHENTICATED", "APNS_AUTH_ERROR"), error(400, "INVALID_ARGUMENT")])
def test_progress_that_one_device_cannot_get_reaches_the_others(make, fcm, answer):
    studio = make(progress_push_seconds=60)
    studio.register(TOKEN)
    studio.register(OTHER)
    fcm.answer(answer)

    Stepping(studio, studio.store).step("Read")

    assert set(fcm.counts()) == {TOKEN, OTHER}


def test_one_device_that_is_sent_too_much_keeps_no_progress_from_the_others(make, fcm):
    studio = make(progress_push_seconds=60)
    for address in (TOKEN, OTHER):
        studio.register(address, platform="android")
    fcm.answer(error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", details=[ONE_DEVICE]), None)

    Stepping(studio, studio.store).step("Read")

    assert fcm.counts() == {TOKEN: 1, OTHER: 1}


def test_progress_waits_for_nobody_while_fcm_is_out_of_reach(make, fcm, monkeypatch):
    monkeypatch.setattr(client_module, "DEADLINE_SECONDS", 1.0)
    studio = make(progress_push_seconds=60)
    for number in range(5):
        studio.register(f"{number}{TOKEN}")
    hangs, asked = threading.Event(), []

    def hang(message):
        asked.append(time.monotonic())
        hangs.wait(PATIENCE)

    fcm.before = hang
    running = Stepping(studio, studio.store)

    for name in ("Read", "Write", "Draw"):
        running.step(name)
    took = time.monotonic() - asked[0]
    hung = list(asked)
    hangs.set()

    assert took < 20  # of the sixty that it hangs for
    assert len(hung) == 1  # once, not for each of three steps or five devices
    fcm.wait_for(lambda fcm: len(fcm.messages) == 1)


def test_a_browser_is_not_sent_what_it_would_have_to_show(make, fcm):
    studio = make(progress_push_seconds=60)
    studio.register(TOKEN, platform="web")
    studio.register(OTHER, platform="android")

    Stepping(studio, studio.store).step("Read")

    assert fcm.counts() == {OTHER: 1}
