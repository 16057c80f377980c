"""Calls of Cloud Tasks and Cloud Scheduler, with ``BGTASKS_RUNNER="http"``: each is answered when its work is done.

``POST /tasks/run/{id}`` runs what stands first in the task's queue, and ``POST /tasks/run/sweep`` looks out once.
Whatever the app's processes do in threads elsewhere is done within these calls: a service without background CPU has
nothing else. A success means "done"; Cloud Tasks repeats a call that is answered with anything else.

No client makes these calls, so they are answered in front of the app: its login, CSRF protection, rate limits and
redirects are for its clients. The token alone judges.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import parse_qs

from flask import Flask, Response
from werkzeug.exceptions import InternalServerError

from ..app.state import AppState, state_of
from ..auth.google_calls import CallRefused, CallVerifier, CertificatesMissing
from ..auth.owners import is_id
from ..core.text.json_values import dumps
from ..errors import BackgroundTasksError, ShuttingDown
from ..runners.publishing import PublishingRunner
from ..runtime.log_lines import Recurring
from . import problems
from .problems import REFUSED_CHALLENGE, TYPES, Problem
from .submission.boundary import WSGIApp

log = logging.getLogger("flask_bgtasks")

RUNNER = "http"

SWEEP = "sweep"

DELIVERY_SECONDS = 10.0
"""How long an answer waits for deliveries that are due: our choice, longer than the sinks' own deadlines (2 to 8 s).
What is not made by then is made with a later call."""


class CallsFromGoogle:
    """The app's ``wsgi_app``, and in front of it what is called by Google alone."""

    def __init__(self, app: Flask, state: AppState) -> None:
        settings = state.settings
        account, url = settings.run_service_account, settings.run_url
        assert account is not None  # or there was no such runner
        assert url is not None
        self._app = app
        self._inside: WSGIApp = app.wsgi_app
        self._prefix = f"{settings.url_prefix}/run/"
        self._verifier = CallVerifier(
            service_account=account, audience=settings.run_audience or url, certs_url=settings.run_certs_url
        )
        self._refused = Recurring(log)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        state = state_of(self._app)  # the test fixture puts another one there
        if not path.startswith(self._prefix) or state.settings.runner != RUNNER:
            return self._inside(environ, start_response)
        answer: WSGIApp = self._answer(state, path.removeprefix(self._prefix), environ)
        return answer(environ, start_response)

    def _answer(self, state: AppState, what: str, environ: dict[str, Any]) -> Response:
        try:
            if environ["REQUEST_METHOD"] != "POST":
                raise Problem("method-not-allowed", "expected POST", headers={"Allow": "POST"})
            self._verify(environ)
            state.begin()
            if what == SWEEP:
                return _sweep(state)
            queue = parse_qs(environ.get("QUERY_STRING", "")).get("queue", ["default"])[0]
            return _run(state, what, queue)
        except Problem as problem:
            return problem.response()
        except Exception as error:
            try:
                if isinstance(error, BackgroundTasksError):
                    return problems.of_error(error).response()
            except BackgroundTasksError:
                pass  # no answer of its own
            log.exception("a call of Cloud Tasks failed")
            return cast(Response, problems.of_http_exception(InternalServerError()))

    def _verify(self, environ: dict[str, Any]) -> None:
        """:raises Problem: the call is nobody's who may make it. It is told no more than that."""
        kind, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        try:
            self._verifier.verify(token.strip() if kind.lower() == "bearer" else "")
        except CallRefused as refused:
            self._refused.note("a call of /run was refused: %s", refused)
            name = "caller-not-allowed" if refused.known else "caller-not-verified"
            headers = {} if refused.known else {"WWW-Authenticate": REFUSED_CHALLENGE}
            raise Problem(name, TYPES[name].meaning, headers=headers) from refused
        except CertificatesMissing as missing:
            raise Problem("not-ready", "tokens cannot be verified now", headers={"Retry-After": "5"}) from missing


def _run(state: AppState, request_id: str, queue: str) -> Response:
    runner = state.runner
    assert isinstance(runner, PublishingRunner)
    if not is_id(request_id):
        raise Problem("task-not-found", TYPES["task-not-found"].meaning)
    done = runner.arrived(request_id, queue)
    state.deliveries.catch_up(DELIVERY_SECONDS)
    if not done and runner.draining:
        raise ShuttingDown()
    if not done:
        raise Problem("call-again", TYPES["call-again"].meaning)
    return _json({"answer": "done"})


def _sweep(state: AppState) -> Response:
    found = state.lifecycle.recovery.round()
    delivered = state.deliveries.catch_up(DELIVERY_SECONDS)
    return _json(
        {"published": found.begun, "abandoned": found.abandoned, "erased": found.erased, "delivered": delivered}
    )


def _json(document: Any) -> Response:
    return Response(dumps(document), content_type="application/json", headers={"Cache-Control": "no-store"})
