"""Cross-origin requests (WHATWG Fetch, section 3.3) for the origins that ``BGTASKS_CORS_ORIGINS`` names.

Covers the blueprint, and the URLs of backgrounded views, whose clients send the same headers. An answer that already
has CORS headers, from the app or Flask-CORS, is left unchanged: browsers reject duplicates.
"""

from __future__ import annotations

from collections.abc import Sequence

from flask import Flask, Response, request

from ..app.state import state_of
from ..core.model import TaskKind
from .submission.accept import ACCEPTED_FLAG

ALLOWED_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Prefer"
EXPOSED_HEADERS = (
    "Content-Location, ETag, Idempotent-Replayed, Location, Preference-Applied, Retry-After, Task-Id, Vary"
)
PREFLIGHT_SECONDS = "600"  # Chromium keeps no preflight for longer than two hours, Safari for ten minutes


def register(app: Flask, blueprint: str, origins: Sequence[str]) -> None:
    """Have answers carry the headers. Does nothing where no origin is named.

    :param blueprint: the blueprint's name.
    """
    if not origins:
        return
    named = frozenset(origin.rstrip("/") for origin in origins)

    def add_headers(response: Response) -> Response:
        if _concerns(app, blueprint) and "Access-Control-Allow-Origin" not in response.headers:
            _allow(response, named)
        return response

    # First in the list is called last: whatever the app adds by itself is there by then, whenever it was registered.
    app.after_request_funcs.setdefault(None, []).insert(0, add_headers)


def _concerns(app: Flask, blueprint: str) -> bool:
    if request.blueprint == blueprint or ACCEPTED_FLAG in request.environ:
        return True
    # Also what Flask answers to OPTIONS, and a guard that answers before the wrapper is called: its 401 is to be read.
    return request.endpoint is not None and _backgrounded(app, request.endpoint)


def _backgrounded(app: Flask, endpoint: str) -> bool:
    """Whether a view's requests are accepted as tasks."""
    state = state_of(app)
    if endpoint in state.originals:
        return True
    functions = {definition.function for definition in state.registry.values() if definition.kind is TaskKind.VIEW}
    view: object = app.view_functions.get(endpoint)
    while view is not None:
        if view in functions:
            return True
        view = getattr(view, "__wrapped__", None)
    return False


def _allow(response: Response, named: frozenset[str]) -> None:
    headers = response.headers
    if named != {"*"}:  # whether this origin is allowed or not: else a cache gives one origin's answer to another
        response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin is None:
        return
    if origin in named:
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Allow-Credentials"] = "true"  # the app's login may be a cookie; it names its origins
    elif "*" in named:
        headers["Access-Control-Allow-Origin"] = "*"
    else:
        return
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        headers["Access-Control-Allow-Methods"] = headers.get("Allow", "GET, HEAD, OPTIONS, POST, PUT, DELETE")
        headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
        headers["Access-Control-Max-Age"] = PREFLIGHT_SECONDS
    else:
        headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
