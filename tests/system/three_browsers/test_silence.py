"""Networks that are lost without a word."""

import pytest

pytestmark = [pytest.mark.system, pytest.mark.slow]


def test_a_network_that_is_lost_without_a_word_is_noticed_and_found_again(site, network, open_page, gate):
    page = open_page()
    page.submit(gate=gate)
    page.accepted()
    page.sees_channel("stream")
    network.swallow()

    page.sees_channel("offline")

    network.heal()
    page.sees_channel("stream")
    site.finish(gate)
    page.sees_outcome()
