"""The browser without Playwright does to a page what its words say."""

import threading

import pytest

from tests.backends import free_port
from tests.backends.cdp import Browser, CDPError

pytestmark = [pytest.mark.system, pytest.mark.slow]

COUNTING = """data:text/html,<script>
var count = 0, told = [];
setInterval(() => count += 1, 10);
for (const name of ['freeze', 'resume', 'visibilitychange']) document.addEventListener(name, () => told.push(name));
</script>"""


@pytest.fixture
def browser(tmp_path):
    with Browser(tmp_path / "profile") as browser:
        yield browser


@pytest.fixture
def page(browser):
    page = browser.page(COUNTING)
    page.wait_for_function("count > 3")
    return page


def test_a_frozen_page_stands_still_and_goes_on_where_it_was(browser, page):
    page.freeze()
    frozen_at = page.evaluate("count")
    other = browser.page(COUNTING)  # time has passed for one that is not frozen
    other.wait_for_function("count > 30")

    assert page.evaluate("count") == frozen_at

    page.resume()
    page.wait_for_function(f"count > {frozen_at}")
    assert {"freeze", "resume"} <= set(page.evaluate("told"))


def test_a_page_behind_another_is_hidden(browser, page):
    other = browser.page(COUNTING)

    page.wait_for_function("document.visibilityState === 'hidden'")
    page.show()
    other.wait_for_function("document.visibilityState === 'hidden'")


def test_nothing_happens_while_the_device_sleeps(browser, page):
    page.evaluate("window.longest = 0, window.last = performance.now()")
    page.evaluate("void setInterval(() => { longest = Math.max(longest, -last + (last = performance.now())) })")

    browser.sleep()
    threading.Event().wait(0.5)  # nothing tells that nothing happens
    browser.wake()

    page.wait_for_function("longest > 450")


def test_an_error_of_the_page_is_told(page):
    with pytest.raises(CDPError, match="TypeError: .* is not a function"):
        page.evaluate("document.nothing()")


def test_a_page_that_cannot_be_loaded_is_an_error(page):
    with pytest.raises(CDPError, match="ERR_CONNECTION_REFUSED"):
        page.goto(f"http://127.0.0.1:{free_port()}/")
