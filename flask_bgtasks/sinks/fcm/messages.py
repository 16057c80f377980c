"""FCM messages to single devices as values, truncated to FCM's limits. Pure; knows none of the SDK's classes.

Limits and names: firebase.google.com/docs/reference/fcm/rest/v1/projects.messages, and "About FCM messages" there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core.notifications import Notification
from ...core.text.clean import valid
from ..truncation import cut, fitted

log = logging.getLogger("flask_bgtasks")

MAX_BYTES = 4096 - 700
"""Of title, body and data as JSON in UTF-8. A message takes 4,096 (Apple's payload as well); the rest is for what FCM
and we add to it: the sound, the group, its own identifiers."""

STEP_BYTES = 200  # of a step's name, which may be whatever a task reports: a line on a lock screen is shorter

MAX_TTL_SECONDS = 28 * 86_400
"""Four weeks: the longest that FCM keeps a message (``AndroidConfig.ttl``), and RFC 8030's push services too."""

RESERVED = ("from", "message_type", "notification", "collapse_key")
RESERVED_PREFIXES = ("google", "gcm")
"""Names that data must not have ("About FCM messages", data messages): they would be refused, or not arrive."""


@dataclass(frozen=True, slots=True)
class PushAddress:
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
    :param android_channel: the app's notification channel on Android; None for the one that its manifest names.
    """

    address: PushAddress
    title: str | None = None
    body: str | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    tag: str | None = None
    group: str | None = None
    link: str | None = None
    ttl: int = MAX_TTL_SECONDS
    activity: Activity | None = None
    android_channel: str | None = None

    @property
    def silent(self) -> bool:
        """Whether the user is to see nothing of it."""
        return self.title is None


def of_notification(
    notification: Notification,
    address: PushAddress,
    *,
    lang: str | None,
    ttl: int,
    tag: str | None = None,
    android_channel: str | None = None,
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
        ttl=min(ttl, MAX_TTL_SECONDS),
        android_channel=android_channel,
    )


def of_step(step: str) -> str:
    """The name of a step, as it is sent."""
    return cut(_sound(step), STEP_BYTES)


def fit(title: str, body: str, data: Mapping[str, str]) -> tuple[str, str, dict[str, str]]:
    """Cut to what a message takes."""
    return fitted(title, body, data, max_bytes=MAX_BYTES, size=_size)


def _named(data: Mapping[str, str]) -> dict[str, str]:
    """The data under names that FCM takes."""
    named = {}
    for key, value in data.items():
        if key in RESERVED or key.startswith(RESERVED_PREFIXES):
            log.warning("data %r of a notification is sent as %r: FCM reserves that name", key, f"x_{key}")
            key = f"x_{key}"
        named[_sound(key)] = _sound(value)
    return named


def _sound(text: str) -> str:
    """A text without halves of characters (lone surrogates), which JSON may carry and UTF-8 cannot."""
    return valid(text)


def _size(title: str, body: str, data: Mapping[str, str]) -> int:
    return len(json.dumps({"title": title, "body": body, **data}, ensure_ascii=False).encode("utf-8", "replace"))
