"""The blueprint: which address is answered by which view, and how errors under it are answered."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from ..errors import BackgroundTasksError
from . import bodies, browser, collection, devices, events, live_activity, preferences, problems, views
from .problems import Problem

NAME = "bgtasks"

View = Callable[..., Response]

ROUTES: dict[str, dict[str, View]] = {
    "": {"GET": collection.listed},
    "/stats": {"GET": collection.stats},
    "/health": {"GET": collection.health},
    "/openapi.json": {"GET": collection.description},
    "/events": {"GET": events.of_many},
    "/devices": {"GET": devices.listed, "POST": devices.register},
    "/devices/<device_id>": {"DELETE": devices.forget},
    "/preferences": {"GET": preferences.read, "PUT": preferences.save},
    "/<request_id>": {"GET": views.status, "DELETE": views.delete},
    "/<request_id>/progress": {"GET": views.progress},
    "/<request_id>/events": {"GET": events.of_one},
    "/<request_id>/result": {"GET": views.result},
    "/<request_id>/cancel": {"POST": views.cancel},
    "/<request_id>/retry": {"POST": views.retry},
    "/<request_id>/seen": {"POST": views.seen},
    "/<request_id>/mute": {"POST": views.mute, "DELETE": views.unmute},
    "/<request_id>/live-activity": {"POST": live_activity.register, "DELETE": live_activity.forget},
}
"""Paths under the prefix, and what answers each method. HEAD goes with GET, OPTIONS with all."""

FILES: dict[str, dict[str, View]] = {
    "/client.js": {"GET": browser.module},
    "/client.d.ts": {"GET": browser.declaration},
    "/client/<name>": {"GET": browser.part},
    "/bg-task.js": {"GET": browser.component},
    "/bg-task.d.ts": {"GET": browser.component_declaration},
    "/service-worker.js": {"GET": browser.service_worker},
}
"""The browser's part, which is no call of the contract."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def make(url_prefix: str) -> Blueprint:
    """The blueprint, to be registered with an app."""
    blueprint = Blueprint(NAME, __name__, url_prefix=url_prefix)
    for path, methods in (ROUTES | FILES).items():
        for method, view in methods.items():
            blueprint.add_url_rule(path, _name(view), view, methods=[method], provide_automatic_options=False)
        _add_other_methods(blueprint, path, methods)
    blueprint.before_request(_bound_body)
    blueprint.register_error_handler(Problem, lambda problem: problem.response())
    blueprint.register_error_handler(BackgroundTasksError, _library_error)
    blueprint.register_error_handler(HTTPException, problems.of_http_exception)
    return blueprint


def _add_other_methods(blueprint: Blueprint, path: str, methods: Mapping[str, View]) -> None:
    """Answer OPTIONS, and the methods that are not for this path.

    A ``405`` of the routing belongs to no blueprint, so it would be answered with the app's HTML.
    """
    with_head = [*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"]
    allow = ", ".join(method for method in METHODS if method in with_head)

    def other(**_: Any) -> Response:
        if request.method == "OPTIONS":
            return Response(headers={"Allow": allow})
        raise Problem("method-not-allowed", f"{request.method} is not for this address", headers={"Allow": allow})

    others = [method for method in METHODS if method not in with_head or method == "OPTIONS"]
    name = "other_methods" + re.sub(r"\W+", "_", path)
    blueprint.add_url_rule(path, name, other, methods=others, provide_automatic_options=False)


def _bound_body() -> None:
    bodies.bound(request)


def _library_error(error: BackgroundTasksError) -> Response:
    return problems.of_error(error).response()


def _name(view: View) -> str:
    """The endpoint of a view: its name, after that of its module unless it is one of the first two."""
    if view.__module__ in (views.__name__, collection.__name__):
        return view.__name__
    return f"{view.__module__.rpartition('.')[2]}_{view.__name__}"
