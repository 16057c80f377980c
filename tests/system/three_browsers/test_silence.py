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


def test_a_page_that_wakes_does_not_believe_a_stream_that_nobody_answers_beside(site, network, open_page, gate):
    page = open_page(stallAfter=600_000)  # the silence of the stream says nothing
    page.submit(gate=gate)
    page.accepted()
    page.sees_channel("stream")
    network.swallow()

    page.page.evaluate("void dispatchEvent(new Event('online'))")
    page.sees_channel("offline")

    network.heal()
    page.sees_channel("stream")
    site.finish(gate)
    page.sees_outcome()
