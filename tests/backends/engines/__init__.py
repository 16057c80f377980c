"""The three engines that browsers are made of, each driven through the same few words.

Chromium by its DevTools protocol (``tests/backends/cdp.py``), Firefox by Marionette, WebKitGTK, the stand-in for
Safari, by its own WebDriver: Debian's packages and no driver library. A browser has ``page(url)`` and ``close()``; a
page has ``goto``, ``evaluate``, ``wait_for_function``, ``show`` and ``close``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.backends import cdp
from tests.backends.engines import firefox, webkit

ENGINES: dict[str, Callable[..., Any]] = {
    "chromium": cdp.Browser,
    "firefox": firefox.Browser,
    "webkit": webkit.Browser,
}


def start(name: str, folder: Path) -> Any:
    """A browser of this engine with a profile of its own in `folder`; skips the test where the engine is missing."""
    return ENGINES[name](folder)
