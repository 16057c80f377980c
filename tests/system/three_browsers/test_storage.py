"""Browsers that store nothing, no more, or not in time: a page works in memory, alone, and says so."""

import contextlib
import json

import pytest

from tests.backends.engines import start
from tests.system.browser.conftest import visit

pytestmark = [pytest.mark.system, pytest.mark.slow]

BLOCK_IN_CHROMIUM = {"profile": {"default_content_setting_values": {"cookies": 2}}}
BLOCK_IN_FIREFOX = {"network.cookie.cookieBehavior": 2}  # nsICookieService.BEHAVIOR_REJECT


def works_in_memory(page, site, gate):
    page.submit(gate=gate)
    page.wait_for("task.requestId")
    site.finish(gate)
    page.sees_outcome()
    page.has_nothing_to_do()
    assert page.outcomes() == ["a lesson"]
    assert page.page.evaluate("client.storage") == "memory"
    assert [kept for kept, _ in page.page.evaluate("stored")] == ["memory"]


def test_a_page_with_blocked_storage_locks_and_channels_works_alone(site, network, open_page, gate):
    works_in_memory(open_page(without="storage"), site, gate)


def blocked(engine, folder):
    """A browser whose user has blocked cookies, and all storage with them."""
    if engine == "firefox":
        from tests.backends.engines.firefox import Browser

        return Browser(folder, BLOCK_IN_FIREFOX)
    (folder / "Default").mkdir(parents=True)
    (folder / "Default" / "Preferences").write_text(json.dumps(BLOCK_IN_CHROMIUM))
    return start(engine, folder)


@pytest.mark.parametrize("engine", ["chromium", "firefox"])
def test_a_browser_whose_user_blocked_cookies_works_alone(site, network, gate, engine, tmp_path):
    with contextlib.closing(blocked(engine, tmp_path / "profile")) as browser:
        page = visit(browser.page(), network)
        assert page.page.evaluate("caches.keys().then(() => 'allowed', () => 'blocked')") == "blocked"

        works_in_memory(page, site, gate)


def test_a_disk_that_is_full_loses_no_submission(site, network, open_page, gate):
    works_in_memory(open_page(without="room"), site, gate)


def test_a_database_that_opens_no_more_keeps_nobody_waiting_and_loses_no_task(site, network, open_page, gate):
    page = open_page()
    page.submit(gate=gate)
    page.accepted()
    # Somebody holds a connection, and somebody else wants the database deleted: whoever opens it now waits for both.
    page.page.evaluate(
        """new Promise((resolve, reject) => {
          const opening = indexedDB.open('bgtasks:/tasks', 1);
          opening.onsuccess = () => {
            window.held = opening.result;
            indexedDB.deleteDatabase('bgtasks:/tasks');
            resolve();
          };
          opening.onerror = () => reject(opening.error);
        })"""
    )

    page.submit(gate=gate)
    page.wait_for("task.requestId")
    site.finish(gate)

    page.wait_for("settled.length === 2")
    page.has_nothing_to_do()
    assert page.page.evaluate("client.storage") == "memory"
    assert page.outcomes() == ["a lesson"] * 2
