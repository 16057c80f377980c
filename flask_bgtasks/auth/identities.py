"""Saves the user of a request as JSON, and restores it in the run: one adapter for each login extension.

A guard (``@login_required``, ``@jwt_required()``) runs in the request and leaves the user in ``flask.g``. A run has its
own ``g``, so code in the view that asks the extension would find no user. An adapter saves what identifies the user,
never the token, and restores it where the extension looks. It recognises its extension by what the app contains, and
imports it only then. The store erases the saved data when the task ends.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Flask, g

log = logging.getLogger("flask_bgtasks")

MAX_BYTES = 16 * 1024
"""Of all that is saved of one request, as JSON. A token of 8 KiB, the most that servers take as a header, fits."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """What is saved and restored of one extension.

    :param is_used: whether this app has it.
    :param save: called in the request after its guards; None where nobody was let in by this extension.
    :param restore: called in the run's request context with what was saved, read back from JSON.
    """

    name: str
    is_used: Callable[[Flask], bool]
    save: Callable[[Flask], Any]
    restore: Callable[[Flask, Any], None]


def saved(app: Flask) -> dict[str, Any]:
    """What the login extensions know of the current request: JSON by adapter; empty where they know nothing."""
    found: dict[str, Any] = {}
    left = MAX_BYTES
    for adapter in ADAPTERS:
        if not adapter.is_used(app):
            continue
        value = adapter.save(app)
        if value is None:
            continue
        size = _json_size(value)
        if size is None:
            log.debug("the identity of %s is not JSON, and is not restored in the run", adapter.name)
        elif size > left:
            log.warning(
                "the identity of %s is too large (%d bytes), and is not restored in the run", adapter.name, size
            )
        else:
            found[adapter.name] = value
            left -= size
    return found


def restore(app: Flask, saved: dict[str, Any]) -> None:
    """Put it where the extensions look, in the run's own request context. What the extensions raise goes on."""
    for adapter in ADAPTERS:
        if adapter.name in saved and adapter.is_used(app):
            adapter.restore(app, saved[adapter.name])


def active(app: Flask) -> list[str]:
    """The names of the adapters that this app's extensions have, for ``flask bgtasks doctor``."""
    return [adapter.name for adapter in ADAPTERS if adapter.is_used(app)]


def _json_size(value: Any) -> int | None:
    """Its bytes as JSON, None where it would not come back as it is."""
    try:
        text = json.dumps(value, allow_nan=False)
        same = json.loads(text) == value and not isinstance(value, tuple)
    except (TypeError, ValueError, RecursionError):
        return None
    return len(text) if same else None


# -- Flask-Login -------------------------------------------------------------------------------------------------------


def _save_flask_login(app: Flask) -> Any:
    if app.login_manager._user_callback is None:  # type: ignore[attr-defined]  # nothing could load the user again
        return None
    from flask_login import current_user

    return current_user.get_id() if current_user and current_user.is_authenticated else None


def restore_flask_login(app: Flask, user_id: Any) -> None:
    """Make ``current_user`` the user with this id, by the app's own ``user_loader``.

    Without one (there is a ``request_loader`` only) the id cannot be turned into a user, and Flask-Login is left to
    find one by itself: in the headers that ``BGTASKS_KEEP_HEADERS`` keeps.
    """
    manager: Any = app.login_manager  # type: ignore[attr-defined]  # Flask-Login sets it
    load = manager._user_callback  # what the app gave to @login_manager.user_loader: there is no public name
    if load is None:
        return
    user = load(user_id)
    # Where Flask-Login keeps the user of a request (flask_login.utils._get_user): no session is needed, or stored.
    g._login_user = user if user is not None else manager.anonymous_user()


def has_flask_login(app: Flask) -> bool:
    """Whether the app has a ``LoginManager``."""
    return getattr(app, "login_manager", None) is not None and "flask_login" in sys.modules


# -- Flask-JWT-Extended ------------------------------------------------------------------------------------------------


def _save_jwt(app: Flask) -> Any:
    """The claims and the header of the token, which name its user, and not the token, which would let anyone in."""
    if "_jwt_extended_jwt" not in g:
        return None
    from flask_jwt_extended import get_jwt, get_jwt_header
    from flask_jwt_extended.utils import get_jwt_request_location

    return {"claims": get_jwt(), "header": get_jwt_header(), "location": get_jwt_request_location()}


def _restore_jwt(app: Flask, saved: Any) -> None:
    # As verify_jwt_in_request leaves them (flask_jwt_extended.view_decorators); there is no public call that sets them.
    claims, header = saved["claims"], saved["header"]
    if claims:
        g._jwt_extended_jwt_user = _jwt_user(header, claims)
    else:  # @jwt_required(optional=True), and there was no token
        g._jwt_extended_jwt_user = {"loaded_user": None}
    g._jwt_extended_jwt_header = header
    g._jwt_extended_jwt = claims
    g._jwt_extended_jwt_location = saved["location"]


def _jwt_user(header: Any, claims: Any) -> Any:
    """The user by the app's ``user_lookup_loader``, as it is loaded in a request."""
    from flask_jwt_extended.exceptions import UserLookupError
    from flask_jwt_extended.internal_utils import has_user_lookup, user_lookup

    if not has_user_lookup():
        return None
    user = user_lookup(header, claims)
    if user is None:
        raise UserLookupError("user_lookup returned None for the user of this task's request", header, claims)
    return {"loaded_user": user}


# -- Flask-HTTPAuth ----------------------------------------------------------------------------------------------------


def _save_httpauth(app: Flask) -> Any:
    return g.get("flask_httpauth_user")  # what auth.current_user() gives; an object of the app's own is not JSON


def _restore_httpauth(app: Flask, user: Any) -> None:
    g.flask_httpauth_user = user


# -- Flask-Principal ---------------------------------------------------------------------------------------------------


def _save_principal(app: Flask) -> Any:
    from flask_principal import Identity

    identity = g.get("identity")
    if not isinstance(identity, Identity):
        return None
    return {"id": identity.id, "auth_type": identity.auth_type}


def _restore_principal(app: Flask, saved: Any) -> None:
    from flask_principal import AnonymousIdentity, Identity, identity_loaded

    if saved["id"] is None:
        g.identity = AnonymousIdentity()
        return
    g.identity = Identity(saved["id"], saved["auth_type"])
    identity_loaded.send(app, identity=g.identity)  # the app's receivers give it its roles and needs


# -- Flask-WTF ---------------------------------------------------------------------------------------------------------


def _save_csrf(app: Flask) -> Any:
    return True if g.get("csrf_valid") is True else None


def _restore_csrf(app: Flask, saved: Any) -> None:
    """A form that the view validates does not ask again for what was checked in the request."""
    g.csrf_valid = True


ADAPTERS = (
    # Flask-Login first: receivers of Flask-Principal's identity_loaded ask for current_user.
    Adapter("flask_login", has_flask_login, _save_flask_login, restore_flask_login),
    Adapter("flask_jwt_extended", lambda app: "flask-jwt-extended" in app.extensions, _save_jwt, _restore_jwt),
    # These two leave nothing on the app that would tell of them.
    Adapter("flask_httpauth", lambda app: "flask_httpauth" in sys.modules, _save_httpauth, _restore_httpauth),
    Adapter("flask_principal", lambda app: "flask_principal" in sys.modules, _save_principal, _restore_principal),
    Adapter("flask_wtf", lambda app: "flask_wtf" in sys.modules, _save_csrf, _restore_csrf),
)
"""In the order in which they are restored."""
