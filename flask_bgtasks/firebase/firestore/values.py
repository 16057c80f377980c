"""Converts JSON values for Firestore, by one rule: unchanged if possible, else as one JSON text. Pure.

Sizes are counted as Firestore counts them (cloud.google.com/firestore/docs/storage-size), its limits are those of
cloud.google.com/firestore/quotas. Nothing is dropped, and nothing is refused by the service.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from ...core.text.clean import valid

MAX_DEPTH = 18
"""Maps and lists within one another: 20 are allowed, of which the document and the field take their share."""

MAX_LEAVES = 10_000
"""Values in one field. Each may cost two index entries, of which a document has 40,000, where it is not exempted."""

MAX_KEY = 1_500  # bytes of UTF-8
INT64 = range(-(2**63), 2**63)


def native(value: Any) -> bool:
    """Whether Firestore takes a JSON value as it is, and gives it back as it was."""
    leaves = _leaves(value, MAX_DEPTH)
    return leaves is not None and leaves <= MAX_LEAVES


def _leaves(value: Any, depth: int) -> int | None:
    """How many values there are in it, None if one of them cannot be kept as it is."""
    if isinstance(value, str):
        return 1 if _is_text(value) else None
    if value is None or isinstance(value, bool):
        return 1
    if isinstance(value, int):
        return 1 if value in INT64 else None
    if isinstance(value, float):
        return 1 if math.isfinite(value) else None
    if depth == 0:
        return None
    if isinstance(value, Mapping):
        if not all(_is_key(key) for key in value):
            return None
        return _sum(value.values(), depth)
    if isinstance(value, list):
        if any(isinstance(item, list) for item in value):
            return None  # "Cannot convert an array value in an array value"
        return _sum(value, depth)
    return None


def _sum(items: Any, depth: int) -> int | None:
    total = 1
    for item in items:
        leaves = _leaves(item, depth - 1)
        if leaves is None:
            return None
        total += leaves
    return total


def _is_key(key: Any) -> bool:
    if not isinstance(key, str) or not key or (key.startswith("__") and key.endswith("__")):
        return False
    return _is_text(key) and len(key.encode("utf-8")) <= MAX_KEY


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def size(value: Any) -> int:
    """The bytes that a native value takes in a document."""
    if isinstance(value, str):
        return len(value.encode("utf-8")) + 1
    if value is None or isinstance(value, bool):
        return 1
    if isinstance(value, (int, float)):
        return 8
    if isinstance(value, Mapping):
        return 32 + sum(size(key) + size(item) for key, item in value.items())
    return sum(size(item) for item in value)


def text(value: str | None, max_bytes: int) -> str | None:
    """The app's own words as Firestore takes them: valid UTF-8, at most so many bytes of it."""
    if value is None:
        return None
    encoded = valid(value).encode()
    if len(encoded) <= max_bytes:
        return encoded.decode("utf-8")
    return encoded[: max_bytes - 3].decode("utf-8", "ignore") + "…"


def as_json(value: Any) -> str:
    """A value as JSON text, ASCII only: so that whatever it holds can be kept."""
    return json.dumps(value, separators=(",", ":"))
