"""Two users of one browser: what one of them has submitted is never sent with the cookie of the other."""

import contextlib

import pytest

from tests.support.waiting import until
from tests.system.browser.conftest import Site, visit
from tests.system.browser.test_push import REGISTER, registered

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture
def site(tmp_path):
    """A server of this test's own, on which users log in."""
    with contextlib.closing(Site(tmp_path, sessions=True)) as site:
        yield site


@pytest.fixture
def browser(plain_browser, network):
    """One that has the app's service worker, and a page from which it is spoken to."""
    page = visit(plain_browser.page(), network)
    page.page.evaluate(REGISTER)
    page.page.close()
    keeper = plain_browser.page()
    keeper.call("ServiceWorker.enable")
    plain_browser.keeper = keeper
    return plain_browser


def submitted_offline(network, browser, gate, **options):
    """Submit without a network, and leave the page."""
    page = visit(browser.page(), network, **options)
    network.refuse()
    page.submit(gate=gate)
    page.wait_for("client.records().then(([{ tries, state }]) => tries > 0 && state === 'queued')")
    page.page.close()
    network.heal()


def say_that_there_is_a_network(browser, network):
    (registration,) = until(lambda: registered(browser))
    sync = {"origin": network.url, "registrationId": registration, "tag": "bgtasks-outbox", "lastChance": False}
    browser.keeper.call("ServiceWorker.dispatchSyncEvent", **sync)


def test_what_one_user_left_unsent_waits_for_that_user(site, network, browser):
    browser.page(f"{network.url}/login/ann").close()
    submitted_offline(network, browser, "of-ann", owner="ann")
    browser.page(f"{network.url}/logout").close()
    browser.page(f"{network.url}/login/ben").close()
    submitted_offline(network, browser, "of-nobody")  # an app that does not say whose its tasks are

    say_that_there_is_a_network(browser, network)

    until(lambda: site.senders("of-nobody") == ["ben"])  # the worker has been at work
    for gate in ("of-nobody", "of-ben", "of-ann"):
        site.finish(gate)
    ben = visit(browser.page(), network, owner="ben")
    ben.has_nothing_to_do()
    say_that_there_is_a_network(browser, network)
    ben.submit(gate="of-ben")
    until(lambda: site.senders("of-ben") == ["ben"])
    assert site.senders("of-ann") == []
    ben.page.close()

    browser.page(f"{network.url}/login/ann").close()
    ann = visit(browser.page(), network, owner="ann")
    ann.sees_outcome()
    ann.has_nothing_to_do()
    assert site.senders("of-ann") == ["ann"]


def test_without_a_login_it_is_kept_until_there_is_one(site, network, browser):
    browser.page(f"{network.url}/login/ann").close()
    submitted_offline(network, browser, "of-ann", owner="ann")
    browser.page(f"{network.url}/logout").close()
    page = visit(browser.page(), network, owner="ann")  # its session has ended, and it does not know
    page.wait_for("client.records().then(([{ state }]) => state === 'blocked')")

    browser.page(f"{network.url}/login/ann").close()
    page.page.evaluate("client.checkPending('a new login')")

    site.finish("of-ann")
    page.sees_outcome()
    assert site.senders("of-ann")[-1] == "ann"
    assert site.made("of-ann") == 1
