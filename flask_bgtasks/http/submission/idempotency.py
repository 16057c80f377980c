"""Reads the ``Idempotency-Key`` header, and determines the scope of a key. No I/O.

Follows draft-ietf-httpapi-idempotency-key-header-07; unquoted keys are accepted too, since most clients send them.

A key belongs to one owner and one task name, so the same key of two users, or for two endpoints, never conflicts.
Requests without an owner share one scope, so their keys must be as hard to guess as a UUID.
"""

from __future__ import annotations

import hashlib
import re

from ..problems import Problem
from ..requests.query import bad

MAX_LENGTH = 255

MIN_UNOWNED_LENGTH = 16
"""Characters of a key by which tasks without an owner are looked up: there the key is all that protects them. To have a
request's task again by sending it, its whole body has to be the same too."""

_VISIBLE = re.compile(rf"[\x21-\x7e]{{1,{MAX_LENGTH}}}")
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"(?:\s*;.*)?')  # an sf-string and ignored parameters: RFC 8941, 3.3.3


def parse(header: str | None) -> str | None:
    """The key, None where none was sent. Quoted, as the draft has it, and bare, as most clients send it, are the same.

    :raises Problem: it is no key.
    """
    if header is None:
        return None
    text = header.strip()
    if text.startswith('"'):
        text = _unquoted(text) or ""
    if not _VISIBLE.fullmatch(text):
        raise Problem(
            "invalid-idempotency-key",
            f"Idempotency-Key: expected 1 to {MAX_LENGTH} visible ASCII characters, a UUID for instance",
        )
    return text


def parse_parameter(text: str | None) -> str | None:
    """The key in ``?idempotency_key=``: bare, or as it stood in the header, for clients that kept it so.

    :raises Problem: it is no key.
    """
    if text is not None and not _VISIBLE.fullmatch(text):
        raise bad("idempotency_key", text, f"1 to {MAX_LENGTH} visible ASCII characters")
    return text and (_unquoted(text) or text)


def scope(owner: str | None, name: str, key: str) -> str:
    """Where a key counts, as one opaque text: SHA-256 over owner, task name and key, so that no part is readable.

    :param owner: None where the app knows no owners.
    :param name: the task's name, in place of its route. The request's path and method are in the fingerprint.
    """
    digest = hashlib.sha256()
    for part in ("" if owner is None else "=" + owner, name, key):  # nobody is not the owner called ""
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def _unquoted(text: str) -> str | None:
    match = _QUOTED.fullmatch(text)
    return re.sub(r"\\(.)", r"\1", match[1]) if match else None
