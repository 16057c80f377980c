"""The live stream through bad networks, bad proxies and bad clocks: every event once, in order."""

import pytest

from tests.backends.network import Chaos, Network
from tests.support.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.slow]


def test_a_stream_that_stalls_without_an_error_is_replaced(site, network, user):
    page = user.visit(network)
    request_id = counting(page, to=200)
    until(lambda: network.open == 1)  # the stream: the server ends the others when they have been idle for 2 s
    network.strand()

    page.wait_for("settled.length")

    assert page.heard(request_id) == site.history(request_id)
    assert page.page.evaluate("channels") == [["stream", "live"], ["idle", "nothing to follow"]]


def test_a_network_that_stalls_for_all_is_noticed_and_nothing_is_lost(site, network, user):
    page = user.visit(network)
    request_id = counting(page, to=50)
    page.hears(request_id, more_than=10)
    with page.page.expect_request(lambda request: "/tasks?ids=" in request.url):
        network.stall()

    network.heal()

    page.wait_for("settled.length")
    assert page.heard(request_id) == site.history(request_id)


def test_a_stream_that_is_cut_again_and_again_loses_and_repeats_nothing(site, network, user):
    page = user.visit(network)
    network.cut_every(0.5)
    request_id = counting(page, to=100)
    site.has_ended(request_id)
    network.heal()

    page.wait_for("settled.length")

    assert page.heard(request_id) == site.history(request_id)
    page.has_nothing_to_do()
    assert user.told() == {request_id: 1}


def test_slow_3g_is_enough(site, network, user):
    network.slow()
    page = user.visit(network)
    request_id = counting(page, to=20)

    page.wait_for("settled.length")

    assert page.heard(request_id) == site.history(request_id)


def test_a_server_that_is_killed_in_the_middle_goes_on_and_so_does_the_page(mortal_site, user):
    with Network(mortal_site.port) as network:
        page = user.visit(network)
        page.submit(gate="gate")
        request_id = page.accepted()
        mortal_site.let("gate", 1)
        page.sees_step("Write")
        mortal_site.kill()
        page.sees_channel("offline")

        mortal_site.start()
        network.retarget(mortal_site.port)
        mortal_site.finish("gate")

        page.sees_outcome()
        page.has_nothing_to_do()
        assert page.heard(request_id) == mortal_site.history(request_id)
        assert user.told() == {request_id: 1}


@pytest.mark.parametrize("status", [404, 500, 503])
def test_without_a_stream_the_status_is_asked_for(site, network, user, gate, status):
    page = user.visit(network)
    page.page.route("**/tasks/events*", lambda route: route.fulfill(status=status, headers={"Retry-After": "60"}))
    page.submit(gate=gate)
    request_id = page.accepted()
    page.sees_channel("poll")

    site.let(gate, 1)
    page.sees_step("Write")
    site.finish(gate)

    page.sees_outcome()
    page.has_nothing_to_do()
    assert page.heard(request_id) == site.history(request_id)
    assert {news["via"] for news in user.announced} == {"poll"}


def test_a_stream_that_a_proxy_holds_back_does_not_hold_the_page_back(site, user, gate):
    with Chaos.only(site.port, buffer=1 << 20) as proxy:
        page = user.visit(proxy)
        page.submit(gate=gate)
        request_id = page.accepted()

        site.let(gate, 1)
        page.sees_step("Write")
        site.finish(gate)
        page.sees_outcome()

        page.has_nothing_to_do()
    assert page.heard(request_id) == site.history(request_id)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps_in_the_middle_of_a_run_makes_no_difference(site, network, user, gate, hours):
    page = user.visit(network)
    page.submit(gate=gate)
    page.accepted()

    skew(page, hours)
    site.let(gate, 1)
    page.sees_step("Write")
    network.cut()
    site.finish(gate)

    page.sees_outcome()
    page.has_nothing_to_do()
    assert len(user.announced) == 1


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps_while_a_submission_waits_does_not_make_it_wait_longer(site, network, user, gate, hours):
    site.finish(gate)
    page = user.visit(network)
    network.refuse()
    page.submit(gate=gate)
    page.wait_for("client.records().then(([{ tries, state }]) => tries > 0 && state === 'queued')")

    skew(page, hours)
    network.heal()

    page.sees_outcome()
    assert site.made(gate) == 1


def counting(page, *, to):
    """Start a task that tells of a number every 20 ms; its id."""
    page.submit("/count", to=to, every=0.02)
    return page.accepted()


def skew(page, hours):
    """Set the device's clock; its timers go on as before, as they do when a user or NTP sets it."""
    page.page.evaluate(f"const now = Date.now; Date.now = () => now() + {hours} * 3_600_000")
