"""Makes firebase-admin's message of a push: what each platform gets, under the SDK's names. Sends nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from ...core.devices import FID
from ...errors import Undeliverable
from ...firebase.features import FIDS, LIVE_ACTIVITIES
from .messages import Push, PushAddress


def sdk_message(push: Push) -> Any:
    """The SDK's message. :raises ValueError: as the SDK finds it."""
    make = _live_activity if push.activity is not None else _silent if push.silent else _alert
    return _addressed(push.address, make(push))


def require_features(push: Push) -> None:
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
