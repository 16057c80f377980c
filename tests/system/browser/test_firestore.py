"""The backend is unreachable, and the mirror in Firestore tells how the task ended."""

import contextlib

import pytest

from tests.backends.network import Network
from tests.system.browser.conftest import Site

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture
def mirrored_site(tmp_path, firestore_project):
    settings = {"sinks": ["firestore"], "firebase_project": firestore_project}
    with contextlib.closing(Site(tmp_path, **settings)) as site:
        yield site


@pytest.fixture
def mirror(firestore_emulator, firestore_project):
    """What the page is told of the mirror."""
    return {"projectId": firestore_project, "host": firestore_emulator.url}


def test_an_outcome_is_read_from_the_mirror_and_not_told_again_by_the_backend(mirrored_site, user, mirror):
    with Network(mirrored_site.port) as network:
        page = user.visit(network, firestore=mirror)
        page.submit(gate="gate")
        request_id = page.accepted()
        mirrored_site.let("gate", 1)
        page.sees_step("Write")
        network.refuse()
        page.sees_channel("monitor")

        mirrored_site.let("gate", 2)
        page.sees_step("Draw")
        mirrored_site.finish("gate")
        page.sees_outcome()
        assert [news["via"] for news in user.announced] == ["firestore"]

        network.heal()
        page.has_nothing_to_do()
        assert user.told() == {request_id: 1}


def test_when_neither_answers_the_page_says_that_it_is_offline_and_goes_on_when_one_does(mirrored_site, user, mirror):
    with Network(mirrored_site.port) as network, Network(int(mirror["host"].rpartition(":")[2])) as to_firestore:
        page = user.visit(network, firestore={**mirror, "host": to_firestore.url})
        page.submit(gate="gate")
        request_id = page.accepted()
        page.sees_channel("stream")
        network.refuse()
        to_firestore.refuse()
        page.sees_channel("offline")

        mirrored_site.finish("gate")
        mirrored_site.has_ended(request_id)
        to_firestore.heal()

        page.sees_outcome()
        assert user.told() == {request_id: 1}
