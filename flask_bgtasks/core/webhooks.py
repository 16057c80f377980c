"""Where webhooks go: a target as a value. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import ConfigurationError
from ..wording import unknown_name
from .model import Event, EventType, Task
from .text.redaction import origin

ENDS = tuple(type.value for type in EventType if type.terminal)


@dataclass(frozen=True)
class WebhookTarget:
    """One URL that receives webhooks about tasks.

    :param url: https, unless it is in ``BGTASKS_PRIVATE_TARGETS``.
    :param secret: the key that signs its messages, ``whsec_…``: 24 to 64 bytes in base64. A list while a secret is
        being replaced: a receiver accepts a message that any of them has signed.
    :param events: types of events; by default the ends of tasks.
    :param names: names of tasks; None for all.
    :raises ConfigurationError: says what is expected.
    """

    url: str = field(repr=False)
    secret: str | Sequence[str] = field(repr=False)
    events: Sequence[str] = ENDS
    names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        known = [type.value for type in EventType]
        for event in self.events:
            if event not in known:
                raise ConfigurationError(f"events: no such event {event!r}. {unknown_name(event, known)}")
        if not self.secrets:
            raise ConfigurationError("secret: expected one, whsec_…")
        for secret in self.secrets:
            _check_secret(secret)

    @property
    def secrets(self) -> tuple[str, ...]:
        """All of its secrets."""
        return (self.secret,) if isinstance(self.secret, str) else tuple(self.secret)

    @property
    def id(self) -> str:
        """Names it in the outbox: the address, and what of. The secret is not in it, so that it can be replaced."""
        wanted = [sorted(set(self.events)), None if self.names is None else sorted(set(self.names))]
        return f"{self.place}-{_digest(json.dumps(wanted))[:8]}"

    @property
    def place(self) -> str:
        """Names its address, which other targets may have too."""
        return _digest(self.url)[:16]

    @property
    def shown(self) -> str:
        """The URL for logs: without its path and query, which may contain a secret."""
        return f"{origin(self.url)} ({self.id})"

    def wants(self, task: Task, event: Event) -> bool:
        """Whether it receives this event of this task."""
        return event.type.value in self.events and (self.names is None or task.name in self.names)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _check_secret(secret: str) -> None:
    """As the specification has it: the prefix ``whsec_``, and 24 to 64 random bytes in base64 ("Signature scheme")."""
    try:
        size = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if not secret.startswith("whsec_") or not 24 <= size <= 64:
        raise ConfigurationError(
            "secret: expected 'whsec_' and 24 to 64 random bytes in base64. Make one with: "
            "python -c \"import base64, os; print('whsec_' + base64.b64encode(os.urandom(32)).decode())\""
        )
