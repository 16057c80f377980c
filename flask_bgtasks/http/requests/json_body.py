"""Reads the JSON bodies of the blueprint's calls. What is wrong in one is a problem that says what is expected."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from flask import Request
from werkzeug.wsgi import LimitedStream

from ...wording import unknown_name
from ..problems import Problem

MAX_BYTES = 64 * 1024  # of a body: a device takes up a few hundred, preferences with all names a few thousand
MAX_ADDRESS = 4096  # characters of a device's address; FCM's have about 160

ADDRESS = re.compile(rf"[!-~]{{1,{MAX_ADDRESS}}}")
NAME = re.compile(r"[!-~]{1,255}")
LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")  # RFC 5646, section 2.1, in outline
MAX_LANGUAGE = 35  # section 4.4.1


def bound(request: Request) -> None:
    """Refuse a body that is too large; bound one that does not say its size (chunked) while it is read.

    Before every view of the blueprint: also where a view does not read its body, and where it may be anything.

    :raises Problem: it says that it is too large.
    """
    environ = request.environ
    length = request.content_length if environ.get("CONTENT_LENGTH") else None  # every poll comes here
    if length is not None:
        if length > MAX_BYTES:
            raise _too_large()
    elif "wsgi.input_terminated" in environ and "stream" not in request.__dict__:
        environ["wsgi.input"] = _Bounded(environ["wsgi.input"], MAX_BYTES + 1, is_max=True)


class _Bounded(LimitedStream):
    """Reads one byte more than may be, and then raises the problem; the rest stays where it is."""

    def on_exhausted(self) -> None:
        raise _too_large()


def data(request: Request) -> bytes:
    """A request's body, whatever is in it. :raises Problem: it is too large."""
    found = request.get_data()
    if len(found) > MAX_BYTES:  # the app read it before the blueprint was asked
        raise _too_large()
    return found


def _too_large() -> Problem:
    return Problem("payload-too-large", f"expected a body of at most {MAX_BYTES} bytes", limit=MAX_BYTES)


def parsed(found: bytes) -> Any:
    """A body as JSON; None, as if it were ``null``, where it is none."""
    try:
        return json.loads(found)
    except (ValueError, RecursionError):  # the latter: brackets, a thousand deep
        return None


def json_object(request: Request, *, known: Collection[str] | None = None) -> dict[str, Any]:
    """The JSON object that a request's body is.

    :param known: the fields that there are; None where the caller looks.
    :raises Problem: it is none, it is too large, or has other fields.
    """
    if not request.is_json:
        raise Problem("unsupported-media-type", f"Content-Type {request.content_type!r}: expected application/json")
    body = parsed(data(request))
    if not isinstance(body, dict):
        raise Problem("invalid-body", "expected a JSON object")
    if known is not None:
        refuse_unknown(body, known)
    return body


def refuse_unknown(body: Mapping[str, Any], known: Collection[str]) -> None:
    """:raises Problem: there are other fields."""
    unknown = sorted(set(body) - set(known))
    if unknown:
        names = ", ".join(repr(name[:40]) for name in unknown[:10])
        raise Problem("invalid-body", f"{names}: no such field. {unknown_name(unknown[0], known)}")


def text(body: Mapping[str, Any], name: str, pattern: re.Pattern[str], expected: str) -> str:
    """A field that has to be there. :raises Problem: it is not, or is something else."""
    found = optional_text(body, name, pattern, expected)
    if found is None:
        raise Problem("invalid-body", f"{name} is missing: expected {expected}")
    return found


def optional_text(body: Mapping[str, Any], name: str, pattern: re.Pattern[str], expected: str) -> str | None:
    """A field that may be left out, or null. :raises Problem: it is something else.

    :param pattern: of the whole text.
    :param expected: the same in words. The value is not repeated: it may be a secret.
    """
    found = body.get(name)
    if found is None or (isinstance(found, str) and pattern.fullmatch(found)):
        return found
    raise Problem("invalid-body", f"{name}: expected {expected}")


def is_language(text: str) -> bool:
    """Whether a text looks like a language tag (BCP 47)."""
    return len(text) <= MAX_LANGUAGE and LANGUAGE.fullmatch(text) is not None


def language(body: Mapping[str, Any]) -> str | None:
    """The field ``lang``. :raises Problem: it is no language tag."""
    found = body.get("lang")
    if found is None or (isinstance(found, str) and is_language(found)):
        return found
    raise Problem("invalid-body", "lang: expected a language tag (BCP 47), such as en or pt-BR")


def spoken(request: Request) -> str | None:
    """The language that a request asks for first (``Accept-Language``), None where it does not say."""
    best = request.accept_languages.best
    return best if best is not None and is_language(best) else None
