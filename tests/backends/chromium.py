"""Headless Chromium, Debian's own; Playwright's browser builds are not downloaded."""

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tests.backends import missing

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Playwright

ARGUMENTS = [
    "--disable-background-networking",  # no calls of its own
    "--disable-component-update",
    "--disable-dev-shm-usage",  # containers have a small /dev/shm
    "--disable-gpu",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE = 10.0
BUSY_SECONDS = 90  # how long a page is waited for: a machine that does other things as well takes its time


def program() -> str:
    """Where Chromium is; skips the test where it is not."""
    found = shutil.which("chromium")
    if found is None:
        missing("Chromium", "tests/backends/install.sh chromium")
    return found


def as_root() -> bool:
    """Whether Chromium has to go without its sandbox, which refuses to run as root."""
    return os.geteuid() == 0


def launch_options() -> dict:
    """What Playwright is to start, and how."""
    return {
        "executable_path": program(),
        "chromium_sandbox": not as_root(),
        "args": ARGUMENTS,
        "ignore_default_args": ["--disable-back-forward-cache"],  # Playwright switches off what users have
    }


@contextlib.contextmanager
def faultless(context: "BrowserContext") -> "Iterator[BrowserContext]":
    """Close it in the end; an error that a page of it did not catch is the test's failure."""
    errors: list[str] = []
    context.set_default_timeout(BUSY_SECONDS * 1000)
    context.on("weberror", lambda raised: errors.append(str(raised.error)))
    yield context
    context.close()
    assert not errors, f"a page raised: {errors}"


class Profile:
    """A folder that a browser keeps its storage in, and the processes that have it open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def signal(self, number: int) -> int:
        """Send all its processes a signal; how many there were."""
        found = 0
        for process in Path("/proc").glob("[0-9]*"):
            # Each is told the folder in its arguments; a process may end while it is looked at.
            with contextlib.suppress(OSError):
                if str(self.folder).encode() in (process / "cmdline").read_bytes():
                    os.kill(int(process.name), number)
                    found += 1
        return found

    def stop(self) -> None:
        """Let its processes stand still, as those of a device that has fallen asleep."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End its processes without a word, and wait until they are gone."""
        deadline, pause = time.monotonic() + PATIENCE, threading.Event()
        while self.signal(signal.SIGKILL):
            assert time.monotonic() < deadline, "they would not go"
            pause.wait(0.02)
        for lock in self.folder.glob("Singleton*"):  # else the next browser takes it for open
            lock.unlink()


class PersistentBrowser:
    """A browser that finds again, when it is started again, what its pages had stored."""

    def __init__(self, playwright: "Playwright", folder: Path) -> None:
        self._playwright = playwright
        self._profile = Profile(folder)
        self._open = contextlib.ExitStack()
        self.context = self.start()

    def start(self) -> "BrowserContext":
        """Start it, also again; its context is a new one."""
        launched = self._playwright.chromium.launch_persistent_context(self._profile.folder, **launch_options())
        self.context = self._open.enter_context(faultless(launched))
        return self.context

    def kill(self) -> None:
        """Kill all of it, as a crash does, or a battery."""
        self._profile.kill()
        self._open.pop_all()  # there is nothing left to close

    def close(self) -> None:
        self._open.close()
