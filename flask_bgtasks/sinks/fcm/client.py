"""The one door to FCM: a firebase-admin app of our own, one call for each message, and what its answers mean.

The SDK does the sending. Its retries are switched off: after a timeout they send doubles, and a ``Retry-After`` they
sleep out in the calling thread, for hours if it says so. The outbox retries. All that is touched of the SDK's private
parts is touched here.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import re
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ...core.backoff import Backoff, retry_after_seconds
from ...core.devices import FID, masked
from ...errors import BackgroundTasksError, ConfigurationError, DeviceGone, Overloaded, RetryLater, Undeliverable
from ...firebase.credentials import find_credentials
from ...firebase.features import FIDS, LIVE_ACTIVITIES
from ...runtime.fork import after_fork_in_child
from ..cooldown import Cooldowns
from .messages import Push, PushAddress

if TYPE_CHECKING:
    from flask import Flask

    from ...settings import Settings

log = logging.getLogger("flask_bgtasks")

DEADLINE_SECONDS = 5.0
"""Of each call: to connect, and between two parts of the answer. Whether a message that took longer got through is not
known; one that comes twice replaces the first on the device."""

QUOTA_SECONDS = 60.0
"""To wait after a 429 that says nothing ("Scale FCM", firebase.google.com/docs/cloud-messaging/scale-fcm)."""

DEVICE_PAUSES = Backoff(first=2 * QUOTA_SECONDS, longest=3600.0)
"""For one device that is sent too much ("Message rate limit to a single device", throttling-and-quotas there)."""

MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1.0, 86_400.0
"""Between which a ``Retry-After`` is believed. One of 0, or a date that is past by our clock, would be a storm."""

_numbers = itertools.count(1)


class FcmClient:
    """Sends messages to one project; made lazily, once in each process.

    :param endpoint: a stand-in's address, instead of Google's.
    :param connections: how many are kept open: the threads that send.
    """

    def __init__(
        self, *, project: str, credentials: Any, source: str, endpoint: str | None = None, connections: int = 8
    ) -> None:
        self.project = project
        self.source = source
        self._credentials = credentials
        self._endpoint = endpoint
        self._connections = connections
        self._limited = Cooldowns(DEVICE_PAUSES)
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()  # protects _app's making
        self._app: Any = None
        self._refused = ("", 0.0)  # the last device for which FCM did not say whose quota was used up, and until when

    def send(self, push: Push, *, dry_run: bool = False) -> None:
        """Send one message.

        :param dry_run: FCM checks it, and delivers nothing.
        :raises DeviceGone: the address is nobody's any more.
        :raises Undeliverable: it can never be sent so.
        :raises Overloaded: FCM wants a pause. :raises RetryLater: it cannot be reached, does not know us right now, or
            (with ``after``) wants a pause for this device.
        """
        from firebase_admin import exceptions, messaging
        from google.auth.exceptions import GoogleAuthError

        _possible(push)
        try:
            message = _message(push)
            str(message)  # as the SDK will write it: only now it is checked
        except (TypeError, ValueError) as error:
            raise Undeliverable(f"this is not a message for FCM: {error}") from error
        app = self._firebase()
        device = self._limited.begin(push.address.id, _whom(push.address))
        try:
            messaging.send(message, dry_run=dry_run, app=app)
        except exceptions.FirebaseError as error:
            if not _was_sent(error):
                told = _told(error, push)
                if isinstance(told, Overloaded) and self._is_of_one_device(error, push.address, told.after):
                    after = device.refused(_retry_after(error))
                    raise RetryLater(f"{_whom(push.address)} got too many messages ({told})", after=after) from error
                raise told from error
            log.warning("FCM answered something unreadable to a message for %s: taken as sent", _whom(push.address))
        except (KeyError, TypeError):  # the answer has no name of the message, or is no object
            log.warning("FCM did not name a message for %s: taken as sent", _whom(push.address))
        except GoogleAuthError as error:
            raise _no_token(error) from error
        device.answered()

    def _is_of_one_device(self, error: Any, address: PushAddress, after: float | None) -> bool:
        """Whether FCM wants a pause for one device only, as far as it says.

        QUOTA_EXCEEDED is "of the message target": of a device, and of the project as well (ErrorCode page). Where the
        answer does not say which, it is the device's, until another device hears the same within its pause.
        """
        from firebase_admin import messaging

        if not isinstance(error, messaging.QuotaExceededError):
            return False
        answer = getattr(error.http_response, "text", "")
        if ONE_DEVICE.search(answer):
            return True
        if WHOLE_PROJECT.search(answer):
            return False
        (other, until), now = self._refused, time.monotonic()
        self._refused = (address.id, now + (after or QUOTA_SECONDS))
        return other == address.id or now >= until

    def fetch_token(self) -> None:
        """See whether the credentials give an access token. :raises RetryLater: they do not."""
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        try:
            self._credentials.refresh(functools.partial(Request(), timeout=DEADLINE_SECONDS))
        except GoogleAuthError as error:
            raise _no_token(error) from error

    def close(self) -> None:
        """Close connections; the next message opens them again."""
        with self._lock:
            app, self._app = self._app, None
        if app is not None:
            import firebase_admin

            firebase_admin.delete_app(app)

    def _firebase(self) -> Any:
        if self._app is None:
            with self._lock:
                if self._app is None:
                    self._app = self._make()
        return self._app

    def _make(self) -> Any:
        import firebase_admin
        from firebase_admin import credentials

        found = self._credentials

        class Found(credentials.Base):  # type: ignore[misc]
            def get_credential(self) -> Any:
                return found

        options = {"projectId": self.project, "httpTimeout": DEADLINE_SECONDS}
        name = f"flask-bgtasks-fcm-{os.getpid()}-{next(_numbers)}"
        app = firebase_admin.initialize_app(Found(), options=options, name=name)
        self._without_retries(app)
        return app

    def _without_retries(self, app: Any) -> None:
        """Switch the SDK's own retries off, and point it at the stand-in, if there is one. Of this app alone."""
        from firebase_admin import messaging
        from requests.adapters import HTTPAdapter

        try:
            service = messaging._get_messaging_service(app)
            session = service._client.session
            known = service._fcm_url
        except AttributeError as error:
            if self._endpoint is not None:
                raise ConfigurationError(
                    f"BGTASKS_FCM_ENDPOINT: this firebase-admin cannot be pointed there ({error}); use another version"
                ) from error
            log.warning("this firebase-admin keeps its own retries, which may send a message twice: %s", error)
            return
        adapter = HTTPAdapter(pool_maxsize=self._connections, max_retries=0)
        for prefix in ("https://fcm.googleapis.com", "https://", "http://"):
            session.mount(prefix, adapter)
        if self._endpoint is not None:
            service._fcm_url = known.replace("https://fcm.googleapis.com", self._endpoint.rstrip("/"))
            session.trust_env = False  # a stand-in is near: not behind the proxy that the environment names


def connect(app: Flask, settings: Settings) -> FcmClient:
    """The client that the settings describe; connects to nothing.

    :raises ConfigurationError: the extra is not installed, or there are no credentials.
    """
    try:
        import firebase_admin  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"FCM: {error.name!r} is not installed: pip install 'flask-bgtasks[firebase]'"
        ) from None
    more: dict[str, Any] = {"endpoint": settings.fcm_endpoint, "connections": settings.push_concurrency}
    if settings.fcm_endpoint is not None:
        project = settings.firebase_project or os.environ.get("GOOGLE_CLOUD_PROJECT") or "demo-bgtasks"
        return FcmClient(project=project, credentials=_nobody(), source="BGTASKS_FCM_ENDPOINT", **more)
    found = find_credentials(app, settings, what="FCM", besides="For a stand-in set BGTASKS_FCM_ENDPOINT")
    return FcmClient(project=found.project, credentials=found.credentials, source=found.source, **more)


def _nobody() -> Any:
    """Credentials for a stand-in: a token that means nothing, fetched from nowhere."""
    from google.auth.credentials import Credentials

    class Nobody(Credentials):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.token = "stand-in"

        def refresh(self, request: Any) -> None:
            self.token = "stand-in"

    return Nobody()


# -- messages ----------------------------------------------------------------------------------------------------------


def _message(push: Push) -> Any:
    """The SDK's message. :raises ValueError: as the SDK finds it."""
    make = _live_activity if push.activity is not None else _silent if push.silent else _alert
    return _addressed(push.address, make(push))


def _possible(push: Push) -> None:
    """:raises Undeliverable: the installed firebase-admin cannot send this."""
    wanted = [FIDS] if push.address.kind == FID else []
    if push.activity is not None:
        wanted.append(LIVE_ACTIVITIES)
    for feature in wanted:
        if feature.lacking is not None:
            raise Undeliverable(f"{feature.lacking}; then `flask bgtasks replay`")


def _addressed(address: PushAddress, fields: Mapping[str, Any]) -> Any:
    """A message to an address of either kind. The SDK that knows ``fid`` warns of ``token``.

    It warns of the argument only: set afterwards, nobody's warning filters, which are not for threads, need a change.
    """
    from firebase_admin import messaging

    if address.kind == FID:
        return messaging.Message(fid=address.value, **fields)
    message = messaging.Message(**fields)
    message.token = address.value
    return message


def _alert(push: Push) -> dict[str, Any]:
    from firebase_admin import messaging

    headers = {
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-expiration": str(int(time.time()) + push.ttl),
        **({"apns-collapse-id": push.tag} if push.tag else {}),
    }
    web = {"TTL": str(push.ttl), "Urgency": "high"}
    if push.tag:
        web["Topic"] = push.tag.replace("-", "")[:32]  # RFC 8030, section 5.4: 32 characters of base64url
    aps = messaging.Aps(sound="default", thread_id=push.group, mutable_content=True, content_available=True)
    return {
        "notification": messaging.Notification(title=push.title, body=push.body or None),
        "data": dict(push.data) or None,
        "android": messaging.AndroidConfig(
            priority="high",
            ttl=timedelta(seconds=push.ttl),
            notification=messaging.AndroidNotification(tag=push.tag, channel_id=push.android_channel)
            if push.tag or push.android_channel
            else None,
        ),
        "apns": messaging.APNSConfig(headers=headers, payload=messaging.APNSPayload(aps=aps)),
        "webpush": messaging.WebpushConfig(
            headers=web,
            notification=messaging.WebpushNotification(tag=push.tag) if push.tag else None,
            fcm_options=messaging.WebpushFCMOptions(link=push.link) if push.link else None,
        ),
    }


def _silent(push: Push) -> dict[str, Any]:
    """For the app alone. Apple wants a background push at priority 5 ("Pushing background updates to your App")."""
    from firebase_admin import messaging

    headers = {"apns-push-type": "background", "apns-priority": "5"}
    if push.tag:
        headers["apns-collapse-id"] = push.tag
    return {
        "data": dict(push.data) or None,
        # One key for all: FCM keeps at most four of a device.
        "android": messaging.AndroidConfig(
            priority="normal", ttl=timedelta(seconds=push.ttl), collapse_key="bgtasks-progress"
        ),
        "apns": messaging.APNSConfig(
            headers=headers, payload=messaging.APNSPayload(aps=messaging.Aps(content_available=True))
        ),
    }


def _live_activity(push: Push) -> dict[str, Any]:
    """FCM sets push type and topic (firebase.google.com/docs/cloud-messaging/customize-messages/live-activity)."""
    from firebase_admin import messaging

    activity = push.activity
    assert activity is not None
    ends = activity.dismiss_at is not None
    shown: dict[str, Any] = {
        "timestamp": activity.at,
        "event": "end" if ends else "update",
        "content-state": dict(activity.state),
    }
    if activity.stale_at is not None:
        shown["stale-date"] = activity.stale_at
    if ends:
        shown["dismissal-date"] = activity.dismiss_at
    alert = messaging.ApsAlert(title=push.title, body=push.body or None) if push.title is not None else None
    return {
        "apns": messaging.APNSConfig(
            live_activity_token=activity.token,
            headers={"apns-priority": "10" if ends else "5"},
            payload=messaging.APNSPayload(aps=messaging.Aps(alert=alert, custom_data=shown)),
        )
    }


# -- answers -----------------------------------------------------------------------------------------------------------

NOT_A_TOKEN = re.compile(r"registration token|message\.(token|fid)\b", re.IGNORECASE)
"""What the text of an INVALID_ARGUMENT names when it is the address, not the message, that is wrong: in words, or as
the field (firebase.google.com/docs/cloud-messaging/error-codes)."""

ONE_DEVICE, WHOLE_PROJECT = re.compile(r"\bdevice", re.IGNORECASE), re.compile(r"per.?minute|project", re.IGNORECASE)
"""What a 429 names, in its text or in the violations of its ``google.rpc.QuotaFailure``, when the quota is that of one
device, or that of the project (github.com/firebase/firebase-admin-go/issues/719 has one of those)."""

TRUST = "the project's credentials for Apple or for Web Push are wrong or missing: Firebase console, Cloud Messaging"
KEY = (
    "the service account may not send: give it the role roles/firebasecloudmessaging.admin in this project, "
    "switch the Firebase Cloud Messaging API (V1) on, and see that its key is not revoked"
)


def _told(error: Any, push: Push) -> BackgroundTasksError:
    """What an error of the SDK means for the message (firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode)."""
    from firebase_admin import exceptions, messaging

    text, address, whom = str(error), push.address, _whom(push.address)
    for secret in (address.value, push.activity.token if push.activity is not None else ""):
        if secret:
            text = text.replace(secret, masked(secret))
    if isinstance(error, messaging.UnregisteredError):
        return DeviceGone(f"FCM no longer knows {whom}", device_id=address.id)
    if isinstance(error, messaging.SenderIdMismatchError):
        return DeviceGone(f"{whom} belongs to another Firebase project", device_id=address.id)
    if isinstance(error, exceptions.InvalidArgumentError):
        if NOT_A_TOKEN.search(text):
            return DeviceGone(f"{whom} is not an FCM address", device_id=address.id)
        return Undeliverable(f"FCM refuses the message for {whom}: {text}. Mend: the notify= option or the hook")
    if isinstance(error, messaging.ThirdPartyAuthError):
        return Undeliverable(f"FCM cannot reach {whom} ({text}). Mend: {TRUST}; then `flask bgtasks replay`")
    after = _retry_after(error)
    if isinstance(error, (messaging.QuotaExceededError, exceptions.ResourceExhaustedError)):
        return Overloaded(f"FCM's quota is used up: {text}", after=QUOTA_SECONDS if after is None else after)
    unknown = (exceptions.UnauthenticatedError, exceptions.PermissionDeniedError, exceptions.NotFoundError)
    if isinstance(error, unknown):
        log.error("FCM does not take our messages (%s). Mend: %s. Deliveries are kept", text, KEY)
        return RetryLater(f"FCM does not take our messages ({text}). Mend: {KEY}")
    if after is not None:
        return Overloaded(f"FCM asks for a pause: {text}", after=after)
    return RetryLater(f"FCM is unreachable ({type(error).__name__}: {text})")


def _was_sent(error: Any) -> bool:
    """Whether the message was taken, though the answer cannot be read: a success that is not JSON."""
    from requests.exceptions import InvalidJSONError

    return isinstance(getattr(error, "cause", None), InvalidJSONError)


def _retry_after(error: Any) -> float | None:
    response = getattr(error, "http_response", None)
    after = None if response is None else retry_after_seconds(response.headers.get("Retry-After"))
    return None if after is None else min(max(after, MIN_PAUSE_SECONDS), MAX_PAUSE_SECONDS)


def _no_token(error: Exception) -> RetryLater:
    from google.auth.exceptions import TransportError

    if isinstance(error, TransportError) or getattr(error, "retryable", False):
        return RetryLater(f"Google's token server is unreachable: {error}")
    log.error("Google gives no token for FCM (%s). Mend: make a new key for the service account", error)
    return RetryLater(f"Google gives no token for FCM ({error}). Mend: make a new key for the service account")


def _whom(address: PushAddress) -> str:
    return f"the device at {masked(address.value)}"
