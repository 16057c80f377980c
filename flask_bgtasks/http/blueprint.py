"""The blueprint: which view answers which URL, and how errors are answered."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flask import Blueprint, Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule

from ..errors import BackgroundTasksError, ConfigurationError
from ..runtime import routes
from . import problems
from .problems import Problem
from .requests import json_body
from .views import assets, collection, devices, events, live_activity, preferences, task

NAME = routes.BLUEPRINT

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
    "/<request_id>": {"GET": task.status, "DELETE": task.delete},
    "/<request_id>/progress": {"GET": task.progress},
    "/<request_id>/events": {"GET": events.of_one},
    "/<request_id>/result": {"GET": task.result},
    "/<request_id>/cancel": {"POST": task.cancel},
    "/<request_id>/retry": {"POST": task.retry},
    "/<request_id>/seen": {"POST": task.seen},
    "/<request_id>/mute": {"POST": task.mute, "DELETE": task.unmute},
    "/<request_id>/live-activity": {"POST": live_activity.register, "DELETE": live_activity.forget},
}
"""Paths under the prefix, and what answers each method. HEAD goes with GET, OPTIONS with all."""

FILES: dict[str, dict[str, View]] = {
    "/client.js": {"GET": assets.module},
    "/client.d.ts": {"GET": assets.declaration},
    "/client/<path:name>": {"GET": assets.part},
    "/bg-task.js": {"GET": assets.component},
    "/bg-task.d.ts": {"GET": assets.component_declaration},
    "/service-worker.js": {"GET": assets.service_worker},
}
"""The browser's part, which is no call of the contract."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def make(url_prefix: str, domains: Sequence[Mapping[str, str]] = ({},)) -> Blueprint:
    """The blueprint, to be registered with an app.

    :param domains: the hosts or subdomains that it answers on, as options of ``add_url_rule``.
    """
    blueprint = Blueprint(NAME, __name__, url_prefix=url_prefix)
    for path, methods in (ROUTES | FILES).items():
        others, view_of_others = _other_methods(methods)
        answers = [(_name(view), view, [method]) for method, view in methods.items()]
        for endpoint, view, answered in (*answers, (_name_of_others(path), view_of_others, others)):
            view = _bounded(view)  # once: an endpoint has one view on all domains
            for domain in domains:
                options = {key: _apart(value, path) for key, value in domain.items()}
                blueprint.add_url_rule(
                    path, endpoint, view, methods=answered, provide_automatic_options=False, **options
                )
    if any(_variables(value) for domain in domains for value in domain.values()):
        blueprint.url_value_preprocessor(_forget_domain)
    blueprint.enable_openapi = False  # type: ignore[attr-defined]  # APIFlask asks it of every blueprint that has a hook
    blueprint.register_error_handler(Problem, lambda problem: problem.response())
    blueprint.register_error_handler(BackgroundTasksError, _library_error)
    blueprint.register_error_handler(HTTPException, problems.of_http_exception)
    return blueprint


def check(app: Flask, url_prefix: str) -> None:
    """Check that the blueprint can be registered.

    :raises ConfigurationError: its name, or one of its addresses, is taken.
    """
    if NAME in app.blueprints:
        raise ConfigurationError(f"the app has a blueprint called {NAME!r} already; give that one another name")
    rules = []
    for path, methods in (ROUTES | FILES).items():
        rules += [Rule(url_prefix + path, endpoint=f"{NAME}.{_name(view)}", methods=[m]) for m, view in methods.items()]
        others, _ = _other_methods(methods)
        rules.append(Rule(url_prefix + path, endpoint=f"{NAME}.{_name_of_others(path)}", methods=others))
    routes.check(app, rules)


def _other_methods(methods: Mapping[str, View]) -> tuple[list[str], View]:
    """What answers OPTIONS, and the methods that are not for a path.

    A ``405`` of the routing belongs to no blueprint, so it would be answered with the app's HTML.
    """
    with_head = [*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"]
    allow = ", ".join(method for method in METHODS if method in with_head)

    def other(**_: Any) -> Response:
        if request.method == "OPTIONS":
            return Response(headers={"Allow": allow})
        raise Problem("method-not-allowed", f"{request.method} is not allowed here", headers={"Allow": allow})

    return [method for method in METHODS if method not in with_head or method == "OPTIONS"], other


def _name_of_others(path: str) -> str:
    return "other_methods" + re.sub(r"\W+", "_", path)


_VARIABLE = re.compile(r"<((?:[^<>:]*:)?)(\w+)>")
"""A variable of a rule: its converter with a colon, if it has one, and its name."""


def _variables(path: str) -> set[str]:
    return {name for _, name in _VARIABLE.findall(path)}


def _apart(domain: str, path: str) -> str:
    """A host's pattern, without the variables that the path has too: a rule may have each once."""
    taken = _variables(path)
    return _VARIABLE.sub(lambda m: f"<{m[1]}{'bgtasks_' if m[2] in taken else ''}{m[2]}>", domain)


def _forget_domain(endpoint: str | None, values: dict[str, Any] | None) -> None:
    """Keep what a host's pattern holds from our views. The app's own preprocessors have seen it by now."""
    rule = request.url_rule
    if values and rule is not None:
        for name in set(values) - _variables(rule.rule):
            del values[name]


def _bounded(view: View) -> View:
    """A view whose request's body is bounded before it begins.

    Not by the blueprint's ``before_request``: a blueprint with hooks of its own cost each poll 7 µs of some 80.
    """

    @functools.wraps(view)
    def bounded(**values: Any) -> Response:
        json_body.bound(request)
        return view(**values)

    return bounded


def _library_error(error: BackgroundTasksError) -> Response:
    return problems.of_error(error).response()


def _name(view: View) -> str:
    """The endpoint of a view: its name, after that of its module unless it is one of the first two."""
    if view.__module__ in (task.__name__, collection.__name__):
        return view.__name__
    return f"{view.__module__.rpartition('.')[2]}_{view.__name__}"
