"""Sends notifications to browsers by Web Push, without Firebase: each subscription at its own push service.

pywebpush encrypts (RFC 8291) and signs (VAPID, RFC 8292); the calls go through :mod:`.safe_http`, since a
subscription's URL comes from a browser. What is sent has the shape of Declarative Web Push
(webkit.org/blog/16535/meet-declarative-web-push): Safari shows it by itself, a service worker reads the same JSON.
"""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..core.backoff import Backoff, retry_after_seconds, rng
from ..core.devices import WEBPUSH, Device
from ..core.notifications import DEVICE_CHANNEL, Message, Notification
from ..errors import ConfigurationError, DeviceGone, EndpointUnreachable, RetryLater, Undeliverable
from ..hookspecs import hookimpl
from .cooldown import Cooldowns, Probe
from .safe_http import GuardedClient
from .truncation import fitted

if TYPE_CHECKING:
    from flask import Flask

    from ..settings import Settings

log = logging.getLogger("flask_bgtasks")

MAX_BYTES = 3993
"""Of a message before it is encrypted: a push service takes 4,096 bytes of it (RFC 8030, 7.2; RFC 8291, 4)."""

MAX_TTL_SECONDS = 28 * 86_400
TOKEN_SECONDS = 12 * 3600  # that a signature is good; 24 hours are allowed (RFC 8292, section 2)

FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 5.0, 3600.0
"""Between the tries of one message."""

PAUSES = Backoff(first=5.0, longest=600.0)
"""Between two tries at a push service that does not answer, or at a subscription that takes no more for now. Browsers
have different push services: each is left alone for itself."""

MAX_PAUSE_SECONDS = 86_400.0  # that a Retry-After is believed

DECLARATIVE = 8030
"""What marks a message that a browser may show by itself: the number of Web Push's own RFC."""


class WebPushSink:
    """``BGTASKS_SINKS = ["webpush"]``.

    :param vapid: the signing key. :param subject: whom a push service can write to.
    :param ttl: seconds for which a push service keeps a message for a browser that is off.
    """

    name = "webpush"
    device_kinds = (WEBPUSH,)

    def __init__(self, vapid: Any, subject: str, door: GuardedClient, *, ttl: int, concurrency: int = 16) -> None:
        self._vapid = vapid
        self._subject = subject
        self._door = door
        self._ttl = min(ttl, MAX_TTL_SECONDS)
        self._rests = Cooldowns(PAUSES)
        self.concurrency = concurrency

    @classmethod
    def from_settings(cls, app: Flask, settings: Settings) -> WebPushSink:
        """Made by its name. :raises ConfigurationError: the key or the subject is wrong, or the extra not installed."""
        try:
            import pywebpush  # noqa: F401
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"webpush: {error.name!r} is not installed: pip install 'flask-bgtasks[webpush]'"
            ) from None
        subject = settings.vapid_subject
        if subject is None or not subject.startswith(("mailto:", "https://")):
            raise ConfigurationError(
                f"BGTASKS_VAPID_SUBJECT={subject!r}: expected a contact for push services, e.g. mailto:you@example.com"
            )
        return cls(
            _key_of(app, settings.vapid_private_key),
            subject,
            GuardedClient(settings.private_targets),
            ttl=int(settings.expires_after.total_seconds()),
            concurrency=settings.push_concurrency,
        )

    @property
    def application_server_key(self) -> str:
        """What a browser subscribes with: the public key, an uncompressed point in base64url."""
        return _public(self._vapid)

    @hookimpl
    def bgtasks_send_notification(
        self, notification: Notification, load_devices: Callable[[], list[Device]]
    ) -> Iterator[Message]:
        for device in load_devices():
            if device.kind == WEBPUSH:
                to = {"id": device.id, "endpoint": device.value, "keys": dict(device.details.get("keys", {}))}
                yield Message(DEVICE_CHANNEL + device.id, {"to": to, "lang": device.lang})

    @hookimpl
    def bgtasks_deliver_message(self, message: Message) -> None:
        to, told = message.payload["to"], message.notification
        if told is None:
            raise Undeliverable("a message for a browser without content")
        host = _host(to["endpoint"])
        subscription, service = self._rests.begin(to["id"], "a subscription"), self._rests.begin(f"host:{host}", host)
        body = _encrypted(to, content(told, message.payload["lang"]))
        try:
            answer = self._door.post(to["endpoint"], body=body, headers=self._headers(to["endpoint"], told.request_id))
        except EndpointUnreachable as error:
            raise _later(message, f"a push service is unreachable: {error}", service.refused()) from error
        pause = _pause(answer.status, answer.headers, subscription=subscription, service=service)
        self._judge(message, answer.status, pause)

    @hookimpl
    def bgtasks_check(self) -> list[tuple[str, str | None]]:
        return [(f"Web Push: signed as {self._subject}", None)]

    def _headers(self, endpoint: str, request_id: str | None) -> dict[str, str]:
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(endpoint))
        claims = {"aud": origin, "exp": int(time.time()) + TOKEN_SECONDS, "sub": self._subject}
        # One topic for a task: what was not delivered yet is replaced (RFC 8030, section 5.4: 32 characters).
        topic = {"Topic": request_id.replace("-", "")[:32]} if request_id else {}
        return {
            **self._vapid.sign(claims),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(self._ttl),
            "Urgency": "high",
            **topic,
        }

    def _judge(self, message: Message, status: int, pause: float | None) -> None:
        """What a push service's answer means (RFC 8030, sections 5 and 7)."""
        host = _host(message.payload["to"]["endpoint"])
        if 200 <= status < 300:
            return
        if status in (404, 410):
            raise DeviceGone(f"{host} no longer knows the subscription", device_id=message.payload["to"]["id"])
        if status == 429 or status >= 500:
            raise _later(message, f"{host} answered {status}", pause)
        mend = "is BGTASKS_VAPID_PRIVATE_KEY still the one that the browser subscribed with?"
        raise Undeliverable(f"{host} answered {status}. Mend: {mend}")


def content(notification: Notification, lang: str | None) -> bytes:
    """What a browser gets, in its language, cut to what a push service takes."""
    told = notification.in_language(lang)
    data = {**told.data, "link": told.link} if told.link else dict(told.data)

    def written(title: str, body: str, data: Mapping[str, str]) -> bytes:
        shown: dict[str, Any] = {"title": title, "body": body, "data": dict(data)}
        if told.request_id:
            shown["tag"] = told.request_id
        if lang:
            shown["lang"] = lang
        document: dict[str, Any] = {"notification": shown}
        if told.link and "link" in data and told.link.startswith(("https://", "http://")):
            document["web_push"] = DECLARATIVE
            shown["navigate"] = told.link
        return _bytes(document)

    def size(title: str, body: str, data: Mapping[str, str]) -> int:
        return len(written(title, body, data))

    return written(*fitted(str(told.title), str(told.body), data, max_bytes=MAX_BYTES, size=size))


def _bytes(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _encrypted(to: Mapping[str, Any], plain: bytes) -> bytes:
    from pywebpush import WebPusher, WebPushException

    try:
        body: bytes = WebPusher({"endpoint": to["endpoint"], "keys": dict(to["keys"])}).encode(plain)["body"]
    except (WebPushException, ValueError) as error:
        raise DeviceGone(f"a subscription's keys are invalid: {type(error).__name__}", device_id=to["id"]) from error
    return body


def _later(message: Message, why: str, after: float | None) -> RetryLater:
    ceiling = min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(message.tries, 20))
    wait = ceiling * rng.uniform(0.5, 1.0)
    return RetryLater(why, after=max(wait, after or 0.0))


def _pause(status: int, headers: Mapping[str, str], *, subscription: Probe, service: Probe) -> float | None:
    """Who is left alone after an answer, and how long.

    "Too many" is said of one subscription (RFC 8030, section 8.4), a ``Retry-After`` beside anything else of the
    service.
    """
    after = retry_after_seconds(headers.get("retry-after"))
    if after is not None:
        after = min(after, MAX_PAUSE_SECONDS)
    if status == 429:
        service.answered()
        return subscription.refused(after)
    subscription.answered()
    if status >= 500 and after is not None:
        return service.refused(after)
    service.answered()
    return None


def _host(endpoint: str) -> str:
    return urlsplit(endpoint).netloc.lower()


def _key_of(app: Flask, given: str | None) -> Any:
    """The signing key. :raises ConfigurationError: there is none, or it is none."""
    from py_vapid import Vapid02

    if given is None:
        raise ConfigurationError("BGTASKS_VAPID_PRIVATE_KEY: expected a key; `flask bgtasks vapid` makes one")
    path = Path(app.root_path) / given
    try:
        if path.is_file():
            return Vapid02.from_pem(path.read_bytes())
        return Vapid02.from_string(given)
    except Exception as error:
        raise ConfigurationError(
            f"BGTASKS_VAPID_PRIVATE_KEY: this is neither a key in base64url nor a PEM file ({type(error).__name__}); "
            "`flask bgtasks vapid` makes a key"
        ) from None


def make_keys() -> tuple[str, str]:
    """A new pair: the private key as ``BGTASKS_VAPID_PRIVATE_KEY`` takes it, and the public one."""
    from py_vapid import Vapid02

    made = Vapid02()
    made.generate_keys()
    private = made.private_key.private_numbers().private_value.to_bytes(32, "big")
    return base64.urlsafe_b64encode(private).rstrip(b"=").decode(), _public(made)


def _public(vapid: Any) -> str:
    numbers = vapid.public_key.public_numbers()
    point = b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    return base64.urlsafe_b64encode(point).rstrip(b"=").decode()
