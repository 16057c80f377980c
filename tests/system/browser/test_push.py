"""Pushes to the service worker: shown where no page is looked at, and never news of what was told before."""

import pytest

from flask_bgtasks import Notification
from flask_bgtasks.sinks.webpush import content
from tests.support.waiting import until
from tests.system.browser.conftest import visit

pytestmark = [pytest.mark.system, pytest.mark.slow]

REGISTER = """
navigator.serviceWorker.register('/tasks/service-worker.js', { type: 'module', scope: '/' })
  .then(() => navigator.serviceWorker.ready).then(() => true)
"""
RECORD = """
const show = registration.showNotification.bind(registration);
self.shown = [];
registration.showNotification = async (title, options) => {
  await show(title, options);
  shown.push([title, options.tag]);
};
"""
"""Not `getNotifications`: headless Chromium, which has nowhere to show them, forgets some."""


@pytest.fixture
def browser(plain_browser, network):
    """One whose user allows notifications, and has the app's service worker."""
    plain_browser.call(
        "Browser.setPermission", permission={"name": "notifications"}, setting="granted", origin=network.url
    )
    page = visit(plain_browser.page(), network)
    page.page.evaluate(REGISTER)
    page.page.close()
    return plain_browser


@pytest.fixture
def push(browser, site, network):
    """Has the browser deliver what the server would push of a task."""
    keeper = browser.page()
    keeper.call("ServiceWorker.enable")

    def deliver(request_id):
        task = site.has_ended(request_id)
        data = {name: str(task[name]) for name in ("request_id", "status", "seq", "attempt")}
        notification = Notification("Your lesson is ready", request_id=request_id, data=data)
        (registration,) = until(lambda: registered(browser))
        keeper.call(
            "ServiceWorker.deliverPushMessage",
            origin=network.url,
            registrationId=registration,
            data=content(notification, "en").decode(),
        )

    keeper.call("ServiceWorker.startWorker", scopeURL=f"{network.url}/")
    worker = browser.service_worker()
    worker.evaluate(RECORD)
    deliver.keeper = keeper
    deliver.shown = lambda: [tuple(one) for one in worker.evaluate("shown")]
    return deliver


def registered(browser):
    told = [event["params"] for event in browser.events if event["method"] == "ServiceWorker.workerRegistrationUpdated"]
    return {one["registrationId"] for params in told for one in params["registrations"]}


def test_without_a_page_a_notification_tells_and_no_page_that_is_opened_later(site, network, browser, push, gate):
    page = visit(browser.page(), network)
    request_id = submitted(page, gate)
    page.page.close()
    site.finish(gate)

    push(request_id)

    until(lambda: push.shown() == [("Your lesson is ready", request_id)])
    page = visit(browser.page(), network)
    page.has_nothing_to_do()
    assert page.outcomes() == []


def test_a_page_that_is_looked_at_tells_by_itself(site, network, browser, push, gate):
    page = visit(browser.page(), network)
    request_id = submitted(page, gate)
    network.refuse()
    site.finish(gate)

    push(request_id)

    page.wait_for("client.records().then(([{ state, via }]) => state === 'settled' && via === 'push')")
    network.heal()
    page.sees_outcome()
    page.has_nothing_to_do()
    assert (page.outcomes(), push.shown()) == (["a lesson"], [])


def test_a_push_is_no_news_where_the_stream_was_faster(site, network, browser, push, gate):
    page = visit(browser.page(), network)
    request_id = submitted(page, gate)
    site.finish(gate)
    page.sees_outcome()

    push(request_id)

    page.has_nothing_to_do()
    assert (page.outcomes(), push.shown()) == (["a lesson"], [])


def test_what_a_page_told_while_nobody_looked_at_it_is_shown_by_the_push_and_not_told_again(
    site, network, browser, push, gate
):
    page = visit(browser.page(), network)
    request_id = submitted(page, gate)
    other = browser.page()
    site.finish(gate)
    page.sees_outcome()

    push(request_id)

    until(lambda: push.shown() == [("Your lesson is ready", request_id)])
    other.close()
    page.has_nothing_to_do()
    assert page.outcomes() == ["a lesson"]


def test_the_same_push_twice_is_one_notification(site, network, browser, push, gate):
    page = visit(browser.page(), network)
    request_id = submitted(page, gate)
    page.page.close()
    site.finish(gate)

    push(request_id)
    push(request_id)

    until(lambda: len(push.shown()) == 2)
    page = visit(browser.page(), network)
    page.has_nothing_to_do()
    assert (page.outcomes(), set(push.shown())) == ([], {("Your lesson is ready", request_id)})  # the tag replaces


def test_what_waits_goes_out_with_no_page_open_when_the_browser_says_that_there_is_a_network(
    site, network, browser, push, gate
):
    page = visit(browser.page(), network)
    network.refuse()
    page.submit(gate=gate)
    page.wait_for("client.records().then(([{ tries, state }]) => tries > 0 && state === 'queued')")
    page.page.close()
    network.heal()

    (registration,) = until(lambda: registered(browser))
    sync = {"origin": network.url, "registrationId": registration, "tag": "bgtasks-outbox", "lastChance": False}
    push.keeper.call("ServiceWorker.dispatchSyncEvent", **sync)

    until(lambda: site.made(gate) == 1)
    site.finish(gate)
    page = visit(browser.page(), network)
    page.sees_outcome()
    page.has_nothing_to_do()
    assert (site.made(gate), page.outcomes()) == (1, ["a lesson"])


def submitted(page, gate):
    page.submit(gate=gate)
    return page.accepted()
