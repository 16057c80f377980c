"""What the tests of pages share: one browser for a module, and a blank page with storage of its own for each test."""

import pytest

from tests.support.page_checks import a_browser


@pytest.fixture(scope="module")
def browser():
    with a_browser() as blank_page:
        yield blank_page


@pytest.fixture
def blank(browser):
    with browser() as page:
        yield page
