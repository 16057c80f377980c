"""A task that is tried again, while its page goes on."""

import pytest

pytestmark = [pytest.mark.system, pytest.mark.slow]


def test_a_task_that_is_retried_while_another_one_streams_is_told_to_its_end(site, network, user, gate):
    page = user.visit(network)
    page.submit(gate=gate)
    page.accepted()
    page.sees_channel("stream")
    page.submit("/count", to=100_000, every=0.02)
    retried = page.accepted()
    page.wait_for("task.view.attempt === 1")  # one that is cancelled before it begins has no attempt to count
    page.page.evaluate("task.cancel()")
    page.sees_outcome("cancelled")
    assert page.page.evaluate("channels.at(-1)[0]") == "stream"

    page.page.evaluate("task.retry()")
    page.wait_for("task.view.attempt > 1 && task.view.chunks.length > 3")
    page.page.evaluate("task.cancel()")

    page.wait_for("settled.length === 2")
    site.finish(gate)
    page.sees_outcome()
    page.has_nothing_to_do()
    assert user.told()[retried] == 2


def test_an_unsent_record_can_be_opened_as_a_task_after_a_reload(site, network, user, gate):
    site.finish(gate)
    page = user.visit(network)
    page.page.route("**/work", lambda route: route.abort("connectionreset"))
    page.submit(gate=gate)
    page.page.reload()
    page.wait_for("document.body.dataset.ready")

    page.page.evaluate("client.records().then(([record]) => { window.task = client.follow(record); })")

    assert page.page.evaluate("[task.requestId, task.view.status]") == [None, "queued"]
    page.page.unroute("**/work")
    assert page.page.evaluate("task.result()") == {"made": "a lesson"}
    page.has_nothing_to_do()
    assert len(user.announced) == 1
