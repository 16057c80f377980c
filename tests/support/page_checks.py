"""Looks at a page as its readers do: on a phone and on a desk, in light and in dark; with axe-core, and on pictures.

Pictures are kept in test-results/, for people.
"""

import contextlib
import importlib.resources
from pathlib import Path

import pytest

from tests.backends.chromium import faultless, launch_options

PICTURES = Path(__file__).resolve().parents[2] / "test-results" / "pages"
WIDTHS = {390: 844, 1280: 900}
SCHEMES = ("light", "dark")

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

LAYOUT_SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const shift of list.getEntries()) if (!shift.hadRecentInput) shifts.push(shift.value);
}).observe({ type: 'layout-shift', buffered: true });
"""  # web.dev/articles/cls: above 0.1 it needs improvement


@contextlib.contextmanager
def a_browser():
    """A function that opens a blank page, with storage of its own; an error on it is the test's failure.

    One browser for the tests of a module. While it is open, none of them can call ``asyncio.run``.
    """
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(**launch_options())

        @contextlib.contextmanager
        def blank_page():
            with faultless(browser.new_context(viewport={"width": 390, "height": 844})) as context:
                context.add_init_script(LAYOUT_SHIFTS)
                yield context.new_page()

        yield blank_page
        browser.close()


def look_at(page, name):
    """Take the pictures of a page as it is now, with axe-core's complaints about each: none, if all is well."""
    complaints = []
    PICTURES.mkdir(parents=True, exist_ok=True)
    for width, height in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": height})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            picture = PICTURES / f"{name}-{width}-{scheme}.png"
            page.screenshot(path=picture, animations="disabled")
            assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), f"{picture}: it is too wide"
            complaints += [f"{picture.name}: {complaint}" for complaint in complaints_of(page)]
    return complaints


def complaints_of(page):
    """What axe-core finds wrong, in shadow trees too."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
    found = page.evaluate("tags => axe.run({ runOnly: tags, resultTypes: ['violations'] })", TAGS)
    return [
        f"{violation['id']}: {violation['help']}: {node['html'][:200]} {node.get('failureSummary', '')}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


def total_shift(page):
    """How much has moved by itself since :data:`LAYOUT_SHIFTS` ran."""
    return page.evaluate("shifts.reduce((sum, value) => sum + value, 0)")
