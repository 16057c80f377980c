"""What Firefox and WebKit have in common: WebDriver's commands, over whichever wire (w3.org/TR/webdriver2)."""

import json

from tests.support.waiting import until

ASYNC = """
const done = arguments[arguments.length - 1];
Promise.resolve().then(() => (%s)).then(
  (value) => done(JSON.stringify({ value: value === undefined ? null : value })),
  (error) => done(JSON.stringify({ error: String(error), stack: String(error && error.stack) })),
);
"""


class ScriptError(Exception):
    """A page raised, or its engine refused a command."""


class Tabs:
    """What a browser has of its tabs: the one that the commands go to, and one that waits to be used."""

    _at = _spare = None

    def page(self, url="about:blank"):
        """A new tab. In WebKit only the first one is visible, ever."""
        handle, self._spare = self._spare, None
        page = Page(self, handle or self.new_tab())
        page.goto(url)
        return page

    def switch_to(self, handle):
        if self._at != handle:
            self.show_tab(handle)
            self._at = handle

    def leave(self, handle):
        if self._spare is None and len(self.tabs()) == 1:
            self.navigate("about:blank")
            self._spare = handle
        else:
            self.close_tab()
            self._at = None
            self.switch_to(self.tabs()[0])  # one that a failed test has left: commands have to go somewhere


class Page:
    """One tab. What it shares with those of Playwright and of ``cdp.py`` has the same name."""

    def __init__(self, browser, handle):
        self._browser = browser
        self._handle = handle

    def goto(self, url):
        self.show()
        self._browser.navigate(url)

    def evaluate(self, expression):
        """The value of an expression; of a promise, what it is fulfilled with."""
        self.show()
        said = json.loads(self._browser.run(ASYNC % expression))
        if "error" in said:
            raise ScriptError(f"{said['error']}\n{said['stack']}")
        return said["value"]

    def wait_for_function(self, expression):
        return until(lambda: self.evaluate(expression), says=lambda: f"it never became so: {expression}", every=0.02)

    def show(self):
        """Have the commands go to it; where the engine can do it, bring it in front."""
        self._browser.switch_to(self._handle)

    def close(self):
        """Close it; the last one stays, empty, for the next."""
        self.show()
        self._browser.leave(self._handle)
