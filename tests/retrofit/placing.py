"""Builds apps with a guard in a place: around a view that is wrapped by name, above `@background`, or below it."""

from flask import Flask

from flask_bgtasks import BackgroundTasks
from tests.retrofit.harness import Mode, Retrofitted


class NotAllowed(Exception):
    """An app's own error, with a handler: 403."""


PLACES = ["by name", "above @background", "below @background"]


def run(build, mode, check, *, endpoints=(), config=None):
    """Build an app, add the extension, and check its answers in one mode."""
    bgtasks = BackgroundTasks()
    app = new_app(**(config or {}))
    build(app, bgtasks)
    retrofitted = Retrofitted(app, mode, endpoints, extension=bgtasks)
    try:
        check(app.test_client())
    finally:
        retrofitted.close()


def modes_of(place):
    """`@background` answers 202 by default: what a client without a preference gets there is the last mode's."""
    return [Mode.WAIT, Mode.ASYNC] if "@" in place else [Mode.WRAPPED, Mode.WAIT, Mode.ASYNC]


def placed(bgtasks, decorate, place, view, name="generate"):
    """The view with its guard in its place."""
    match place:
        case "by name":
            return decorate(view)
        case "above @background":
            return decorate(bgtasks.background(name=name)(view))
        case "below @background":
            return bgtasks.background(name=name)(decorate(view))


def build_with(decorate, place, view, rule="/generate"):
    def build(app, bgtasks):
        app.add_url_rule(rule, "generate", placed(bgtasks, decorate, place, view), methods=["POST"])

    return build


def endpoints_of(place):
    return ["generate"] if place == "by name" else []


def new_app(**config):
    app = Flask(__name__)
    app.config.from_mapping({"TESTING": True, "SECRET_KEY": "for tests", **config})
    app.register_error_handler(NotAllowed, lambda error: ({"error": "not allowed"}, 403))
    return app
