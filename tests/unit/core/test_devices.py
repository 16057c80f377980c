"""A device's address: which kind it is, when two are the same device, and what of it may be seen."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_bgtasks.core.devices import (
    FCM_TOKEN,
    FID,
    LIVE_ACTIVITY,
    WEBPUSH,
    device_id,
    make_device,
    masked,
    of_user_token,
    proof_of,
)

INSTALLATION = "cXyZ0123456789abcdef-_"
TOKEN = f"{INSTALLATION}:APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx"

texts = st.text() | st.text(alphabet='\n",[]\\ab', max_size=4)
addresses = st.tuples(texts | st.just(FID), texts, st.none() | texts, st.none() | texts)


@given(addresses, addresses)
def test_two_addresses_have_one_id_only_if_they_are_the_same(one, other):
    def id_of(kind, value, request_id, owner):
        return device_id(kind, value, request_id=request_id, owner=owner)

    def told(kind, value, request_id, owner):
        return (kind, value, request_id, owner if kind == FID else None)

    assert (id_of(*one) == id_of(*other)) == (told(*one) == told(*other))


@given(addresses)
def test_an_id_is_short_and_harmless_and_the_address_is_not_in_it(address):
    kind, value, request_id, owner = address

    assert re.fullmatch("[0-9a-f]{32}", device_id(kind, value, request_id=request_id, owner=owner))


def test_everyone_who_knows_a_fid_has_a_device_of_their_own():
    annas, berts = make_device(FID, INSTALLATION, owner="anna"), make_device(FID, INSTALLATION, owner="bert")

    assert annas.id != berts.id
    assert annas.id == make_device(FID, INSTALLATION, owner="anna", lang="de").id


OTHER = f"{INSTALLATION}:APA91b-another"


@pytest.mark.parametrize(
    ("new", "old", "ousts"),
    [
        (("anna", INSTALLATION, None), ("anna", TOKEN, None), True),
        (("anna", OTHER, None), ("anna", TOKEN, None), True),
        (("bert", INSTALLATION, None), ("anna", INSTALLATION, None), False),
        (("bert", INSTALLATION, None), ("anna", INSTALLATION, TOKEN), False),
        (("bert", INSTALLATION, TOKEN), ("anna", INSTALLATION, None), False),
        (("bert", INSTALLATION, OTHER), ("anna", INSTALLATION, TOKEN), False),
        (("bert", INSTALLATION, TOKEN), ("anna", INSTALLATION, TOKEN), True),
        (("bert", INSTALLATION, TOKEN), ("anna", TOKEN, None), True),
        (("bert", TOKEN, None), ("anna", INSTALLATION, TOKEN), True),
        (("bert", TOKEN, None), ("anna", TOKEN, None), True),
        (("bert", OTHER, None), ("anna", INSTALLATION, TOKEN), False),
        (("bert", OTHER, None), ("anna", TOKEN, None), False),
        (("bert", "x" + TOKEN[1:], None), ("anna", TOKEN, None), False),
        (("anna", "x" + INSTALLATION[1:], TOKEN), ("anna", INSTALLATION, TOKEN), False),
        (("anna", "token-of-old", None), ("anna", "another", None), False),
    ],
)
def test_an_installation_is_taken_by_its_owner_or_with_its_token(new, old, ousts):
    def device(owner, value, token):
        return of_user_token(value, owner=owner).proved_by(token and proof_of(token))

    assert device(*new).ousts(device(*old)) is ousts


@given(st.text())
def test_a_proof_is_of_one_size_whatever_the_token(token):
    assert re.fullmatch("[0-9a-f]{64}", proof_of(token))


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
    assert device.id == device_id(kind, user_token, owner="anna")


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
