"""Seals the headers that a run needs of its request, so that the store, its backups and its readers cannot read them.

Fernet (AES-128-CBC with HMAC-SHA256) under keys that HKDF derives from the app's ``SECRET_KEY`` and its
``SECRET_KEY_FALLBACKS``. The one module that knows the ``cryptography`` package, which is imported on first need.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

INFO = b"flask-bgtasks kept headers v1"
"""Makes the key one of its own (RFC 5869, section 3.2): what signs cookies with the same secret opens nothing here."""

MAX_BYTES = 32 * 1024
"""Of headers that are kept of one request, in all. Servers take 8 KiB for one header and hundreds of KiB for all."""

Headers = Sequence[Sequence[str]]


class Sealer:
    """Seals and opens headers with an app's keys. The keys are read anew each time: an app may rotate them.

    :param app: whose ``SECRET_KEY`` and ``SECRET_KEY_FALLBACKS`` are used.
    :raises ConfigurationError: ``cryptography`` is not installed, or there is no ``SECRET_KEY``.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._made: tuple[tuple[bytes, ...], MultiFernet] | None = None
        try:
            import cryptography.fernet
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"BGTASKS_KEEP_HEADERS is set, but {error.name!r} is not installed: "
                "pip install 'flask-bgtasks[headers]'"
            ) from error
        self._invalid: type[Exception] = cryptography.fernet.InvalidToken
        if not app.secret_key:
            raise ConfigurationError(
                "BGTASKS_KEEP_HEADERS is set, but the app has no SECRET_KEY to encrypt what is kept: "
                "set SECRET_KEY before init_app, to the same value in every process"
            )

    def seal(self, headers: Headers) -> str | None:
        """The headers as a text that only this app opens; None where they are more than :data:`MAX_BYTES`."""
        text = json.dumps([list(header) for header in headers]).encode("ascii")
        return self._fernet().encrypt(text).decode("ascii") if len(text) <= MAX_BYTES else None

    def open(self, sealed: str) -> Headers | None:
        """What was sealed; None where no key of the app's opens it any more."""
        try:
            headers: Headers = json.loads(self._fernet().decrypt(sealed.encode("ascii")))
        except self._invalid:
            return None
        return headers

    def _fernet(self) -> MultiFernet:
        secrets = (self._app.secret_key, *(self._app.config.get("SECRET_KEY_FALLBACKS") or ()))
        keys = tuple(secret.encode("utf-8") if isinstance(secret, str) else bytes(secret) for secret in secrets)
        made = self._made
        if made is None or made[0] != keys:
            from cryptography.fernet import Fernet, MultiFernet

            made = keys, MultiFernet([Fernet(_derived(key)) for key in keys])
            self._made = made
        return made[1]


def _derived(secret: bytes) -> bytes:
    """A Fernet key, from the app's secret. No salt: two apps of one secret are one app (RFC 5869, section 3.1)."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return base64.urlsafe_b64encode(HKDF(algorithm=SHA256(), length=32, salt=None, info=INFO).derive(secret))
