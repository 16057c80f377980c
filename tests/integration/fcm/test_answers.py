"""What FCM answers, and what becomes of the message: forgotten addresses, letters, later tries."""

import socket
import threading

import pytest

from flask_bgtasks import signals
from flask_bgtasks.core.devices import FCM_TOKEN
from flask_bgtasks.firebase.features import LIVE_ACTIVITIES
from tests.backends import free_port
from tests.backends.fcm import DROP, Raw, error
from tests.backends.firebase import needs
from tests.support.sinks.fcm_studio import OTHER, TOKEN

pytest.importorskip("firebase_admin")
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

    with pytest.raises(Undeliverable, match="not a message for FCM"):
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
