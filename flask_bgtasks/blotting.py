"""Blots out of a text what looks like a credential, before somebody reads it who should not. Knows no other module."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_SECRET = re.compile(
    r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # a URL's user and password
    r"|(?i:(?<=bearer )|(?<=basic ))[\w.~+/=-]+"  # what follows an authorization scheme
    r"|\b(?:sk|pk|rk|ghp|gho|xox[a-z]|AKIA|AIza)[-_A-Za-z0-9]{8,}"  # keys that name their issuer
    r"|(?i:(?<=key=)|(?<=token=)|(?<=secret=)|(?<=password=)|(?<=passwd=)|(?<=pwd=))[^\s&,;'\"]+"
    r"|\beyJ[\w-]+\.[\w-]+\.[\w-]+"  # a JSON Web Token
)
"""A net, not a wall: what an app writes into an exception it shows."""


def blotted(text: str) -> str:
    """The text with stars in the place of what looks like a credential."""
    return _SECRET.sub("***", text)


def origin(url: str) -> str:
    """An address as a message may show it, scheme and host: a webhook's path is often its secret, and its query."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    return f"{parts.scheme}://{host[:100]}" if host else "an address without a host"
