"""A device's address: which kind it is, when two are the same device, and what of it may be seen."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_bgtasks.devices import (
    FCM_TOKEN,
    FID,
    LIVE_ACTIVITY,
    WEBPUSH,
    device_id,
    make_device,
    masked,
    of_user_token,
)

INSTALLATION = "cXyZ0123456789abcdef-_"
TOKEN = f"{INSTALLATION}:APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx"

texts = st.text() | st.text(alphabet='\n",[]\\ab', max_size=4)
addresses = st.tuples(texts, texts, st.none() | texts)


@given(addresses, addresses)
def test_two_addresses_have_one_id_only_if_they_are_the_same(one, other):
    kind, value, request_id = one
    other_kind, other_value, other_request_id = other

    same = device_id(kind, value, request_id=request_id) == device_id(
        other_kind, other_value, request_id=other_request_id
    )

    assert same == (one == other)


@given(addresses)
def test_an_id_is_short_and_harmless_and_the_address_is_not_in_it(address):
    kind, value, request_id = address

    assert re.fullmatch("[0-9a-f]{32}", device_id(kind, value, request_id=request_id))


def test_a_device_is_registered_under_the_id_of_its_address_whoever_has_it():
    annas = make_device(FCM_TOKEN, TOKEN, owner="anna", lang="de")
    berts = make_device(FCM_TOKEN, TOKEN, owner="bert")

    assert annas.id == berts.id == device_id(FCM_TOKEN, TOKEN)
    assert make_device(LIVE_ACTIVITY, TOKEN, request_id="r1").id != make_device(LIVE_ACTIVITY, TOKEN).id


@pytest.mark.parametrize(
    ("user_token", "kind"),
    [
        (INSTALLATION, FID),
        (TOKEN, FCM_TOKEN),
        (INSTALLATION[:-1], FCM_TOKEN),
        (INSTALLATION + "x", FCM_TOKEN),
        (INSTALLATION[:-1] + "=", FCM_TOKEN),
        (INSTALLATION + "\n", FCM_TOKEN),
        ("é" * 22, FCM_TOKEN),
    ],
)
def test_a_user_token_is_told_by_its_looks(user_token, kind):
    device = of_user_token(user_token, owner="anna")

    assert (device.kind, device.value, device.owner) == (kind, user_token, "anna")
    assert device.id == device_id(kind, user_token)


@pytest.mark.parametrize(
    ("kind", "value", "installation"),
    [
        (FID, INSTALLATION, INSTALLATION),
        (FCM_TOKEN, TOKEN, INSTALLATION),
        (FCM_TOKEN, "fG1x:APA91b:with-another-colon", "fG1x"),
        (FCM_TOKEN, "a-token-of-old-without-a-colon", None),
        (FCM_TOKEN, ":APA91b", None),
        (WEBPUSH, "https://push.example.com/1", None),
        (LIVE_ACTIVITY, TOKEN, None),
    ],
)
def test_a_token_names_the_installation_that_it_was_made_for(kind, value, installation):
    assert make_device(kind, value).installation == installation


def test_neither_the_address_nor_its_keys_show_in_a_traceback():
    device = make_device(WEBPUSH, "https://push.example.com/secret", details={"keys": {"auth": "hidden"}})

    assert "secret" not in repr(device)
    assert "hidden" not in repr(device)
    assert device.id in repr(device)


@given(st.text())
def test_of_an_address_a_log_shows_six_characters_at_most_and_of_a_short_one_none(value):
    shown = masked(value)

    start = shown.partition("…")[0]
    assert value.startswith(start)
    assert len(start) == (6 if len(value) > 12 else 0)
    assert shown.endswith(f"…({len(value)})")
