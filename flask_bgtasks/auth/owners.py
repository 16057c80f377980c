"""Finds the owner of a request, and which tasks it may see: the one place for owner checks.

Knows the plugins' hook, Flask-Login where the app has it, and the store; the HTTP layer asks here and nowhere else.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, request
from itsdangerous import BadSignature, SignatureExpired, URLSafeTimedSerializer

from ..core.model import Task
from ..core.text.clean import identity
from ..errors import AccessDenied, TaskExpired, TaskNotFound
from ..plugins import Plugins
from ..settings import Settings
from ..stores.protocols.tasks import Tasks
from . import identities

log = logging.getLogger("flask_bgtasks")

OwnerLoader = Callable[[], "str | None"]

LOGIN_EXTENSIONS = ("flask-jwt-extended", "flask_jwt_extended", "security", "authlib.integrations.flask_client", "oidc")
"""Keys under ``app.extensions`` that tell of a login this library does not read by itself."""


class Owners:
    """Names the owner of the current request: by the app's loader, a plugin, or Flask-Login."""

    def __init__(self, app: Flask, plugins: Plugins, loader: Callable[[], OwnerLoader | None]) -> None:
        self._app = app
        self._plugins = plugins
        self._loader = loader

    @property
    def known(self) -> bool:
        """Whether this app names owners at all. Where it does not, the unguessable id is the capability."""
        return bool(
            self._loader() or self._plugins.implementing("bgtasks_request_owner") or self._login_manager() is not None
        )

    def current(self) -> str | None:
        """The owner of the current request, None for nobody in particular."""
        loader = self._loader()
        if loader is not None:
            return _as_text(self._app.ensure_sync(loader)())
        if self._plugins.implementing("bgtasks_request_owner"):
            owner = self._plugins.hook.bgtasks_request_owner(app=self._app, request=request)
            if owner is not None:
                return _as_text(owner)
        if self._login_manager() is not None:
            from flask_login import current_user

            if current_user and current_user.is_authenticated:
                return _as_text(current_user.get_id())
        return None

    def restore(self, task: Task) -> None:
        """Make Flask-Login's ``current_user`` the task's owner, where Flask-Login itself has named that owner.

        For a task that has no saved identity: it was opened again, or stored by an earlier version. An owner that the
        app's loader or a plugin has named may be a team, whose id is some user's too.
        """
        if self._login_manager() is None or task.owner is None:
            return
        if self._loader() is None and not self._plugins.implementing("bgtasks_request_owner"):
            identities.restore_flask_login(self._app, task.owner)

    def unread_login(self) -> str | None:
        """A login that the app has while nobody names owners: its tasks are open to whoever has their id."""
        if self.known:
            return None
        return next((name for name in LOGIN_EXTENSIONS if name in self._app.extensions), None)

    def warn_of_unread_login(self) -> None:
        """Warn of :meth:`unread_login`."""
        found = self.unread_login()
        if found is not None:
            log.warning(
                "%s has a login (%s), but flask-bgtasks does not know how to name the owner of a request: whoever has "
                "a task's id can read it. Add @bgtasks.owner_loader",
                self._app.name,
                found,
            )

    def _login_manager(self) -> Any:
        return getattr(self._app, "login_manager", None)


class Access:
    """Decides for each request which tasks it may see. Someone else's task is like one that never was."""

    def __init__(self, app: Flask, store: Tasks, owners: Owners, settings: Settings) -> None:
        self._app = app
        self._store = store
        self._owners = owners
        self._settings = settings

    def task(self, request_id: str, *, expired: bool = False) -> Task:
        """The task, if this request may see it.

        :param expired: also one whose time is over.
        :raises TaskNotFound: it never was, is someone else's, or this is no id.
        :raises TaskExpired: its time is over.
        """
        task = self._stored(request_id)
        self.check(request_id, task.owner)  # first: that somebody else's task has expired tells that it was there
        return task if expired else self._current(task)

    def check(self, request_id: str, owner: str | None) -> None:
        """:raises TaskNotFound: this request may not see a task of that owner."""
        if owner is not None and owner != self._owners.current():
            raise TaskNotFound(request_id)

    def any_task(self, request_id: str) -> Task:
        """The task, whoever asks: for who has a token, and for server-side code."""
        return self._current(self._stored(request_id))

    def _stored(self, request_id: str) -> Task:
        if not is_id(request_id):
            raise TaskNotFound(request_id)
        return self._store.get(request_id)

    def _current(self, task: Task) -> Task:
        if task.expire_at is not None and task.expired(self._store.now()):
            raise TaskExpired(task.request_id, task.expire_at)
        return task

    def visible(self, tasks: Iterable[Task]) -> list[Task]:
        """Those of the tasks that this request may see."""
        owner = self._owners.current()
        now = self._store.now()
        return [task for task in tasks if task.owner in (None, owner) and not task.expired(now)]

    def sign(self, request_id: str) -> str | None:
        """A token that lets its bearer read this one task for a while; None without the app's ``SECRET_KEY``."""
        signer = self._signer()
        return None if signer is None else signer.dumps(request_id)

    def token_task(self, request_id: str, token: str) -> Task:
        """The task that a token opens, for reading.

        :raises AccessDenied: the token is wrong, too old, or for another task.
        """
        signer = self._signer()
        if signer is None:
            raise AccessDenied("access tokens need the app's SECRET_KEY")
        try:
            signed = signer.loads(token, max_age=self._settings.access_token_seconds)
        except SignatureExpired:
            raise AccessDenied("the access token is too old; ask for a new one") from None
        except BadSignature:
            raise AccessDenied("the access token is invalid") from None
        if signed != request_id:
            raise AccessDenied("the access token is for another task")
        return self.any_task(request_id)

    def _signer(self) -> URLSafeTimedSerializer | None:
        key = self._app.secret_key
        return URLSafeTimedSerializer(key, salt="flask-bgtasks.read") if key else None


def is_id(text: str) -> bool:
    """Whether this is the form of a ``request_id``: a UUID in lower case with hyphens."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _as_text(owner: Any) -> str | None:
    return None if owner is None else identity(owner)
