"""What nothing on SQLite can be faster than: one bare insert and its commit, by Python's own ``sqlite3``."""

from __future__ import annotations

import json
import sqlite3
import uuid
from pathlib import Path
from typing import Any

from .subject import Subject

INPUT = json.dumps({"args": [], "kwargs": {}})


class Measured(Subject):
    """:param synchronous: ``FULL`` or ``NORMAL``, in WAL mode."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.connection = sqlite3.connect(folder / "bare.sqlite3", isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute(f"PRAGMA synchronous={options['synchronous']}")
        self.connection.execute("CREATE TABLE tasks (request_id TEXT PRIMARY KEY, status TEXT, input TEXT)")

    def versions(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    def close(self) -> None:
        self.connection.close()

    def submit_one(self) -> Any:
        self.submit_idle()

    def wait_for(self, handle: Any) -> None:
        pass

    def submit_idle(self) -> Any:
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.execute("INSERT INTO tasks VALUES (?, 'started', ?)", (str(uuid.uuid4()), INPUT))
        self.connection.execute("COMMIT")
