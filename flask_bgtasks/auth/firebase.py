"""Names the owner of a request by its Firebase ID token: a plugin for apps whose users sign in with Firebase.

Asks firebase-admin, which is imported when the first token comes. Knows requests, and no task.
"""

from __future__ import annotations

import functools
import logging
import threading
from typing import Any

from flask import Flask, Request, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import ServiceUnavailable, Unauthorized

from ..errors import ConfigurationError
from ..firebase.features import CLOCK_SKEW
from ..hookspecs import hookimpl

log = logging.getLogger("flask_bgtasks")

APP_NAME = "flask-bgtasks"  # of the firebase-admin app that is made where the code has none

SKEW_SECONDS = 5  # that a server's clock may be behind Google's


class FirebaseOwner:
    """``bgtasks.register(FirebaseOwner())``, or as a loader: ``bgtasks.owner_loader(FirebaseOwner())``.

    The owner is the ``uid`` of the ``Authorization: Bearer`` token. A request without one has no owner; a
    token that is invalid, expired, of another project or (if checked) revoked is answered with ``401``.

    :param project: the Firebase project; by default that of the firebase-admin app, of its credentials, or
        ``GOOGLE_CLOUD_PROJECT``.
    :param check_revoked: ask Firebase for each request whether the token was revoked or its user disabled: a call over
        the network, which needs credentials.
    """

    name = "firebase-auth"

    def __init__(self, *, project: str | None = None, check_revoked: bool = False) -> None:
        self._project = project
        self._check_revoked = check_revoked
        self._lock = threading.Lock()  # protects _app's making
        self._app: Any = None

    def __call__(self) -> str | None:
        """The owner of the current request."""
        return self.owner_of(request)

    @hookimpl
    def bgtasks_request_owner(self, app: Flask, request: Request) -> str | None:
        return self.owner_of(request)

    def owner_of(self, request: Request) -> str | None:
        """The ``uid`` of a request's token, None if it has none.

        :raises Unauthorized: the token is invalid. :raises ServiceUnavailable: it cannot be verified right now.
        """
        given = request.authorization
        if given is None or given.type != "bearer" or not given.token:
            return None
        from firebase_admin import auth, exceptions

        try:
            claims = auth.verify_id_token(
                given.token, self._firebase(), check_revoked=self._check_revoked, **self._allowance
            )
        except (auth.InvalidIdTokenError, auth.UserDisabledError) as error:
            challenge = WWWAuthenticate("bearer", {"error": "invalid_token"})  # RFC 6750, section 3.1
            raise Unauthorized(f"the ID token is invalid: {_reason(error)}", www_authenticate=challenge) from error
        except exceptions.FirebaseError as error:
            raise ServiceUnavailable("ID tokens cannot be verified right now", retry_after=5) from error
        except ValueError as error:
            raise ConfigurationError(
                f"FirebaseOwner: {error} Name the project: FirebaseOwner(project='…'), or set GOOGLE_CLOUD_PROJECT"
            ) from error
        uid: str = claims["uid"]
        return uid

    @functools.cached_property
    def _allowance(self) -> dict[str, int]:
        """How far the clocks may be apart, as an argument; none where the installed firebase-admin takes none."""
        if CLOCK_SKEW.lacking is None:
            return {"clock_skew_seconds": SKEW_SECONDS}
        log.warning(
            "FirebaseOwner: %s. Until then a token is refused while this server's clock is behind Google's",
            CLOCK_SKEW.lacking,
        )
        return {}

    def _firebase(self) -> Any:
        if self._app is None:
            with self._lock:
                if self._app is None:
                    self._app = self._find_app()
        return self._app

    def _find_app(self) -> Any:
        """The default app of firebase-admin, if the code has made one and no other project is asked for; else ours."""
        import firebase_admin

        name = f"{APP_NAME}-{self._project}" if self._project else APP_NAME
        try:
            return firebase_admin.get_app(name if self._project else "[DEFAULT]")
        except ValueError:
            pass
        try:
            return firebase_admin.get_app(name)
        except ValueError:
            options = {"projectId": self._project} if self._project else None
            credential = None if self._check_revoked else _anonymous_credential()
            return firebase_admin.initialize_app(credential, options=options, name=name)


def _anonymous_credential() -> Any:
    """To verify a token no credentials are needed: Google's certificates are public."""
    from firebase_admin import credentials
    from google.auth.credentials import AnonymousCredentials

    class AnonymousCredential(credentials.Base):  # type: ignore[misc]
        def get_credential(self) -> Any:
            return AnonymousCredentials()  # type: ignore[no-untyped-call]

    return AnonymousCredential()


def _reason(error: Exception) -> str:
    """What is wrong with a token, in a word: the SDK's text may repeat what is in it."""
    words = {"ExpiredIdTokenError": "expired", "RevokedIdTokenError": "revoked", "UserDisabledError": "user disabled"}
    return words.get(type(error).__name__, "invalid")
