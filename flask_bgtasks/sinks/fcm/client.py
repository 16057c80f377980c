"""The client of FCM: a firebase-admin app of our own, and one call for each message.

The SDK does the sending. Its retries are switched off: after a timeout they send doubles, and a ``Retry-After`` they
sleep out in the calling thread, for hours if it says so. The outbox retries. All that is touched of the SDK's private
parts is touched here. What is sent is made in :mod:`.sdk_message`, what an error means is told in :mod:`.failures`.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from ...core.backoff import Backoff
from ...errors import ConfigurationError, Overloaded, RetryLater, Undeliverable
from ...firebase.credentials import find_credentials
from ...runtime.fork import after_fork_in_child
from ..cooldown import Cooldowns
from .failures import QUOTA_SECONDS, failure_of, masked_device, no_access_token, pause_of, quota_is_of_device, was_sent
from .messages import Push, PushAddress
from .sdk_message import require_features, sdk_message

if TYPE_CHECKING:
    from flask import Flask

    from ...settings import Settings

log = logging.getLogger("flask_bgtasks")

DEADLINE_SECONDS = 5.0
"""Of each call: to connect, and between two parts of the answer. Whether a message that took longer got through is not
known; one that comes twice replaces the first on the device."""

GOOGLE = "https://fcm.googleapis.com"

DEVICE_PAUSES = Backoff(first=2 * QUOTA_SECONDS, longest=3600.0)
"""For one device that is sent too much ("Message rate limit to a single device", throttling-and-quotas there)."""

_numbers = itertools.count(1)


class FcmClient:
    """Sends messages to one project; made lazily, once in each process.

    :param endpoint: a stand-in's address, instead of Google's.
    :param connections: how many are kept open: the threads that send.
    """

    def __init__(
        self, *, project: str, credentials: Any, source: str, endpoint: str | None = None, connections: int = 16
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

        require_features(push)
        try:
            message = sdk_message(push)
        except (TypeError, ValueError) as error:
            raise _not_a_message(error) from error
        app, whom = self._firebase(), masked_device(push.address)
        device = self._limited.begin(push.address.id, whom)
        try:
            messaging.send(message, dry_run=dry_run, app=app)
        except exceptions.FirebaseError as error:
            if not was_sent(error):
                told = failure_of(error, push)
                if isinstance(told, Overloaded) and self._is_of_one_device(error, push.address, told.after):
                    after = device.refused(pause_of(error))
                    raise RetryLater(f"{whom} got too many messages ({told})", after=after) from error
                raise told from error
            log.warning("FCM answered something unreadable to a message for %s: taken as sent", whom)
        except GoogleAuthError as error:
            raise no_access_token(error) from error
        except (KeyError, TypeError, ValueError) as error:
            _check(message)
            if isinstance(error, ValueError):
                raise
            # The answer has no name of the message, or is no object.
            log.warning("FCM did not name a message for %s: taken as sent", whom)
        device.answered()

    def _is_of_one_device(self, error: Any, address: PushAddress, after: float | None) -> bool:
        """Whether FCM wants a pause for one device only.

        Where it does not say so, it is the device's, until another device hears the same within its pause.
        """
        of_device = quota_is_of_device(error)
        if of_device is not None:
            return of_device
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
            raise no_access_token(error) from error

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

        class FoundCredential(credentials.Base):  # type: ignore[misc]
            def get_credential(self) -> Any:
                return found

        options = {"projectId": self.project, "httpTimeout": DEADLINE_SECONDS}
        name = f"flask-bgtasks-fcm-{os.getpid()}-{next(_numbers)}"
        app = firebase_admin.initialize_app(FoundCredential(), options=options, name=name)
        self._without_retries(app)
        return app

    def _without_retries(self, app: Any) -> None:
        """Switch the SDK's own retries off, and point it at the stand-in, if there is one; settle what it would ask the
        environment. Of this app alone.
        """
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
        for prefix in (GOOGLE, "https://", "http://"):
            session.mount(prefix, adapter)
        if self._endpoint is not None:
            service._fcm_url = known.replace(GOOGLE, self._endpoint.rstrip("/"))
        else:
            # Proxies and certificates of the environment: asked for each message they cost it 0.2 ms.
            found = session.merge_environment_settings(GOOGLE, {}, None, None, None)
            session.proxies, session.verify = found["proxies"], found["verify"]
        # A stand-in is near: not behind the environment's proxy. Nor is anybody's .netrc to replace the access token.
        session.trust_env = False


def _check(message: Any) -> None:
    """Find out whether it was the message that the SDK could not write, before anything was sent.

    Asked afterwards, of the few that fail: written twice, each message cost a tenth more.

    :raises Undeliverable: it was.
    """
    try:
        str(message)  # as the SDK writes it: that is when it checks the parts
    except (TypeError, ValueError) as error:
        raise _not_a_message(error) from error


def _not_a_message(error: Exception) -> Undeliverable:
    return Undeliverable(f"this is not a message for FCM: {error}")


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
        return FcmClient(project=project, credentials=_stand_in_credentials(), source="BGTASKS_FCM_ENDPOINT", **more)
    found = find_credentials(app, settings, what="FCM", besides="For a stand-in set BGTASKS_FCM_ENDPOINT")
    return FcmClient(project=found.project, credentials=found.credentials, source=found.source, **more)


def _stand_in_credentials() -> Any:
    """Credentials for a stand-in: a token that means nothing, fetched from nowhere."""
    from google.auth.credentials import Credentials

    class StandInCredentials(Credentials):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.token = "stand-in"

        def refresh(self, request: Any) -> None:
            self.token = "stand-in"

    return StandInCredentials()
