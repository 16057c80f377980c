"""Reads the ``Prefer`` header (RFC 7240). Pure. What is malformed or unknown is ignored, as the RFC demands."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_LENGTH = 1000  # characters of a header that is read; what clients send has a few dozen

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110, section 5.6.2
_WORD = rf"(?:{_TOKEN}|\"(?:[^\"\\]|\\.)*\")"
_PREFERENCE = re.compile(
    # What follows a run of spaces is never a space: there is one way to read a text, and none is tried again.
    rf"\s*(?P<name>{_TOKEN})\s*(?:=\s*(?:(?P<value>{_WORD})\s*)?)?"
    rf"(?:;\s*(?:{_TOKEN}\s*(?:=\s*(?:{_WORD}\s*)?)?)?)*"
)


@dataclass(frozen=True, slots=True)
class Prefer:
    """What the client prefers, of what this library knows.

    :param respond_async: answer ``202`` rather than wait (section 4.1).
    :param wait: seconds that the client is willing to wait for the answer (section 4.3).
    """

    respond_async: bool = False
    wait: float | None = None

    def applied(self, wait: float) -> str:
        """The ``Preference-Applied`` of an answer for which this many seconds were granted (section 3)."""
        return f"wait={wait:g}"


NOTHING = Prefer()


def parse(header: str | None) -> Prefer:
    """What a ``Prefer`` header says.

    Of a preference that is given twice, the first counts (section 2). ``wait`` is read leniently, as ``?wait=`` is:
    ``0.5`` and ``1e9`` are numbers too. A header of more than :data:`MAX_LENGTH` characters is ignored.
    """
    if not header or len(header) > MAX_LENGTH:
        return NOTHING
    found: dict[str, str] = {}
    for part in _parts(header):
        match = _PREFERENCE.fullmatch(part)
        if match is not None:  # malformed: the rest may be fine
            found.setdefault(match["name"].lower(), _unquoted(match["value"] or ""))
    return Prefer(respond_async="respond-async" in found, wait=_seconds(found.get("wait")))


def _parts(header: str) -> Iterator[str]:
    """What stands between the commas of a list, those in quoted strings left alone (RFC 9110, section 5.6.1)."""
    begin, quoted, escaped = 0, False, False
    for position, character in enumerate(header):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            yield header[begin:position]
            begin = position + 1
    if quoted:  # a quote that is never closed hides no preference behind a later comma
        yield from header[begin:].split(",")
    else:
        yield header[begin:]


def _unquoted(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word[1:-1]) if word.startswith('"') else word


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
