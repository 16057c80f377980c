"""Stores the end of an attempt that ran on the request's own thread, when the request leaves the app.

At that point the app's answer is complete and its context torn down: the commits of teardown functions are made, or
have failed. Wraps ``app.wsgi_app``, as Flask's documentation recommends for WSGI middleware.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from flask import Flask, Response

from ...errors import CancelRequested
from ...execution.foreground import Foreground, Superseded

log = logging.getLogger("flask_bgtasks")

SLOT = "bgtasks.foreground"
"""Where a request that runs its task on its own thread leaves it, in the WSGI environment: a list."""

WSGIApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


class RequestEnd(Protocol):
    """A request whose task runs on its thread."""

    @property
    def foreground(self) -> Foreground:
        """The attempt."""

    def answered_instead(self) -> Response:
        """The answer after an attempt that came to none."""


def leave(environ: dict[str, Any], visit: RequestEnd) -> None:
    """Have a request's attempt ended when the request is."""
    if SLOT in environ:
        environ[SLOT].append(visit)


def left(environ: dict[str, Any]) -> bool:
    """Whether this module sees the request's end: not where a test calls Flask's methods one by one."""
    return bool(environ.get(SLOT))


class Boundary:
    """The app's ``wsgi_app``, with an eye on how requests end."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._inside: WSGIApp = app.wsgi_app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        visits: list[RequestEnd] = []
        environ[SLOT] = visits
        try:
            body = self._inside(environ, start_response)
        except Superseded:
            visits[0].foreground.end()
            return self._instead(visits[0], environ, start_response)
        except CancelRequested:
            if not visits:
                raise
            visits[0].foreground.stopped()
            return self._instead(visits[0], environ, start_response)
        except Exception as error:
            for visit in visits:
                visit.foreground.broke(error)
            raise
        except BaseException:  # the server ends this thread, and the process: gunicorn's timeout, Ctrl-C
            for visit in visits:
                visit.foreground.interrupt()
            raise
        for visit in visits:
            visit.foreground.end()
        return body

    def _instead(self, visit: RequestEnd, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer in a context of its own: that of the attempt is torn down, and what it had begun rolled back."""
        context = self._app.request_context(environ)
        context.push()
        try:
            response = self._app.finalize_request(visit.answered_instead())
            return response(environ, start_response)
        finally:
            try:
                context.pop(None)
            except Exception:  # a teardown function that expects what a before_request function does
                log.warning("a teardown function failed after an attempt was ended", exc_info=True)
