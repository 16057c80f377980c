"""What is sent to one device by FCM, as values, cut to what FCM takes. Pure; the SDK's own classes come later.

Limits and names: firebase.google.com/docs/reference/fcm/rest/v1/projects.messages, and "About FCM messages" there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..notifications import Notification

log = logging.getLogger("flask_bgtasks")

MOST_BYTES = 4096 - 700
"""Of title, body and data as JSON in UTF-8. A message takes 4,096 (Apple's payload as well); the rest is for what FCM
and we add to it: the sound, the group, its own identifiers."""

LEAST_TITLE_BYTES = 100  # that are left of a title, before the app's own data is left out

MOST_TTL_SECONDS = 28 * 86_400
"""Four weeks: the longest that FCM keeps a message (``AndroidConfig.ttl``), and RFC 8030's push services too."""

RESERVED = ("from", "message_type", "notification", "collapse_key")
RESERVED_PREFIXES = ("google", "gcm")
"""Names that data must not have ("About FCM messages", data messages): they would be refused, or not arrive."""

OURS = ("request_id", "status", "name", "seq", "attempt", "link")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a push goes. :param id: of the device, as it is registered."""

    kind: str
    value: str = field(repr=False)
    id: str


@dataclass(frozen=True, slots=True)
class Activity:
    """What a Live Activity is to show (developer.apple.com, "Starting and updating Live Activities with push").

    :param state: the app's ``ContentState``. :param at: when it is true, seconds since the epoch.
    :param stale_at: from when on it is old. :param dismiss_at: when it leaves the screen; with it the activity ends.
    """

    token: str = field(repr=False)
    state: Mapping[str, Any]
    at: int
    stale_at: int | None = None
    dismiss_at: int | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """One message to one device.

    :param title: with ``body`` what the user sees; both None for a silent one.
    :param tag: replaces what is shown under the same one: the request's id.
    :param group: shown together: the task's name.
    :param ttl: seconds for which FCM keeps trying.
    """

    address: Address
    title: str | None = None
    body: str | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    tag: str | None = None
    group: str | None = None
    link: str | None = None
    ttl: int = MOST_TTL_SECONDS
    activity: Activity | None = None

    @property
    def silent(self) -> bool:
        """Whether the user is to see nothing of it."""
        return self.title is None


def of_notification(
    notification: Notification, address: Address, *, lang: str | None, ttl: int, tag: str | None = None
) -> Push:
    """The push that tells a notification to one device, in its language.

    :param tag: for one that is of no request.
    """
    told = notification.in_language(lang)
    data = _named(told.data)
    if told.link:
        data["link"] = told.link
    title, body, data = fit(_sound(str(told.title)), _sound(str(told.body)), data)
    return Push(
        address,
        title=title,
        body=body,
        data=data,
        tag=told.request_id or tag,
        group=told.data.get("name"),
        link=told.link if told.link and told.link.startswith("https://") else None,
        ttl=min(ttl, MOST_TTL_SECONDS),
    )


def fit(title: str, body: str, data: Mapping[str, str]) -> tuple[str, str, dict[str, str]]:
    """Cut to what a message takes: the body first, then the title, then the app's own data is left out.

    Data that has to go goes before anything is cut for it: the largest first, the link last.
    """
    kept = dict(data)
    least = cut(title, LEAST_TITLE_BYTES)
    for key in sorted((key for key in kept if key not in OURS), key=lambda key: -len(kept[key])):
        if _size(least, "", kept) <= MOST_BYTES:
            break
        log.warning("data %r of a notification is left out: a push takes %d bytes", key, MOST_BYTES)
        del kept[key]
    if _size(least, "", kept) > MOST_BYTES:
        kept.pop("link", None)
    over = _size(title, body, kept) - MOST_BYTES
    if over > 0:
        body = cut(body, len(_text(body)) - over)
        over = _size(title, body, kept) - MOST_BYTES
    if over > 0:
        title = cut(title, max(LEAST_TITLE_BYTES, len(_text(title)) - over))
    return title, body, kept


def cut(text: str, most: int) -> str:
    """The beginning of a text in at most so many bytes, as JSON has them, with an ellipsis where something is gone."""
    if len(_text(text)) <= most:
        return text
    room = most - len("…".encode())
    if room <= 0:
        return ""
    kept, used = [], 0
    for character in text:
        used += len(_text(character))
        if used > room:
            break
        kept.append(character)
    return "".join(kept).rstrip() + "…"


def _named(data: Mapping[str, str]) -> dict[str, str]:
    """The data under names that FCM takes."""
    named = {}
    for key, value in data.items():
        if key in RESERVED or key.startswith(RESERVED_PREFIXES):
            log.warning("data %r of a notification is sent as %r: FCM keeps that name for itself", key, f"x_{key}")
            key = f"x_{key}"
        named[_sound(key)] = _sound(value)
    return named


def _sound(text: str) -> str:
    """A text without halves of characters (lone surrogates), which JSON may carry and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def _size(title: str, body: str, data: Mapping[str, str]) -> int:
    return len(json.dumps({"title": title, "body": body, **data}, ensure_ascii=False).encode("utf-8", "replace"))


def _text(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")[1:-1]
