"""Reads from a request for work where its notification goes: ``user_token``, and the fields that describe it.

The body belongs to the app. A value that is not an address is ignored, and never causes a refusal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask import Request

from ...app.state import AppState
from ...core.devices import WEBPUSH
from ...delivery.device_registry import TokenHints
from ..requests import json_body
from ..views import devices


def read(request: Request, state: AppState) -> tuple[str | None, TokenHints]:
    """The address that a request names in its JSON object or form, None if none, and what it says about it."""
    given = _fields(request)
    token = given.get("user_token")
    if not isinstance(token, str) or not 0 < len(token) <= json_body.MAX_ADDRESS or not token.isprintable():
        return None, TokenHints()
    kind, lang = given.get("user_token_kind"), given.get("lang")
    named = isinstance(kind, str) and kind != WEBPUSH and kind in devices.kinds(state)  # that takes more than a text
    hints = TokenHints(
        kind=kind if named else None,
        lang=lang if isinstance(lang, str) and json_body.is_language(lang) else None,
        spoken=json_body.spoken(request),
        keep=not _foreign_form(request, state.settings.cors_origins),
    )
    return token, hints


def _fields(request: Request) -> Mapping[str, Any]:
    if not request.is_json:
        return request.form
    # The view parses the body again in its own request; here only one that speaks of a token.
    if b'"user_token"' not in request.get_data():
        return {}
    try:
        body = request.get_json(silent=True)
    except RecursionError:  # brackets, a thousand deep
        return {}
    return body if isinstance(body, dict) else {}


def _foreign_form(request: Request, allowed: Sequence[str]) -> bool:
    """Whether this is a form of another origin, sent by a browser that adds its user's cookies.

    An app that lets it through starts a task, as ever; it is not to have all of that user's notifications sent to an
    address that the other origin chose. A sibling under the same domain is another origin: cookies do not tell them
    apart. JSON is not sent across origins without the app's leave (CORS). Programs that are no browsers send none of
    these headers.

    :param allowed: origins that the app trusts by name (``BGTASKS_CORS_ORIGINS``).
    """
    if request.is_json:
        return False
    site = request.headers.get("Sec-Fetch-Site")
    if site in ("same-origin", "none"):
        return False
    origin = request.headers.get("Origin") or _origin_of(request.headers.get("Referer"))
    if origin is None:
        return site is not None
    named = {one.rstrip("/").lower() for one in allowed}
    # The host alone: behind a proxy the scheme is often not the one that the browser sees. A host that Werkzeug refuses
    # (my_app, say) is an empty one, and no origin is of that.
    host = _host_of(origin)
    return origin.lower() not in named and (host is None or host != _host_of(f"{request.scheme}://{request.host}"))


def _origin_of(address: str | None) -> str | None:
    if not address:
        return None
    scheme, separator, rest = address.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}" if separator else address


def _host_of(origin: str) -> str | None:
    """The host and port of an origin, None for ``null`` and what is none."""
    _, separator, host = origin.lower().partition("://")
    return host.removesuffix(":443").removesuffix(":80") if separator and host else None
