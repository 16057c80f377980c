"""Places for streams: how many there are, and how many of them one client may have."""

import pytest

from flask_bgtasks.http.requests.client_address import client_network
from flask_bgtasks.http.streaming.slots import Slots


def take(slots, whose=None, limit=8):
    return slots.take(lambda: limit, whose)


def test_one_client_has_half_of_the_places_and_the_rest_is_for_others():
    slots = Slots(8)
    anns = [take(slots, "ann") for _ in range(6)]

    assert [slot is not None for slot in anns] == [True] * 4 + [False] * 2
    others = [take(slots, who) for who in ("bob", "eve", "joe")]
    assert all(others)
    assert slots.taken == 7


def test_a_place_that_is_given_back_is_the_clients_again():
    slots = Slots(4)
    first, second = take(slots, "ann"), take(slots, "ann")
    assert take(slots, "ann") is None

    first.release()
    first.release()

    assert take(slots, "ann") is not None or second is None
    assert slots.taken == 1


@pytest.mark.parametrize(("limit", "share"), [(0, 2), (1, 2), (2, 2), (4, 2), (5, 2), (6, 3), (128, 64)])
def test_a_share_is_half_at_least_two(limit, share):
    assert Slots(limit).share == share


def test_a_share_may_be_set():
    slots = Slots(8, 1)

    assert take(slots, "ann")
    assert slots.share == 1


def test_whoever_cannot_be_told_from_others_has_all_places():
    slots = Slots(3)
    kept = [take(slots) for _ in range(4)]

    assert [slot is not None for slot in kept] == [True, True, True, False]


def test_counts_of_clients_that_have_gone_are_forgotten():
    slots = Slots(8)
    for number in range(1000):
        with take(slots, f"client {number}"):
            pass

    assert not slots._taken_by


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("8.8.8.8", "8.8.8.8"),
        ("2a00:1450:4001:81b::200e", "2a00:1450:4001:81b::"),
        ("2a00:1450:4001:81b:ffff::1", "2a00:1450:4001:81b::"),
        ("::ffff:8.8.8.8", "8.8.8.8"),
        ("127.0.0.1", None),
        ("::1", None),
        ("10.1.2.3", None),
        ("192.168.0.9", None),
        ("fd00::1", None),
        ("fe80::1%eth0", None),
        ("", None),
        (None, None),
        ("not an address", None),
        ("8.8.8.8, 9.9.9.9", None),
    ],
)
def test_the_network_of_a_client(address, network):
    assert client_network(address) == network
