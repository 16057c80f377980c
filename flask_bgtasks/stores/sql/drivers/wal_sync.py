"""Brings SQLite's write-ahead log to disk, for everyone who waits for it at once.

``PRAGMA synchronous=FULL`` syncs the log inside each commit, while it holds the database: whoever writes next stands
behind the disk. Here transactions commit with ``NORMAL``, and then who needs to survive a power cut waits for a sync of
the log that began after its commit: one sync serves all who wait, and transactions go on meanwhile. What is told to be
stored is on disk, just as with ``FULL``; another reader may see it a moment before it is.

Sound because the log is one file that a commit only appends to, and fsync is of the file, not of the descriptor
(sqlite.org/wal.html; fsync(2)). At a checkpoint SQLite itself syncs the log before it touches the database.
"""

from __future__ import annotations

import os
import threading


class WalSync:
    """Shared syncs of the log that belongs to a database file."""

    def __init__(self, path: str) -> None:
        self._path = os.path.realpath(path) + "-wal"  # where SQLite puts it, symbolic links followed
        self._turn = threading.Condition()  # protects the four below; told when a sync ended
        self._file: int | None = None
        self._running = False
        self._begun = 0  # syncs that were begun
        self._ended = 0  # the newest that ended well

    def wait(self) -> None:
        """Return when everything that was committed before this call is on disk.

        :raises OSError: it cannot be brought there. :raises FileNotFoundError: the log was deleted, and SQLite goes on
            with what nobody will find.
        """
        with self._turn:
            wanted = self._begun + 1  # one that runs already may have begun before our commit
            while self._ended < wanted:
                if self._running:
                    self._turn.wait()
                    continue
                self._running = True
                self._begun += 1
                this = self._begun
                try:
                    self._turn.release()
                    try:
                        os.fsync(self._descriptor())
                        if os.fstat(self._descriptor()).st_nlink == 0:
                            raise FileNotFoundError(self._path)
                    finally:
                        self._turn.acquire()
                    self._ended = this
                finally:
                    self._running = False
                    self._turn.notify_all()

    def open(self) -> None:
        """Open the log ahead, so that a later wait needs no descriptor. :raises OSError: it cannot be opened."""
        with self._turn:
            self._descriptor()

    def _descriptor(self) -> int:
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR)
        return self._file

    def close(self) -> None:
        """Close the log's descriptor; the next wait opens it again."""
        with self._turn:
            while self._running:
                self._turn.wait()
            if self._file is not None:
                os.close(self._file)
                self._file = None
