"""Servers that are busy or fail, and two apps on one origin."""

import pytest

from tests.backends.network import Network
from tests.system.browser.conftest import Site, visit

pytestmark = [pytest.mark.system, pytest.mark.slow]

TWO_APPS = """
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from tests.system.browser.served import make_app
app = DispatcherMiddleware(make_app({folder!r}), {{"/other": make_app({other!r})}})
"""


@pytest.mark.parametrize("status", [503, 500])
def test_what_a_server_says_that_cannot_take_a_submission_is_shown(site, network, open_page, gate, status):
    page = open_page()
    page.submit("/busy", gate=gate, status=status)

    page.sees_channel("busy")
    page.wait_for("client.records().then(([{ refusal }]) => refusal)")
    (record,) = page.page.evaluate("client.records()")
    assert (record["refusal"]["status"], record["refusal"]["detail"]) == (status, "Too many lessons are made just now.")
    why = page.page.evaluate("channels.at(-1)[1]")
    assert why.startswith(f"{status}: Too many lessons are made just now.; sent again in ")

    site.let(gate, "free")
    page.sees_outcome()
    (record,) = page.page.evaluate("client.records()")
    assert record["refusal"] is None


@pytest.fixture
def two_apps(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    site = Site(tmp_path, code=TWO_APPS.format(folder=str(tmp_path), other=str(other)))
    with Network(site.port) as network:
        yield site, other, network
    site.close()


def test_two_apps_on_one_origin_leave_each_others_tasks_alone(two_apps, browser):
    site, other, network = two_apps
    page = visit(browser.page(), network)
    page.page.evaluate(
        """void (window.other = new client.constructor({ baseUrl: '/other/tasks', pollInterval: 200 }),
        window.told = [],
        other.addEventListener('settled', ({ detail }) => told.push(detail.result?.made)),
        other.addEventListener('rejected', () => told.push('gone')))"""
    )
    page.submit(gate="mine")
    mine = page.accepted()
    theirs = page.page.evaluate("other.submit('/other/work', { gate: 'theirs' }).then((task) => task.accepted)")

    for _ in range(3):
        page.page.evaluate("Promise.all([client.checkPending(), other.checkPending()])")
    ids = "records().then((all) => all.map(({ request_id }) => request_id))"
    assert (page.page.evaluate(f"client.{ids}"), page.page.evaluate(f"other.{ids}")) == ([mine], [theirs])

    site.finish("mine")
    for step in (1, 2, 3):
        (other / "gates" / f"theirs.{step}").touch()
    page.sees_outcome()
    page.wait_for("told.length")
    assert page.page.evaluate("told") == ["a lesson"]
    page.page.close()


def test_what_an_older_version_stored_for_all_apps_is_taken_over(site, network, browser, gate):
    page = browser.page()
    page.goto(f"{network.url}/tasks/client.d.ts")  # a page of the origin, without the module
    record = """{ key: '%s', url: new URL('/work', location).href, method: 'POST', state: 'queued', owner: null,
      headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ gate: '%s' }), body_hash: null, tries: 1,
      request_id: null, created_at: Date.now(), changed_at: Date.now(), next_try_at: 0, expires_at: Date.now() + 1e8,
      seq: 0, attempt: 0,
      settled_seq: 0, announced_seq: 0, acked_seq: 0, missing: 0, provisional: null, cursor: 0 }"""
    page.evaluate(
        """new Promise((resolve, reject) => {
          const opening = indexedDB.open('bgtasks', 1);
          opening.onupgradeneeded = () => {
            const store = opening.result.createObjectStore('records', { keyPath: 'key' });
            store.createIndex('request_id', 'request_id');
            store.put(%s);
          };
          opening.onsuccess = () => { opening.result.close(); resolve(); };
          opening.onerror = () => reject(opening.error);
        })"""
        % (record % (gate, gate))
    )
    site.finish(gate)

    page = visit(page, network)

    page.sees_outcome()
    assert site.made(gate) == 1
    page.page.close()
