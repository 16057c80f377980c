"""Chromium over the plain DevTools Protocol: for what Playwright makes impossible by helping.

Playwright emulates focus, so that a page of its is never hidden, and freezing one answers success and does nothing
(microsoft/playwright#35207). This talks over the browser's pipe: no port, no WebSocket library, and the browser of a
test that died ends by itself. The protocol: https://chromedevtools.github.io/devtools-protocol/
"""

import itertools
import json
import os
import select
import subprocess
import threading
import time

from tests.backends.chromium import ARGUMENTS, Profile, as_root, program
from tests.support.waiting import PATIENCE, until


class CDPError(Exception):
    """The browser refused a command, or a page raised."""


class Browser:
    """A headless Chromium with a profile of its own, in which nothing is emulated."""

    def __init__(self, folder):
        self._profile = Profile(folder)
        self._numbers = itertools.count(1)
        self._answers, self._unread = {}, b""
        self.events = []
        """What it told unasked, oldest first: what of, depends on the domains that were enabled."""
        # --remote-debugging-pipe: reads commands from descriptor 3, writes answers to 4, each ended by a NUL.
        commands, self._commands = os.pipe()
        self._replies, replies = os.pipe()
        arguments = [*ARGUMENTS, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={folder}"]
        if as_root():
            arguments.append("--no-sandbox")
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{commands} 4>&{replies}', program(), *arguments, "about:blank"],
            pass_fds=(commands, replies),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(replies)

    def page(self, url="about:blank"):
        """A new tab, in front of the others."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        page = Page(self, target, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        page.goto(url)
        return page

    def service_worker(self):
        """The one that runs, once there is one. It is kept running from now on."""
        deadline, pause = time.monotonic() + PATIENCE, threading.Event()
        while True:
            for target in self.call("Target.getTargets")["targetInfos"]:
                if target["type"] == "service_worker":
                    id = target["targetId"]
                    return Page(self, id, self.call("Target.attachToTarget", targetId=id, flatten=True)["sessionId"])
            assert time.monotonic() < deadline, "no service worker runs"
            pause.wait(0.02)

    def sleep(self):
        """Let all its processes stand still, as those of a device that has fallen asleep."""
        self._profile.stop()

    def wake(self):
        self._profile.go_on()

    def close(self):
        self._profile.kill()
        self._process.wait(PATIENCE)
        os.close(self._commands)
        os.close(self._replies)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def call(self, method, *, session=None, **parameters):
        """Send a command, and wait for its answer."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while number not in self._answers:
            self._hear(method, deadline)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise CDPError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _hear(self, method, deadline):
        readable, _, _ = select.select([self._replies], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            raise TimeoutError(f"{method}: no answer in {PATIENCE:g} s")
        piece = os.read(self._replies, 1 << 16)
        if not piece:
            raise CDPError(f"{method}: the browser has ended")
        *messages, self._unread = (self._unread + piece).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self.events.append(message)


class Page:
    """One tab. What it shares with Playwright's has the same name."""

    def __init__(self, browser, target, session):
        self._browser = browser
        self._target = target
        self._session = session

    def call(self, method, **parameters):
        return self._browser.call(method, session=self._session, **parameters)

    def goto(self, url):
        """Load a page; what fails to load is an error."""
        failure = self.call("Page.navigate", url=url).get("errorText")
        if failure:
            raise CDPError(f"{url}: {failure}")
        self.wait_for_function("document.readyState === 'complete'")

    def evaluate(self, expression):
        """The value of an expression; of a promise, what it is fulfilled with."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise CDPError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def wait_for_function(self, expression):
        """Ask again and again, from here and not by timers of the page, until it is true; its value."""
        return until(lambda: self.evaluate(expression), says=lambda: f"it never became so: {expression}", every=0.02)

    def freeze(self):
        """Freeze it as Chromium freezes a tab that was not looked at for long: its JavaScript stands still."""
        self.call("Page.setWebLifecycleState", state="frozen")

    def resume(self):
        self.call("Page.setWebLifecycleState", state="active")

    def show(self):
        """Bring it in front; the others are hidden."""
        self.call("Page.bringToFront")

    def close(self):
        self._browser.call("Target.closeTarget", targetId=self._target)
