"""A page that nobody looks at: it must not pass for a user who was told."""

import pytest

from tests.backends.network import Network
from tests.support.waiting import until
from tests.system.browser.conftest import Site, visit

pytestmark = [pytest.mark.system, pytest.mark.slow]


def test_an_outcome_counts_as_seen_only_when_somebody_looks(site, network, plain_browser, gate):
    page = visit(plain_browser.page(), network)
    page.submit(gate=gate)
    request_id = page.accepted()
    page.sees_channel("stream")
    plain_browser.page()  # before it
    page.sees_channel("poll")  # the server takes what goes out on a stream for told

    site.finish(gate)
    page.sees_outcome()
    page.page.evaluate("client.checkPending('the test')")
    assert site.get(f"/tasks?ids={request_id}&seen=true")["tasks"] == []

    page.page.show()

    until(lambda: site.get(f"/tasks?ids={request_id}&seen=true")["tasks"])
    page.has_nothing_to_do()
    assert page.outcomes() == ["a lesson"]


def test_a_user_who_looked_away_gets_the_push(tmp_path, plain_browser):
    settings = {"notify": "unseen", "notify_grace": 0.5, "sinks": ["memory"]}
    site = Site(tmp_path, **settings)
    try:
        with Network(site.port) as network:
            page = visit(plain_browser.page(), network)
            page.submit("/told", gate="gate")
            request_id = page.accepted()
            plain_browser.page()
            page.sees_channel("poll")

            site.finish("gate")
            page.sees_outcome()

            assert until(lambda: site.get("/pushed")) == [request_id]
    finally:
        site.close()


def test_a_user_who_looks_gets_none(tmp_path, plain_browser):
    site = Site(tmp_path, notify="unseen", notify_grace=0.5, sinks=["memory"])
    try:
        with Network(site.port) as network:
            page = visit(plain_browser.page(), network)
            page.submit("/told", gate="gate")
            seen = page.accepted()
            site.finish("gate")
            page.sees_outcome()
            until(lambda: site.get(f"/tasks?ids={seen}&seen=true")["tasks"])
            plain_browser.page()
            page.sees_channel("idle")

            page.submit("/told", gate="gate")  # the push for this one comes after whatever there was for the first

            unseen = page.accepted()
            assert until(lambda: site.get("/pushed")) == [unseen]
    finally:
        site.close()


def test_the_tab_that_is_looked_at_follows_for_all(site, network, plain_browser, gate):
    first = visit(plain_browser.page(), network)
    first.submit(gate=gate)
    first.accepted()
    first.sees_channel("stream")

    second = visit(plain_browser.page(), network)

    second.sees_channel("stream")
    first.sees_channel("stream")
    until(lambda: network.open >= 1)
    site.finish(gate)
    second.sees_outcome()
    first.has_nothing_to_do()
    second.has_nothing_to_do()
    assert first.outcomes() + second.outcomes() == ["a lesson"]
