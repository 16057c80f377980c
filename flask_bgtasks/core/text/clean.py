"""Makes any text storable: valid Unicode, without NUL, bounded. Every text that an app reports passes here once.

JavaScript's ``slice`` can cut an emoji in half. If a view copied that half into a step's name, no database could store
the task, and no UTF-8 answer could contain it. Pure; knows no other module.
"""

from __future__ import annotations

import hashlib
from typing import Any

MAX_TEXT = 1000
"""Characters of a step's name, of details and of an error's message. Our choice: more than anybody reads in a list."""

MAX_IDENTITY_BYTES = 1000
"""Bytes of a text that is looked up by: an owner, a task's name. An index entry of PostgreSQL holds 2,704 bytes, and
one of Firestore 1,500; two of these fit into the first."""

REPLACEMENT = "\ufffd"

ELLIPSIS = "…"


def clean(text: str, limit: int | None = None) -> str:
    """The text as UTF-8 and databases take it, cut to ``limit`` characters.

    Halves of a surrogate pair that stand side by side are joined; a half that stands alone, and NUL, become U+FFFD.

    :param limit: characters, of which the last is an ellipsis where something was cut; None for any length.
    """
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + ELLIPSIS
    text = valid(text)
    return text.replace("\x00", REPLACEMENT) if "\x00" in text else text


def valid(text: str) -> str:
    """The text as valid Unicode, else as it is: a text inside JSON may hold NUL, which is escaped there."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def text_of(value: Any, limit: int | None = MAX_TEXT) -> str:
    """Any object as clean text: a lazy translation, a number, an exception. Never fails.

    :param limit: as for :func:`clean`.
    """
    try:
        text = str.__str__(value) if isinstance(value, str) else str(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # its __str__ raises, or it is an int of more digits than Python converts
        text = f"<{type(value).__name__}: its text is not available>"
    return clean(text, limit)


def optional_text(value: Any, limit: int | None = MAX_TEXT) -> str | None:
    """As :func:`text_of`; None stays None."""
    return None if value is None else text_of(value, limit)


def is_text(value: Any) -> bool:
    """Whether an object is meant to be read as text: a string, or what brings its own ``__str__`` (lazy translations).

    ``None``, numbers, lists, functions and bytes are not.
    """
    if isinstance(value, str):
        return True
    own: Any = type(value).__str__
    return own is not object.__str__ and not isinstance(value, (bytes, bytearray, BaseException))


def identity(value: Any, max_bytes: int = MAX_IDENTITY_BYTES) -> str:
    """The text of an object in a form that every store can look up; different texts stay different.

    What is valid and short enough stays as it is. Of anything else the readable beginning is kept, with a digest of
    the whole: two owners who differ in half an emoji must never be taken for one.

    :param max_bytes: of UTF-8, at least 100.
    """
    text = str.__str__(value) if isinstance(value, str) else text_of(value, None)
    if "\x00" not in text:
        try:
            if len(text.encode()) <= max_bytes:
                return text
        except UnicodeEncodeError:
            pass
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    room = max_bytes - len(digest) - len(ELLIPSIS.encode())
    kept = clean(text[:max_bytes]).encode()[:room].decode("utf-8", "ignore")
    return f"{kept}{ELLIPSIS}{digest}"
