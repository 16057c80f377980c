"""What is sent by FCM, as values: in which language, under which names, and how it is cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_bgtasks import Notification
from flask_bgtasks.core.devices import FCM_TOKEN
from flask_bgtasks.sinks.fcm.messages import MAX_BYTES, MAX_TTL_SECONDS, PushAddress, fit, of_notification
from flask_bgtasks.sinks.truncation import OURS, cut

TO = PushAddress(FCM_TOKEN, "c0Xyz:APA91bTheAddressOfADevice", "an-id")


def push(notification, *, lang=None, ttl=60):
    return of_notification(notification, TO, lang=lang, ttl=ttl)


def size(title, body, data):
    return len(json.dumps({"title": title, "body": body, **data}, ensure_ascii=False).encode())


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6000)


@given(TEXTS, TEXTS, st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), TEXTS))
def test_what_is_cut_fits_and_is_the_beginning_of_what_it_was(title, body, data):
    ours = {"request_id": "1" * 36, "status": "completed"}

    kept_title, kept_body, kept = fit(title, body, {**data, **ours})

    assert size(kept_title, kept_body, kept) <= MAX_BYTES
    assert kept.items() >= ours.items()
    for before, after in ((title, kept_title), (body, kept_body)):
        assert after == before or (after.endswith("…") and before.startswith(after[:-1])) or after == ""


def test_what_fits_is_left_as_it_is():
    whole = ("Ready", "Eight sections", {"request_id": "1", "screen": "lesson"})

    assert fit(*whole) == whole


def test_the_body_is_cut_before_the_title_and_both_before_the_apps_data():
    title, body, data = fit("T" * 50, "b" * 6000, {"request_id": "1", "screen": "x" * 500})

    assert title == "T" * 50
    assert body.endswith("b…")
    assert len(body) > 2000
    assert data["screen"] == "x" * 500


def test_data_that_takes_all_the_room_does_not_cost_the_user_the_text():
    title, body, data = fit("T" * 200, "Eight sections and a quiz.", {"request_id": "1", "blob": "y" * 5000})

    assert (title, body) == ("T" * 200, "Eight sections and a quiz.")
    assert data == {"request_id": "1"}


def test_the_largest_of_the_apps_data_goes_first_and_ours_never():
    ours = dict.fromkeys(OURS, "1")

    _, _, data = fit("Ready", "", {**ours, "large": "x" * 4000, "small": "x"})

    assert data == {**ours, "small": "x"}


def test_a_link_that_is_too_long_is_left_out_last():
    _, _, data = fit("Ready", "", {"request_id": "1", "link": "https://" + "x" * 5000})

    assert data == {"request_id": "1"}


@pytest.mark.parametrize("most", range(12))
def test_a_text_is_cut_between_characters_or_is_gone(most):
    assert cut("é漢😀", most) in {"", "…", "é…", "é漢…", "é漢😀"}
    assert len(cut("é漢😀", most).encode()) <= most


def test_half_a_character_is_not_sent_on():
    told = push(Notification("Half \ud83d", "\ud83d", data={"k\ud83d": "\ud83d"}))

    assert (told.title, told.body, dict(told.data)) == ("Half �", "�", {"k�": "�"})


@pytest.mark.parametrize("name", ["from", "message_type", "notification", "google.c.a", "googlemaps", "gcm.n", "gcm"])
def test_names_that_fcm_keeps_are_sent_under_others(name):
    assert dict(push(Notification("Ready", data={name: "1"})).data) == {f"x_{name}": "1"}


def test_a_link_opens_on_the_web_only_if_it_is_https():
    assert push(Notification("Ready", link="https://app.example/1")).link == "https://app.example/1"
    plain = push(Notification("Ready", link="myapp://lessons/1"))
    assert (plain.link, plain.data["link"]) == (None, "myapp://lessons/1")


def test_fcm_keeps_nothing_longer_than_four_weeks():
    assert push(Notification("Ready"), ttl=10**9).ttl == MAX_TTL_SECONDS
    assert push(Notification("Ready"), ttl=60).ttl == 60


def test_the_text_is_the_devices_language_or_the_first():
    told = Notification({"en": "Ready", "de": "Fertig"}, {"en": "Open it", "de": "Öffnen"})

    assert push(told, lang="de-AT").title == "Fertig"
    assert push(told, lang="sv").body == "Open it"


def test_an_address_does_not_show_in_what_may_be_logged():
    assert TO.value not in repr(push(Notification("Ready")))
