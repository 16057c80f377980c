"""Marks what the app answers to a request with ``Prefer``: with ``Vary: Prefer`` (RFC 9110, section 12.5.5).

That includes answers that never reach a backgrounded view: a guard's refusal, an error page, a redirect to the login.
Our clients send ``Prefer`` with every submission; this mark distinguishes the app's answers from those of a proxy.
"""

from __future__ import annotations

from flask import Flask, Response, request


def register(app: Flask) -> None:
    """Have the app's answers carry the mark."""

    def add_header(response: Response) -> Response:
        if "Prefer" in request.headers:
            response.vary.add("Prefer")
        return response

    # First in the list is called last: an answer that the app replaces carries it too.
    app.after_request_funcs.setdefault(None, []).insert(0, add_header)
