"""The same scenarios in Chromium, Firefox and WebKit; one browser of each for all tests of a process.

Each test has a network of its own, and thus an origin of its own, that no other test has stored anything for.
"""

import pytest

from tests.backends.engines import ENGINES, start
from tests.system.browser import conftest
from tests.system.browser.conftest import visit

site, mortal_site, network, gate = conftest.site, conftest.mortal_site, conftest.network, conftest.gate


@pytest.fixture(scope="session", params=ENGINES)
def browser(request, tmp_path_factory):
    """A running browser of each engine; skipped where one is missing, a failure with CI=true."""
    with start(request.param, tmp_path_factory.mktemp(request.param)) as browser:
        browser.engine = request.param
        yield browser


@pytest.fixture
def open_page(browser, network):
    """`open_page(**options)`: the app in a tab, with a client of these options. The first one is in front."""
    pages = []

    def open_page(**options):
        pages.append(browser.page())
        return visit(pages[-1], network, **options)

    yield open_page
    for page in reversed(pages):
        page.close()
