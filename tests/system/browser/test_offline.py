"""Something goes in the middle of a run: the network, the server, the page, the browser, the whole device's attention.

The task ends meanwhile. Its outcome is shown when everything is back: with no action of the user, and once.
"""

import pytest

from tests.backends.network import Network
from tests.support.waiting import until
from tests.system.browser.conftest import User, visit

pytestmark = [pytest.mark.system, pytest.mark.slow]


def test_what_ended_while_the_device_was_offline_is_shown_when_it_is_back(site, network, user, gate):
    page = user.visit(network)
    request_id = at_the_second_step(site, page, gate)
    user.context.set_offline(True)
    network.refuse()
    page.sees_channel("offline")
    site.finish(gate)
    site.has_ended(request_id)
    assert page.outcomes() == []

    network.heal()
    user.context.set_offline(False)

    page.sees_outcome()
    page.has_nothing_to_do()
    assert user.told() == {request_id: 1}


def test_a_network_that_came_back_without_a_word_is_noticed_too(site, network, user, gate):
    page = user.visit(network)
    request_id = at_the_second_step(site, page, gate)
    network.refuse()
    page.sees_channel("offline")
    site.finish(gate)

    network.heal()

    page.sees_outcome()
    page.has_nothing_to_do()
    assert user.told() == {request_id: 1}
    assert page.page.evaluate("recovered") == ["reconnected"]


def test_a_server_that_was_killed_meanwhile_makes_no_difference(mortal_site, user):
    with Network(mortal_site.port) as network:
        page = user.visit(network)
        request_id = at_the_second_step(mortal_site, page, "gate")
        user.context.set_offline(True)
        network.refuse()
        mortal_site.kill()
        mortal_site.finish("gate")
        mortal_site.start()
        mortal_site.has_ended(request_id)

        network.retarget(mortal_site.port)
        network.heal()
        user.context.set_offline(False)

        page.sees_outcome()
        page.has_nothing_to_do()
        assert user.told() == {request_id: 1}


def test_a_page_that_was_closed_tells_when_it_is_opened_again(site, network, user, gate):
    page = user.visit(network)
    request_id = at_the_second_step(site, page, gate)
    page.page.close()
    site.finish(gate)
    site.has_ended(request_id)

    page = user.visit(network)

    page.sees_outcome()
    page.has_nothing_to_do()
    assert user.told() == {request_id: 1}


def test_a_page_that_was_told_of_an_outcome_does_not_tell_it_again_when_it_is_opened_again(site, network, user, gate):
    site.finish(gate)
    page = user.visit(network)
    page.submit(gate=gate)
    page.sees_outcome()
    page.has_nothing_to_do()  # before it is noted that the listeners returned, it may be told again
    page.page.reload()

    page.has_nothing_to_do()

    assert len(user.announced) == 1


def test_a_page_that_is_reloaded_goes_on_where_it_was(site, network, user, gate):
    page = user.visit(network)
    request_id = at_the_second_step(site, page, gate)

    page.page.reload()

    page.sees_step("Write")
    site.finish(gate)
    page.sees_outcome()
    page.has_nothing_to_do()
    assert user.told() == {request_id: 1}
    assert page.heard(request_id) == site.history(request_id)


def test_a_browser_that_was_killed_tells_when_it_is_started_again(site, network, device, gate):
    user = User(device.context)
    request_id = at_the_second_step(site, user.visit(network), gate)
    device.kill()
    site.finish(gate)
    site.has_ended(request_id)

    user.enter(device.start())
    page = user.visit(network)

    page.sees_outcome()
    page.has_nothing_to_do()
    assert user.told() == {request_id: 1}


def test_a_page_that_comes_back_from_the_back_forward_cache_catches_up(site, network, user, gate):
    page = user.visit(network)
    request_id = at_the_second_step(site, page, gate)
    page.page.evaluate("addEventListener('pageshow', ({ persisted }) => { window.restored = persisted; })")
    page.page.goto(f"{network.url}/tasks/health")
    site.finish(gate)
    site.has_ended(request_id)

    page.page.evaluate("history.back()")

    page.page.wait_for_function("window.restored")
    page.sees_outcome()
    page.has_nothing_to_do()
    assert user.told() == {request_id: 1}


def test_a_frozen_page_catches_up_when_it_is_resumed(site, network, plain_browser, gate):
    page = visit(plain_browser.page(), network)
    request_id = at_the_second_step(site, page, gate)
    other = plain_browser.page()
    page.page.freeze()
    site.finish(gate)
    site.has_ended(request_id)
    assert page.outcomes() == []

    page.page.resume()
    other.close()

    page.sees_outcome()
    page.has_nothing_to_do()
    assert page.outcomes() == ["a lesson"]


def test_a_page_that_nobody_looks_at_stops_asking_until_it_is_looked_at(site, network, plain_browser, gate):
    page = visit(plain_browser.page(), network, sleepAfter=3000)  # it stands for the lead again after a second
    request_id = at_the_second_step(site, page, gate)
    other = plain_browser.page()
    page.sees_channel("asleep")
    site.finish(gate)
    site.has_ended(request_id)
    assert page.outcomes() == []

    other.close()

    page.sees_outcome()
    page.has_nothing_to_do()
    assert page.outcomes() == ["a lesson"]


def test_a_device_that_slept_finds_its_connections_dead_and_catches_up(site, network, plain_browser, gate):
    page = visit(plain_browser.page(), network)
    request_id = at_the_second_step(site, page, gate)
    until(lambda: network.open == 1)  # the stream: the server ends the others when they have been idle for 2 s
    plain_browser.sleep()
    network.strand()
    site.finish(gate)
    site.has_ended(request_id)

    plain_browser.wake()

    page.sees_outcome()
    page.has_nothing_to_do()
    assert page.outcomes() == ["a lesson"]


def at_the_second_step(site, page, gate):
    """Submit, and let the task get on to its second step; its id."""
    page.submit(gate=gate)
    request_id = page.accepted()
    site.let(gate, 1)
    page.sees_step("Write")
    return request_id
