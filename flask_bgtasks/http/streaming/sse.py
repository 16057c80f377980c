"""Frames server-sent events (WHATWG HTML, section 9.2, "Server-sent events"). Pure."""

from __future__ import annotations

import re

CONTENT_TYPE = "text/event-stream; charset=utf-8"

PING_SECONDS = 15.0
"""Silence that is filled with a ping. Clients' watchdogs wait two and a half of them."""

PING = b"event: ping\ndata: {}\n\n"
"""A named event with data and no id: comments and empty events never reach a page's EventSource."""

_LINE_END = re.compile(r"\r\n|\r|\n")


def event(type: str, data: str, *, id: str | None = None) -> bytes:
    """One event.

    :param type: the ``event:`` name.
    :param data: any text; each of its lines becomes a ``data:`` line.
    :param id: what the client resumes from; None keeps the client's last one.
    """
    lines = [] if id is None else [f"id: {id}"]
    lines.append(f"event: {type}")
    lines.extend(f"data: {line}" for line in _LINE_END.split(data))
    return ("\n".join(lines) + "\n\n").encode()


def with_id(id: str, frame: bytes) -> bytes:
    """An event that was framed without an id, and its id."""
    return b"id: " + id.encode() + b"\n" + frame


def retry(milliseconds: int) -> bytes:
    """How long a client waits before it connects again."""
    return f"retry: {milliseconds}\n\n".encode()
