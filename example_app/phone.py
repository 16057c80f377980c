"""The demo's stand-in for a phone: a sink that keeps what a push service would have been given, for the page to show.

Used where ``BGTASKS_SINKS`` names no ``fcm``. It keeps its messages in an SQLite file of its own, so that all processes
of the demo have the same, and it tells doubles apart: a sink is told at least once.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from flask_bgtasks import Notification, hookimpl

KEPT = 500  # messages, of all phones together

TABLE = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY,
    phone TEXT NOT NULL,
    request_id TEXT NOT NULL,
    seq TEXT NOT NULL,
    at TEXT NOT NULL,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    link TEXT,
    status TEXT,
    UNIQUE (phone, request_id, seq)
)
"""


class Phone:
    """Receives notifications. A phone is named by the ``user_token`` of the request."""

    name = "phone"

    def __init__(self, file: Path) -> None:
        self._file = file

    @hookimpl
    def bgtasks_send_notification(self, notification: Notification) -> None:
        if notification.user_token is None:
            return  # nobody's phone
        data = notification.data
        row = (
            notification.user_token,
            data.get("request_id", ""),
            data.get("seq", ""),
            datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
            json.dumps(notification.title, ensure_ascii=False),
            json.dumps(notification.body, ensure_ascii=False),
            notification.link,
            notification.status,
        )
        with self._open() as messages:
            messages.execute(
                "INSERT OR IGNORE INTO messages (phone, request_id, seq, at, title, body, link, status)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            messages.execute("DELETE FROM messages WHERE id <= (SELECT MAX(id) FROM messages) - ?", (KEPT,))

    def messages(self, phone: str, *, lang: str | None = None, limit: int = 3) -> list[dict[str, Any]]:
        """What one phone got, newest first, in the language that it is set to."""
        with self._open() as messages:
            rows = messages.execute(
                "SELECT request_id, at, title, body, link, status FROM messages"
                " WHERE phone = ? ORDER BY id DESC LIMIT ?",
                (phone, limit),
            ).fetchall()
        return [_message(*row, lang=lang) for row in rows]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._file, timeout=10)) as connection, connection:
            connection.execute(TABLE)
            yield connection


def _message(
    request_id: str, at: str, title: str, body: str, link: str | None, status: str | None, *, lang: str | None
) -> dict[str, Any]:
    told = Notification(json.loads(title), json.loads(body)).in_language(lang)
    return {
        "request_id": request_id,
        "at": at,
        "title": told.title,
        "body": told.body,
        "link": link,
        "status": status,
    }
