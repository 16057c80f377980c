"""What the FCM sink sends: one push for each device, wrapped for its platform, in its language."""

import itertools
import json
import threading

import pytest

from flask_bgtasks import Notification
from flask_bgtasks.core.devices import FID
from flask_bgtasks.firebase.features import FIDS
from tests.backends.fcm import DROP
from tests.backends.firebase import needs
from tests.support.sinks.fcm_studio import FID_VALUE, OTHER, TOKEN

pytest.importorskip("firebase_admin")


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
