"""The views of an owner's notification preferences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, current_app, request

from ...core.preferences import Preferences
from ..context import parts_of
from ..problems import Problem
from ..requests import json_body
from ..responses.representation import dumps


def read() -> Response:
    """``GET /tasks/preferences``: those that were saved, else what counts without any."""
    parts = parts_of(current_app)
    stored = parts.state.store.load_preferences(parts.owner())
    return _answer(Preferences().document() if stored is None else stored)


def save() -> Response:
    """``PUT /tasks/preferences``: in place of those there were; what is left out is as it is without any."""
    parts = parts_of(current_app)
    owner = parts.owner()
    try:
        document = Preferences.from_document(json_body.json_object(request)).document()
    except ValueError as error:
        raise Problem("invalid-body", str(error)) from None
    if not all(map(str.isprintable, document["muted"])):  # a NUL, say, which PostgreSQL does not store
        raise Problem("invalid-body", "muted: one of the names contains control characters")
    parts.state.store.save_preferences(owner, document)
    return _answer(document)


def _answer(document: Mapping[str, Any]) -> Response:
    response = Response(dumps(document), content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
