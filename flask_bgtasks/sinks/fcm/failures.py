"""What it means that FCM, or Google's token server, refuses: for the message, for its device and for the project.

The SDK's errors become ours here: a device that is gone, a dead letter, a pause. Sends nothing and keeps nothing.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from ...core.backoff import retry_after_seconds
from ...core.devices import masked
from ...errors import BackgroundTasksError, DeviceGone, Overloaded, RetryLater, Undeliverable
from .messages import Push, PushAddress

log = logging.getLogger("flask_bgtasks")

QUOTA_SECONDS = 60.0
"""To wait after a 429 that says nothing ("Scale FCM", firebase.google.com/docs/cloud-messaging/scale-fcm)."""

MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1.0, 86_400.0
"""Between which a ``Retry-After`` is believed. One of 0, or a date that is past by our clock, would be a storm."""

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


def failure_of(error: Any, push: Push) -> BackgroundTasksError:
    """What an error of the SDK means for the message (firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode)."""
    from firebase_admin import exceptions, messaging

    text, address, whom = str(error), push.address, masked_device(push.address)
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
    after = pause_of(error)
    if isinstance(error, (messaging.QuotaExceededError, exceptions.ResourceExhaustedError)):
        return Overloaded(f"FCM's quota is used up: {text}", after=QUOTA_SECONDS if after is None else after)
    unknown = (exceptions.UnauthenticatedError, exceptions.PermissionDeniedError, exceptions.NotFoundError)
    if isinstance(error, unknown):
        log.error("FCM does not take our messages (%s). Mend: %s. Deliveries are kept", text, KEY)
        return RetryLater(f"FCM does not take our messages ({text}). Mend: {KEY}")
    if after is not None:
        return Overloaded(f"FCM asks for a pause: {text}", after=after)
    return RetryLater(f"FCM is unreachable ({type(error).__name__}: {text})")


def was_sent(error: Any) -> bool:
    """Whether the message was taken, though the answer cannot be read: a success that is not JSON."""
    from requests.exceptions import InvalidJSONError

    return isinstance(getattr(error, "cause", None), InvalidJSONError)


def quota_is_of_device(error: Any) -> bool | None:
    """Whether the quota that was used up is that of one device, as far as the error says; None where it does not.

    QUOTA_EXCEEDED is "of the message target": of a device, and of the project as well (ErrorCode page).
    """
    from firebase_admin import messaging

    if not isinstance(error, messaging.QuotaExceededError):
        return False
    answer = getattr(error.http_response, "text", "")
    if ONE_DEVICE.search(answer):
        return True
    return False if WHOLE_PROJECT.search(answer) else None


def pause_of(error: Any) -> float | None:
    """The seconds that FCM asks for in ``Retry-After``, within what is believed; None where it names none."""
    response = getattr(error, "http_response", None)
    after = None if response is None else retry_after_seconds(response.headers.get("Retry-After"))
    return None if after is None else min(max(after, MIN_PAUSE_SECONDS), MAX_PAUSE_SECONDS)


def no_access_token(error: Exception) -> RetryLater:
    """What it means that Google gives no access token, logged where that needs a person."""
    from google.auth.exceptions import TransportError

    if isinstance(error, TransportError) or getattr(error, "retryable", False):
        return RetryLater(f"Google's token server is unreachable: {error}")
    log.error("Google gives no token for FCM (%s). Mend: make a new key for the service account", error)
    return RetryLater(f"Google gives no token for FCM ({error}). Mend: make a new key for the service account")


def masked_device(address: PushAddress) -> str:
    """A device, for messages and logs."""
    return f"the device at {masked(address.value)}"
