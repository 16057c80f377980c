"""Truncates a notification to a push service's limit: first the app's data, then the text, last our data. Pure."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping

log = logging.getLogger("flask_bgtasks")

MIN_TITLE_BYTES = 100  # that are left of a title, before the app's own data is left out

OURS = ("request_id", "status", "name", "seq", "attempt", "link")
"""The data that every notification has; of these only the link may be left out."""


def fitted(
    title: str,
    body: str,
    data: Mapping[str, str],
    *,
    max_bytes: int,
    size: Callable[[str, str, Mapping[str, str]], int],
) -> tuple[str, str, dict[str, str]]:
    """Cut to what a message takes: the body first, then the title, then the app's own data is left out.

    Data that has to go goes before anything is cut for it: the largest first, the link last.

    :param max_bytes: bytes. :param size: of a message of these, in bytes.
    """
    kept = dict(data)
    shortest = cut(title, MIN_TITLE_BYTES)
    for key in sorted((key for key in kept if key not in OURS), key=lambda key: -len(kept[key])):
        if size(shortest, "", kept) <= max_bytes:
            break
        log.warning("data %r of a notification is left out: a push holds %d bytes at most", key, max_bytes)
        del kept[key]
    if size(shortest, "", kept) > max_bytes:
        kept.pop("link", None)
    over = size(title, body, kept) - max_bytes
    if over > 0:
        body = cut(body, len(_json(body)) - over)
        over = size(title, body, kept) - max_bytes
    if over > 0:
        title = cut(title, max(MIN_TITLE_BYTES, len(_json(title)) - over))
    return title, body, kept


def cut(text: str, max_bytes: int) -> str:
    """The beginning of a text in at most so many bytes, as JSON has them, with an ellipsis where something is gone."""
    if len(_json(text)) <= max_bytes:
        return text
    room = max_bytes - len("…".encode())
    if room <= 0:
        return ""
    kept, used = [], 0
    for character in text:
        used += len(_json(character))
        if used > room:
            break
        kept.append(character)
    return "".join(kept).rstrip() + "…"


def _json(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")[1:-1]
