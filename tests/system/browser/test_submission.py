"""What was submitted reaches the server once, whatever is lost on the way, and its outcome is told once."""

import contextlib

import pytest

from tests.backends.chromium import faultless
from tests.backends.network import Chaos, Network
from tests.support.waiting import until
from tests.system.browser.conftest import Site, User

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture
def gate(site, gate):
    """One that is open."""
    site.finish(gate)
    return gate


def test_what_is_submitted_offline_goes_out_once_when_the_network_is_back(site, network, user, gate):
    page = user.visit(network)
    user.context.set_offline(True)
    network.refuse()
    page.submit(gate=gate)
    page.sees_channel("offline")
    assert (states(page), site.made(gate)) == (["queued"], 0)

    network.heal()
    user.context.set_offline(False)

    page.sees_outcome()
    page.has_nothing_to_do()
    assert (site.made(gate), len(user.announced)) == (1, 1)


def test_a_request_that_was_lost_is_sent_again(site, network, user, gate):
    page = user.visit(network)
    page.page.route("**/work", lambda route: route.abort("connectionreset"), times=2)
    page.submit(gate=gate)

    page.sees_outcome()

    assert (site.made(gate), len(user.announced)) == (1, 1)
    assert "sent" in page.page.evaluate("recovered")


def test_an_answer_that_was_lost_makes_no_second_task(site, network, user, gate):
    page = user.visit(network)
    answers = []

    def lose(route):
        answers.append(route.fetch())
        route.abort("connectionreset")

    page.page.route("**/work", lose, times=2)
    page.submit(gate=gate)

    page.sees_outcome()

    page.has_nothing_to_do()
    assert [answer.status for answer in answers] == [202, 202]
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, "true"]
    assert (site.made(gate), len(user.announced)) == (1, 1)


def test_a_page_that_was_closed_before_anything_was_sent_sends_when_it_is_opened_again(site, network, user, gate):
    page = user.visit(network)
    network.stall()
    page.submit(gate=gate)
    page.page.close()
    network.cut()
    network.heal()
    assert site.made(gate) == 0

    page = user.visit(network)

    page.sees_outcome()
    page.has_nothing_to_do()
    assert (site.made(gate), len(user.announced)) == (1, 1)


def test_a_browser_that_was_killed_while_it_was_sending_makes_one_task(site, network, device, gate):
    user = User(device.context)
    with Chaos.only(site.port, lose_answer=1) as chaos:
        chaos.calm()
        page = user.visit(chaos)
        chaos.storm()
        page.submit(gate=gate)
        until(lambda: site.made(gate))
        device.kill()
        chaos.calm()

        user.enter(device.start())
        page = user.visit(chaos)

        page.sees_outcome()
        page.has_nothing_to_do()
    assert (site.made(gate), len(user.announced)) == (1, 1)


def test_without_a_login_it_waits_for_new_credentials(site, network, user):
    page = user.visit(network, token="of yesterday")
    page.submit("/private")
    page.wait_for("client.records().then(([record]) => record.state === 'blocked')")

    page.page.evaluate("token = 'good', client.checkPending('a new login')")

    page.sees_outcome("a secret")
    assert len(user.announced) == 1


def test_what_was_submitted_on_another_device_is_told_on_this_one_if_nobody_saw_it(tmp_path, chromium, user):
    with contextlib.closing(Site(tmp_path, members=True)) as site, Network(site.port) as network:
        page = user.visit(network, token="good", owner="ann")
        page.submit(gate="gate")
        request_id = page.accepted()
        user.context.close()
        site.finish("gate")
        until(lambda: site.made("gate"))

        with faultless(chromium.new_context()) as context:
            another = User(context)
            page = another.visit(network, token="good", owner="ann")

            page.sees_outcome()
            page.has_nothing_to_do()
            assert another.told() == {request_id: 1}
            assert page.page.evaluate("recovered") == ["discovered"]

            page.page.reload()
            page.has_nothing_to_do()
            assert another.told() == {request_id: 1}


def test_a_login_that_expires_on_the_way_makes_no_task_gone(tmp_path, user):
    with contextlib.closing(Site(tmp_path, members=True)) as site, Network(site.port) as network:
        page = user.visit(network, token="good")
        page.submit(gate="gate")
        page.accepted()
        page.sees_channel("stream")
        page.page.evaluate("token = 'of yesterday'")
        network.cut()
        page.sees_channel("blocked")
        page.page.evaluate("client.checkPending('once').then(() => client.checkPending('and again'))")
        site.finish("gate")
        assert states(page) == ["following"]

        page.page.evaluate("token = 'good', client.checkPending('a new login')")

        page.sees_outcome()
        page.has_nothing_to_do()
    assert len(user.announced) == 1


def test_what_the_server_refuses_is_told_once_and_never_sent_again(site, network, user):
    page = user.visit(network)
    page.submit("/picky")
    page.has_nothing_to_do()
    page.page.reload()
    page.has_nothing_to_do()

    assert [news["rejected"]["status"] for news in user.announced] == [422]
    assert states(page) == ["rejected"]


@pytest.mark.timeout(300)
def test_a_hundred_submissions_in_a_storm_are_a_hundred_tasks_and_a_hundred_outcomes(site, user, gate):
    titles = [f"lesson {number}" for number in range(100)]
    with Chaos(site.port, seed=6) as chaos:
        chaos.calm()
        page = user.visit(chaos)
        chaos.storm()

        for title in titles:
            page.submit(gate=gate, title=title)
        page.wait_for("settled.length >= 100", seconds=240)

        chaos.calm()
        page.has_nothing_to_do()
        hurts, requests = chaos.log, chaos.connections
    assert site.made(gate) == 100
    assert sorted(page.outcomes()) == sorted(titles)
    assert set(user.told().values()) == {1}
    assert all(hurts[kind] > 5 for kind in ("lose_request", "lose_answer", "twice", "refuse", "cut", "delay")), hurts
    assert requests < 2000  # twenty each: whoever tries again and again also knows how to wait


def states(page):
    return page.page.evaluate("client.records().then((all) => all.map(({ state }) => state))")
