"""Reads out of a request for work where its notification is to go: ``user_token``, and what is said about it.

The body is the app's own. What is in it that is no address counts as none, and refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Request

from ..addresses import Hints
from ..devices import WEBPUSH
from ..state import AppState
from . import bodies, devices


def read(request: Request, state: AppState) -> tuple[str | None, Hints]:
    """The address that a request names in its JSON object or form, None if none, and what it says about it."""
    given = _fields(request)
    token = given.get("user_token")
    if not isinstance(token, str) or not 0 < len(token) <= bodies.LONGEST_ADDRESS or not token.isprintable():
        return None, Hints()
    kind, lang = given.get("user_token_kind"), given.get("lang")
    named = isinstance(kind, str) and kind != WEBPUSH and kind in devices.kinds(state)  # that takes more than a text
    hints = Hints(
        kind=kind if named else None,
        lang=lang if isinstance(lang, str) and bodies.is_language(lang) else None,
        spoken=bodies.spoken(request),
        keep=not _foreign_form(request),
    )
    return token, hints


def _fields(request: Request) -> Mapping[str, Any]:
    if not request.is_json:
        return request.form
    # The view parses the body again in its own request; here only one that speaks of a token.
    body = request.get_json(silent=True) if b'"user_token"' in request.get_data() else None
    return body if isinstance(body, dict) else {}


def _foreign_form(request: Request) -> bool:
    """Whether this is a form on another site, sent by a browser that adds its user's cookies.

    An app that lets it through starts a task, as ever; it is not to have all of that user's notifications sent to an
    address that the other site chose. JSON is not sent across sites without the app's leave (CORS).
    """
    return not request.is_json and request.headers.get("Sec-Fetch-Site") == "cross-site"
