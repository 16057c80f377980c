"""The HTTP layer: the blueprint with everything that clients ask about tasks, and how requests for work are answered.

Stands on top of the extension; nothing below knows of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..runtime import routes

if TYPE_CHECKING:
    from ..app.state import AppState


def register(state: AppState) -> None:
    """Give an app the blueprint, at ``BGTASKS_URL_PREFIX``. Called by ``init_app``.

    :raises ConfigurationError: the app has a blueprint of that name, or a route at an address of ours. Nothing is
        registered then.
    """
    from . import blueprint, cors
    from .responses import vary
    from .submission import boundary

    app, settings = state.app, state.settings
    blueprint.check(app, settings.url_prefix)
    app.register_blueprint(blueprint.make(settings.url_prefix, routes.domains(app)))
    app.wsgi_app = boundary.Boundary(app)  # type: ignore[method-assign]  # the way to install WSGI middleware
    cors.register(app, blueprint.NAME, settings.cors_origins)
    vary.register(app)
    if settings.runner == "http":
        from .calls import CallsFromGoogle  # needs an extra that only this runner needs

        app.wsgi_app = CallsFromGoogle(app, state)  # type: ignore[method-assign]
