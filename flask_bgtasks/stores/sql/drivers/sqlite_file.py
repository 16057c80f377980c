"""The file of an SQLite database as the operating system has it: kept private, and still the one that others find.

SQLite says little of what happens to its file, and the same text of very different troubles; here they are told apart.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time

from ....errors import BackgroundTasksError, NotStorable, StoreUnavailable, StoreUnusable

PRIVATE = 0o600  # the mode of the file, of its log and its shared memory

MIN_FREE_BYTES = 2**20
"""Of the disk, below which it is called full: a small write may still find room in the log, which is used again."""


LOOK_SECONDS = 0.02
"""How often the file is looked at, but for what is promised. A look takes a microsecond and gives up the interpreter
lock: where threads wait for that, nine looks for a task cost up to a quarter of its time. A deletion takes with it all
that was stored before; what is stored in the fiftieth of a second after it adds little."""


class DatabaseFile:
    """Watches the file that is open.

    :param path: where it is.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._identity: tuple[int, int] | None = None  # device and inode of the file that is open, None while none is
        self._seen_until = 0.0  # by time.monotonic: until then it counts as seen

    def opened(self) -> None:
        """It was opened just now. :raises OSError: it cannot be looked at."""
        found = os.stat(self._path)
        self._identity = (found.st_dev, found.st_ino)

    def closed(self) -> None:
        """No connection is open any more: what is there when it is opened again is looked at afresh."""
        self._identity = None
        self._seen_until = 0.0

    def check_room(self) -> None:
        """:raises StoreUnavailable: its disk is full."""
        try:
            disk = os.statvfs(os.path.dirname(self._path) or ".")
        except (AttributeError, OSError):  # Windows has none; what hinders it elsewhere a write will say
            return
        if disk.f_bavail * disk.f_frsize < MIN_FREE_BYTES:
            raise StoreUnavailable(f"the disk of the task store {self._path!r} is full", "its disk is full")

    def check(self, *, at_once: bool = False) -> None:
        """See that the file which is open is the one that others will find: what is written elsewhere is lost.

        SQLite goes on with a file that was deleted or replaced, and says nothing (sqlite.org/howtocorrupt.html, 2.4).

        :param at_once: look now, not only if the last look is :data:`LOOK_SECONDS` ago.
        :raises StoreUnusable: it is not.
        """
        known, now = self._identity, time.monotonic()
        if known is None or (now < self._seen_until and not at_once):
            return
        self._seen_until = 0.0
        try:
            found = os.stat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            raise gone(self._path) from None
        except OSError as error:
            raise StoreUnavailable(f"the task store {self._path!r} cannot be looked at: {error}") from error
        if (found.st_dev, found.st_ino) != known:
            raise gone(self._path)
        self._seen_until = now + LOOK_SECONDS


def gone(path: str) -> StoreUnusable:
    """What to raise where a file is no longer the one that is open."""
    return StoreUnusable(
        f"BGTASKS_STORE: {path!r} was deleted or replaced while this process had it open: what is written now would be "
        "lost. Put the file back, or restart this process to go on with what is there",
        "its file was deleted or replaced while it was open",
    )


def keep_private(path: str) -> None:
    """Keep the file from other users of the machine: it holds what users sent, and the addresses of their devices.

    A new one is made with its mode, whatever the umask is, so that it is open to nobody for no moment. Of one that is
    there others lose their rights, and its group too, unless it may write: that was given on purpose. SQLite gives its
    log and its shared memory the mode of the file (sqlite.org, os_unix.c, ``findCreateFileMode``).
    """
    path = os.path.realpath(path)
    _create(path)
    for name in (path, path + "-wal", path + "-shm"):
        with contextlib.suppress(OSError):  # not there, another user's, or a file system without modes
            mode = stat.S_IMODE(os.stat(name).st_mode)
            loose = 0o007 if mode & stat.S_IWGRP else 0o077
            if mode & loose:
                os.chmod(name, mode & ~loose)


def _create(path: str) -> None:
    """Make an empty file if none is there. What hinders it, SQLite will say.

    Without opening it where that can be done: to close a descriptor drops the locks that other connections of this
    process hold on the file (sqlite.org/howtocorrupt.html, 2.2).
    """
    if os.path.exists(path):
        return
    try:
        os.mknod(path, stat.S_IFREG | PRIVATE)
    except FileExistsError:  # another process was quicker
        return
    except (AttributeError, OSError):  # Windows has none, and macOS only for root
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE))


def unavailable(path: str, error: sqlite3.Error) -> BackgroundTasksError:
    """What an error of SQLite's means to who uses the store."""
    # A value of a type that SQLite does not have: InterfaceError until Python 3.11, ProgrammingError from 3.12 on.
    # DataError: "string or blob too big".
    if isinstance(error, sqlite3.DataError) or "binding parameter" in str(error):
        return NotStorable(f"the task store cannot keep a value: {error}")
    text = str(error)
    brief = next((brief for said, brief in _MENDED_BY_HAND.items() if said in text), None)
    if brief is None and "unable to open" in text and not _may_be_opened(path):
        brief = "its file cannot be opened"
    if brief is not None:
        return StoreUnusable(
            f"BGTASKS_STORE: {path!r} cannot be opened ({error}). Name a file that is an SQLite database or not there "
            "yet. Its folder has to be there, and writable by this user",
            brief,
        )
    full = "its disk is full" if "is full" in text else None
    return StoreUnavailable(f"the task store {path!r} cannot be used right now: {error}", full)


_MENDED_BY_HAND = {
    "not a database": "its file is damaged, or no database",
    "malformed": "its file is damaged",
    "readonly": "its file cannot be written",
}
"""What SQLite says where another try will not help, and what that means."""


def _may_be_opened(path: str) -> bool:
    """Whether "unable to open" may pass by itself, as it does where the process is out of descriptors.

    SQLite says the same of a folder that is not there. It is looked at by name, since nothing can be opened.
    """
    folder = os.path.dirname(os.path.realpath(path))
    return os.path.isdir(folder) and not os.path.isdir(path) and os.access(folder, os.W_OK | os.X_OK)
