"""Many tabs of one browser: one stream for all, one announcement, and always one tab that follows."""

import pytest

from tests.system.browser.conftest import visit

pytestmark = [pytest.mark.system, pytest.mark.slow]


def test_ten_tabs_over_http_1_1_hold_one_stream_and_all_of_them_load_and_show(site, network, user, gate):
    tabs = [user.visit(network) for _ in range(10)]  # Chromium opens six connections at most
    tabs[3].submit(gate=gate)
    request_id = tabs[3].accepted()
    for tab in tabs:
        tab.page.evaluate(f"void client.follow('{request_id}')")
    site.let(gate, 1)

    for tab in tabs:
        tab.sees_step("Write")
    assert site.open_streams() == 1

    site.finish(gate)
    for tab in tabs:
        tab.has_nothing_to_do()
    assert user.told() == {request_id: 1}
    assert [outcome for tab in tabs for outcome in tab.outcomes()] == ["a lesson"]


def test_when_the_tab_that_follows_is_closed_another_one_takes_over(site, network, user, gate):
    first, second = user.visit(network), user.visit(network)
    second.submit(gate=gate)
    request_id = second.accepted()
    second.sees_channel("stream")

    first.page.close()

    site.let(gate, 1)
    second.sees_step("Write")
    site.finish(gate)
    second.sees_outcome()
    second.has_nothing_to_do()
    assert user.told() == {request_id: 1}


def test_a_tab_that_hangs_is_replaced_and_when_it_comes_to_itself_it_does_not_tell_again(site, network, user, gate):
    user.context.route("**/client/tabs/leader.js", with_short_beats)
    first, second = user.visit(network), user.visit(network)
    second.submit(gate=gate)
    request_id = second.accepted()
    second.sees_channel("stream")
    first.page.evaluate(f"void setTimeout(() => hang('{gate}'))")

    site.let(gate, 1)
    second.sees_step("Write")
    site.finish(gate)
    second.sees_outcome()

    site.let(gate, "hanging")
    first.has_nothing_to_do()
    assert user.told() == {request_id: 1}


def test_a_tab_that_was_frozen_leaves_the_telling_to_the_one_in_front(site, network, plain_browser, gate):
    first = visit(plain_browser.page(), network)
    first.submit(gate=gate)
    first.accepted()
    second = visit(plain_browser.page(), network)
    first.page.freeze()

    site.let(gate, 1)
    second.sees_step("Write")
    site.finish(gate)
    second.sees_outcome()

    first.page.resume()
    first.page.show()
    first.has_nothing_to_do()
    assert (first.outcomes(), second.outcomes()) == ([], ["a lesson"])


def test_an_outcome_that_a_user_saw_on_one_tab_is_no_news_on_one_that_is_opened_later(site, network, user, gate):
    site.finish(gate)
    first = user.visit(network)
    first.submit(gate=gate)
    first.sees_outcome()
    first.has_nothing_to_do()

    second = user.visit(network)

    second.has_nothing_to_do()
    assert len(user.announced) == 1


def with_short_beats(route):
    """Three beats that a tab waits for before it takes over are 15 seconds; here they are one."""
    source = route.fetch().text()
    assert "BEAT = 5000" in source
    route.fulfill(body=source.replace("BEAT = 5000", "BEAT = 300"), content_type="text/javascript")
