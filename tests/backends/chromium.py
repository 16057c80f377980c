"""A page in a headless Chromium, Debian's own; Playwright's browser builds are not downloaded."""

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.backends import missing

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def chromium_page() -> "Iterator[Page]":
    """A blank page of a new browser. A JavaScript error on it fails the test.

    For one test, not for the session: Playwright leaves an event loop running in the thread, in which no other test
    could call ``asyncio.run``.
    """
    program = shutil.which("chromium")
    if program is None:
        missing("Chromium", "tests/backends/install.sh chromium")
    sync_api = pytest.importorskip("playwright.sync_api")

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            chromium_sandbox=os.geteuid() != 0,  # Chromium's sandbox refuses to run as root
            args=["--disable-dev-shm-usage"],  # containers have a small /dev/shm
        )
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        browser.close()
    assert not errors, f"the page raised: {errors}"
