"""Reads the ``Prefer`` header (RFC 7240). Pure. What is malformed or unknown is ignored, as the RFC demands."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110, section 5.6.2
_WORD = rf"(?:{_TOKEN}|\"(?:[^\"\\]|\\.)*\")"
_PREFERENCE = re.compile(
    rf"[\s,]*(?P<name>{_TOKEN})(?:\s*=\s*(?P<value>{_WORD})?)?"
    rf"(?:\s*;\s*(?:{_TOKEN}(?:\s*=\s*{_WORD}?)?)?)*\s*(?=,|$)"
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
    ``0.5`` and ``1e9`` are numbers too.
    """
    if not header:
        return NOTHING
    found: dict[str, str] = {}
    position = 0
    while position < len(header):
        match = _PREFERENCE.match(header, position)
        if match is None:  # malformed: the rest may be fine
            comma = header.find(",", position)
            if comma < 0:
                break
            position = comma + 1
            continue
        found.setdefault(match["name"].lower(), _unquoted(match["value"] or ""))
        position = match.end()
    return Prefer(respond_async="respond-async" in found, wait=_seconds(found.get("wait")))


def _unquoted(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word[1:-1]) if word.startswith('"') else word


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
