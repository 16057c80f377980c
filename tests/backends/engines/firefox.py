"""Headless Firefox ESR, over Marionette: JSON with its length before it, on a socket.

The protocol: https://firefox-source-docs.mozilla.org/testing/marionette/Protocol.html
"""

import itertools
import json
import os
import shutil
import socket
import subprocess

from tests.backends import missing
from tests.backends.chromium import Profile
from tests.backends.engines.page import ScriptError, Tabs
from tests.support.waiting import PATIENCE, until

START_SECONDS = 180  # 3 s on an idle machine; a new profile is a lot of work on a busy one

PREFERENCES = {
    "app.normandy.enabled": False,  # from here on: no calls of its own
    "app.update.auto": False,
    "browser.newtabpage.enabled": False,
    "browser.safebrowsing.update.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.startup.page": 0,
    "browser.region.update.enabled": False,
    "browser.search.update": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.push.connection.enabled": False,
    "extensions.getAddons.cache.enabled": False,
    "extensions.systemAddon.update.enabled": False,
    "extensions.update.enabled": False,
    "media.gmp-manager.updateEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "toolkit.telemetry.reportingpolicy.firstRun": False,
    "browser.sessionstore.resume_from_crash": False,  # after a kill: no page comes back by itself
    "toolkit.startup.max_resumed_crashes": -1,
    "dom.ipc.processCount": 1,  # from here on: few processes, since several browsers run at once
    "dom.ipc.processPrelaunch.enabled": False,
    "layers.gpu-process.enabled": False,
    "media.rdd-process.enabled": False,
    "network.process.enabled": False,
    "marionette.port": 0,  # a free one; the profile says which
}


def program():
    """Where Firefox is; skips the test where it is not."""
    found = shutil.which("firefox-esr") or shutil.which("firefox")
    if found is None:
        missing("Firefox", "tests/backends/install.sh firefox")
    return found


class Browser(Tabs):
    """A headless Firefox with a profile of its own.

    :param preferences: of about:config, beside :data:`PREFERENCES`.
    """

    def __init__(self, folder, preferences=None):
        folder.mkdir(parents=True, exist_ok=True)
        self._profile = Profile(folder)
        prefs = {**PREFERENCES, **(preferences or {})}
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in prefs.items()]
        (folder / "user.js").write_text("\n".join(lines))
        said = folder / "MarionetteActivePort"
        said.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [program(), "--headless", "--marionette", "--no-remote", "--profile", str(folder), "about:blank"],
            env={**os.environ, "HOME": str(folder), "MOZ_CRASHREPORTER_DISABLE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(
            lambda: said.exists() and said.read_text().strip(),
            START_SECONDS,
            every=0.05,
            says=lambda: "Firefox did not start",
        )
        self._wire = socket.create_connection(("127.0.0.1", int(said.read_text())), PATIENCE)
        self._unread = b""
        self._numbers = itertools.count(1)
        self._hear()
        timeouts = {name: int(PATIENCE * 1000) for name in ("script", "pageLoad")}
        self.call("WebDriver:NewSession", capabilities={"alwaysMatch": {"timeouts": timeouts}})
        self._spare = self.call("WebDriver:GetWindowHandle")["value"]

    def kill(self):
        """End its processes without a word."""
        self._profile.kill()
        self._process.wait(PATIENCE)
        self._wire.close()

    close = kill

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def call(self, command, **parameters):
        number = next(self._numbers)
        message = json.dumps([0, number, command, parameters]).encode()
        self._wire.sendall(b"%d:%s" % (len(message), message))
        while True:
            _, answered, error, result = self._hear()
            if answered == number:
                break
        if error:
            raise ScriptError(f"{command}: {error['error']}: {error['message']}")
        return result

    def _hear(self):
        while b":" not in self._unread:
            self._receive()
        length, _, self._unread = self._unread.partition(b":")
        while len(self._unread) < int(length):
            self._receive()
        message, self._unread = self._unread[: int(length)], self._unread[int(length) :]
        return json.loads(message)

    def _receive(self):
        piece = self._wire.recv(1 << 16)
        if not piece:
            raise ScriptError("Firefox has ended")
        self._unread += piece

    # -- what its pages ask ---------------------------------------------------------------------------------------

    def new_tab(self):
        return self.call("WebDriver:NewWindow", type="tab", focus=True)["handle"]

    def show_tab(self, handle):
        self.call("WebDriver:SwitchToWindow", handle=handle, focus=True)

    def tabs(self):
        return self.call("WebDriver:GetWindowHandles")

    def navigate(self, url):
        self.call("WebDriver:Navigate", url=url)

    def run(self, script):
        return self.call("WebDriver:ExecuteAsyncScript", script=script, args=[])["value"]

    def close_tab(self):
        self.call("WebDriver:CloseWindow")
