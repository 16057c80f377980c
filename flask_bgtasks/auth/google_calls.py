"""Verifies that a call comes from Google Cloud Tasks or Cloud Scheduler, in the name of one service account.

Such a call carries an ID token that Google has signed (OpenID Connect Core 1.0, section 3.1.3.7, says what to check).
google-auth verifies the signature and the times; this checks the claims, and keeps Google's certificates. Knows no
task.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Mapping
from typing import Any

import google.auth.transport.requests
from google.auth import jwt

from ..runtime.fork import after_fork_in_child
from ..runtime.log_lines import Recurring

log = logging.getLogger("flask_bgtasks")

ISSUERS = ("https://accounts.google.com", "accounts.google.com")
"""What Google's ID tokens name ("Validating an ID token", developers.google.com/identity/openid-connect)."""

ALGORITHM = "RS256"
"""What Google signs them with (accounts.google.com/.well-known/openid-configuration)."""

MAX_TOKEN_LENGTH = 8192  # characters; Google's have about 1000

SKEW_SECONDS = 10  # that our clock and Google's may be apart

FETCH_SECONDS = 5.0  # for one answer of the address of the certificates

MIN_PAUSE_SECONDS = 60.0
"""Between two fetches, whatever comes: tokens that name keys which do not exist cost nobody a call. Google publishes a
key long before it signs with it."""

RETRY_SECONDS = 5.0  # the pause after a fetch that failed

MAX_AGE = 3600.0  # seconds, where the answer does not say how long it holds

_MAX_AGE = re.compile(r"max-age=(\d{1,7})")


class CallRefused(Exception):
    """A call does not carry the token that it must. Says why, for the log: no caller is told.

    :param known: whether Google has signed the token, and it is somebody else's.
    """

    def __init__(self, why: str, *, known: bool = False) -> None:
        super().__init__(why, known)
        self.why, self.known = why, known

    def __str__(self) -> str:
        return self.why


class CertificatesMissing(Exception):
    """Google's certificates cannot be fetched, and none are known: nobody's token can be verified now."""


class CallVerifier:
    """Verifies the tokens of calls.

    :param service_account: in whose name calls are made. :param audience: whom they are meant for.
    :param certs_url: where the certificates are.
    """

    def __init__(self, *, service_account: str, audience: str, certs_url: str) -> None:
        self._service_account = service_account
        self._audience = audience
        self._certificates = Certificates(certs_url)

    def verify(self, token: str) -> None:
        """Return if the token is one. Replayed it is accepted until it expires: a call can only wake the service.

        :raises CallRefused: it is not. :raises CertificatesMissing: that cannot be told now.
        """
        if not token or len(token) > MAX_TOKEN_LENGTH:
            raise CallRefused("it has no bearer token")
        try:
            header, claims = jwt.decode_header(token), jwt.decode(token, verify=False)  # type: ignore[no-untyped-call]
        except Exception as error:  # google-auth raises what it meets
            raise CallRefused("its token is no JWT") from error
        if not isinstance(header, Mapping) or not isinstance(claims, Mapping) or header.get("alg") != ALGORITHM:
            raise CallRefused(f"its token is not signed with {ALGORITHM}")
        # Before the signature: what is not for us is refused without asking for a key.
        if claims.get("iss") not in ISSUERS:
            raise CallRefused("its token does not name Google as its issuer")
        if claims.get("aud") != self._audience:
            raise CallRefused(f"the audience of its token is not {self._audience!r} (BGTASKS_RUN_AUDIENCE)")
        try:
            jwt.decode(token, certs=self._certificates.for_key(header.get("kid")), clock_skew_in_seconds=SKEW_SECONDS)  # type: ignore[no-untyped-call]
        except CertificatesMissing:
            raise
        except Exception as error:
            raise CallRefused("its token is expired, or its signature is not one of Google's") from error
        if claims.get("email") != self._service_account or claims.get("email_verified") is not True:
            who = f"its token is not of {self._service_account} (BGTASKS_RUN_SERVICE_ACCOUNT)"
            raise CallRefused(who, known=True)


class Certificates:
    """Google's certificates: fetched on first need, kept as long as the answer allows."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._outage = Recurring(log)
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        # Held during a fetch, so that of many calls at once one asks; the others go by what is known, if anything is.
        self._fetching = threading.Lock()
        # The three are set by whoever holds it, and read without it.
        self._known: Mapping[str, Any] = {}
        self._stale_at = 0.0  # by time.monotonic, as the next
        self._ask_at = 0.0  # before that nobody asks again
        self._transport: Any = None  # connections do not survive a fork

    def for_key(self, key_id: Any) -> Mapping[str, Any]:
        """All that are known, after asking for a key that is not among them.

        :raises CertificatesMissing: there are none.
        """
        now = time.monotonic()
        if (now >= self._stale_at or key_id not in self._known) and now >= self._ask_at:
            waits = 0.0 if self._known else FETCH_SECONDS
            if self._fetching.acquire(timeout=waits):
                try:
                    if time.monotonic() >= self._ask_at:  # else somebody has asked while this one waited
                        self._fetch()
                finally:
                    self._fetching.release()
        if not self._known:
            raise CertificatesMissing()
        return self._known

    def _fetch(self) -> None:
        try:
            if self._transport is None:
                self._transport = google.auth.transport.requests.Request()
            answer = self._transport(self._url, method="GET", timeout=FETCH_SECONDS)
            if answer.status != 200:
                raise ConnectionError(f"status {answer.status}")
            known = _certificates_in(answer.data)
        except Exception as error:
            self._ask_at = time.monotonic() + RETRY_SECONDS
            self._outage.note("%s gives no certificates: %s: %s", self._url, type(error).__name__, error)
            return
        now = time.monotonic()
        found = _MAX_AGE.search(answer.headers.get("Cache-Control", ""))
        self._stale_at = now + max(MIN_PAUSE_SECONDS, float(found[1]) if found else MAX_AGE)
        self._ask_at = now + MIN_PAUSE_SECONDS
        self._known = known
        self._outage.over("%s gives certificates again", self._url)


def _certificates_in(body: bytes) -> dict[str, str]:
    """The certificates, PEM, by the id of their key. :raises ValueError: the body has none."""
    given = json.loads(body)
    if not isinstance(given, dict) or not given or not all(isinstance(one, str) for one in given.values()):
        raise ValueError("expected a mapping from ids of keys to certificates")
    return given
