"""WebKitGTK's MiniBrowser, over WebKitWebDriver, on a screen of its own that nobody sees.

The nearest to Safari that runs on Linux: the same engine, JavaScript and IndexedDB, another network stack (libsoup).
Under automation it keeps nothing after its end.
"""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import httpx

from tests.backends import free_port, missing
from tests.backends.chromium import Profile
from tests.backends.engines.page import ScriptError, Tabs
from tests.support.waiting import PATIENCE, until

INSTALL = "tests/backends/install.sh webkit"


def programs():
    """Where the driver, the browser and the X server are; skips the test where one is not."""
    driver, screen = shutil.which("WebKitWebDriver"), shutil.which("Xvfb")
    browsers = sorted(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"))
    if driver is None or screen is None or not browsers:
        missing("WebKitGTK", INSTALL)
    return driver, str(browsers[-1]), screen


class Browser(Tabs):
    """A WebKitGTK that remembers nothing of an earlier one."""

    def __init__(self, folder):
        driver, browser, screen = programs()
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._profile = Profile(folder)
        self._running = contextlib.ExitStack()
        try:
            display = self._show_on(screen, folder)
            port = free_port()
            home = {
                name: str(folder)
                for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "TMPDIR")
            }
            quiet = {
                "NO_AT_BRIDGE": "1",
                "GIO_USE_VFS": "local",
                "GSETTINGS_BACKEND": "memory",
                "LIBGL_ALWAYS_SOFTWARE": "1",
            }
            environment = {**os.environ, **home, **quiet, "DISPLAY": display, "GDK_BACKEND": "x11"}
            environment.pop("DBUS_SESSION_BUS_ADDRESS", None)
            self._run([driver, f"--port={port}", "--host=127.0.0.1"], folder, env=environment)
            self._http = self._running.enter_context(
                httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=2 * PATIENCE)
            )
            until(self._is_up, every=0.05, says=lambda: "WebKitWebDriver did not start")
            options = {"binary": browser, "args": ["--automation"]}
            timeouts = {name: int(PATIENCE * 1000) for name in ("script", "pageLoad")}
            wanted = {"webkitgtk:browserOptions": options, "timeouts": timeouts}
            self._session = ""
            self._session = self.call("POST", "", capabilities={"alwaysMatch": wanted})["sessionId"]
        except BaseException:
            self.close()
            raise
        self._spare = self.call("GET", "/window")

    def close(self):
        """End all its processes."""
        self._running.close()
        for child in self._children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, 9)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def call(self, method, path, **parameters):
        answer = self._http.request(
            method,
            f"/session{self._session and '/' + self._session}{path}",
            json=parameters if method == "POST" else None,
        )
        value = answer.json()["value"]
        if answer.status_code != 200:
            raise ScriptError(f"{path}: {value['error']}: {value['message']}")
        return value

    def _is_up(self):
        with contextlib.suppress(httpx.TransportError):
            return self._http.get("/status").status_code == 200
        return False

    def _show_on(self, screen, folder):
        said, told = os.pipe()
        self._run(
            [screen, "-displayfd", str(told), "-screen", "0", "1280x900x24", "-nolisten", "tcp"],
            folder,
            pass_fds=(told,),
        )
        os.close(told)
        with os.fdopen(said) as number:
            return f":{number.readline().strip()}"

    def _run(self, command, folder, **options):
        log = self._running.enter_context((folder / f"{Path(command[0]).name}.log").open("w"))
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, **options)
        self._running.callback(process.wait, PATIENCE)
        self._running.callback(process.kill)

    def _children(self):
        """Whatever was started with this folder as its home: the network process outlives its browser for a while."""
        mark = f"HOME={self._profile.folder}\0".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (process / "environ").read_bytes():
                    yield int(process.name)

    # -- what its pages ask ---------------------------------------------------------------------------------------

    def new_tab(self):
        return self.call("POST", "/window/new", type="tab")["handle"]

    def show_tab(self, handle):
        self.call("POST", "/window", handle=handle)

    def tabs(self):
        return self.call("GET", "/window/handles")

    def navigate(self, url):
        self.call("POST", "/url", url=url)

    def run(self, script):
        return self.call("POST", "/execute/async", script=script, args=[])

    def close_tab(self):
        self.call("DELETE", "/window")
