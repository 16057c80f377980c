"""Something on the way answers in the place of the backend: a proxy during a deploy, a firewall, a captive portal."""

import re

import pytest

from tests.support.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.slow]

HTML = {"content_type": "text/html", "body": "<h1>Sorry"}


class Middleman:
    """Answers the calls of a page to some addresses in the backend's place, until it goes."""

    def __init__(self, page, pattern, **answer):
        self.page, self.pattern, self.answers = page, pattern, 0

        def handle(route):
            self.answers += 1
            route.fulfill(**answer)

        page.route(pattern, handle)

    def goes(self):
        self.page.unroute(self.pattern)


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 200, **HTML},
        {"status": 302, "headers": {"Location": "http://portal.example/login"}},
        {"status": 403, "content_type": "application/json", "body": '{"message": "Forbidden"}'},
        {"status": 404, **HTML},
        {"status": 405, **HTML},
        {"status": 407, **HTML},
        {"status": 421, **HTML},
    ],
    ids=lambda answer: str(answer["status"]),
)
def test_no_submission_is_lost_by_what_it_says(site, network, user, gate, answer):
    site.finish(gate)
    page = user.visit(network)
    middleman = Middleman(page.page, "**/work", **answer)
    page.submit(gate=gate)
    page.wait_for("client.records().then(([{ tries }]) => tries >= 3)")
    (record,) = page.page.evaluate("client.records()")
    assert record["state"] in ("queued", "sending")

    middleman.goes()

    page.sees_outcome()
    page.has_nothing_to_do()
    assert (site.made(gate), len(user.announced)) == (1, 1)


@pytest.mark.parametrize("status", [200, 403, 404, 410])
def test_no_task_is_gone_by_what_it_says(site, network, user, gate, status):
    page = user.visit(network)
    page.submit(gate=gate)
    request_id = page.accepted()
    page.sees_channel("stream")
    middleman = Middleman(page.page, re.compile(r"/tasks[?/]"), status=status, **HTML)
    network.cut()
    site.finish(gate)
    site.has_ended(request_id)
    until(lambda: page.page.evaluate("client.checkPending('look')") or middleman.answers >= 6)
    (record,) = page.page.evaluate("client.records()")
    assert (record["state"], page.outcomes()) == ("following", [])

    middleman.goes()

    page.sees_outcome()
    page.has_nothing_to_do()
    assert user.told() == {request_id: 1}


@pytest.mark.parametrize("status", [200, 404, 409])
def test_what_it_says_is_nobodys_result(site, network, user, gate, status):
    page = user.visit(network)
    middleman = Middleman(page.page, "**/result", status=status, **HTML)
    site.finish(gate)
    page.submit(gate=gate)
    page.wait_for("client.records().then(([{ state }]) => state === 'settled')")
    until(lambda: page.page.evaluate("client.checkPending('look')") or middleman.answers >= 2)
    assert page.outcomes() == []

    middleman.goes()

    page.sees_outcome()


def test_a_redirect_to_the_apps_own_login_waits_for_a_login(site, network, user, gate):
    site.finish(gate)
    page = user.visit(network)
    middleman = Middleman(page.page, "**/work", status=302, headers={"Location": "/"})
    page.page.route(network.url + "/", lambda route: route.fulfill(headers={"Vary": "Prefer"}, **HTML))
    page.submit(gate=gate)
    page.wait_for("client.records().then(([{ state }]) => state === 'blocked')")

    middleman.goes()
    page.page.evaluate("client.checkPending('a new login')")

    page.sees_outcome()
