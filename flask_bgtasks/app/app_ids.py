"""The ids of apps, and the warnings when two apps share one store.

Knows settings and stores; keeps weak references to the apps of this process, to recognise two that are alive at once.
"""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Collection
from dataclasses import replace

from flask import Flask

from ..core.text.redaction import redact
from ..errors import ConfigurationError
from ..settings import Settings, checks
from ..stores.base import Store

log = logging.getLogger("flask_bgtasks")

_lock = threading.Lock()  # protects the two below
_apps: weakref.WeakValueDictionary[tuple[str, str], Flask] = weakref.WeakValueDictionary()
"""The newest app of this process by its store and its id."""
_said: set[tuple[str, str]] = set()


def with_app_id(app: Flask, settings: Settings) -> Settings:
    """The settings with the app's id in them: Flask's own name, where none is set.

    :raises ConfigurationError: that name cannot be an id.
    """
    if settings.app_id:
        return settings
    return replace(settings, app_id=checks.app_id("BGTASKS_APP_ID (by default the app's import name)", app.name))


def of_app(store: Store, settings: Settings) -> Store:
    """The store, told whose it is, where the plugin that made it has not.

    :raises ConfigurationError: it is another app's.
    """
    if not store.app_id:
        store.app_id = settings.app_id
    elif store.app_id != settings.app_id:
        raise ConfigurationError(
            f"BGTASKS_STORE: the store that a plugin opened for app {settings.app_id!r} belongs to app "
            f"{store.app_id!r}. bgtasks_open_store has to make a store for each app (settings.app_id)"
        )
    return store


def warn_of_twin(app: Flask, settings: Settings) -> None:
    """Say it, once, if another app of this process has the same store and the same id: each runs the other's tasks."""
    if settings.store.startswith("memory:"):
        return
    # A relative path lies in the instance folder; what a plugin makes of its address is not known, and may too.
    shared = settings.store.startswith(("postgresql", "firestore:", "sqlite:////"))
    key = (settings.store if shared else f"{settings.store} in {app.instance_path}", settings.app_id)
    with _lock:
        if key in _said or _apps.setdefault(key, app) is app:
            return
        gc.collect()  # an app is a knot of references: one that nobody uses any more may not have been noticed yet
        alive = key in _apps
        _apps[key] = app
        if alive:
            _said.add(key)
    if alive:
        log.warning(
            "two apps of this process are called %r and keep their tasks in %s: each runs the other's tasks. Unless "
            "this is one app that was made twice, give each its own BGTASKS_APP_ID",
            settings.app_id,
            redact(settings.store),
        )


def forget(app: Flask) -> None:
    """This app runs nothing any more."""
    with _lock:
        for key in [key for key, one in _apps.items() if one is app]:
            del _apps[key]


def warn_of_others(app_id: str, address: str, others: Collection[str]) -> None:
    """Say that other apps keep their tasks in this app's default file: that is allowed, and rarely meant."""
    log.warning(
        "app %r keeps its tasks in %s, together with %s; each runs its own tasks only. Give each app a file of its own "
        "(BGTASKS_STORE), or name this one by an absolute path if it is meant to be shared. If it is the same app "
        "under another name, give it one name (BGTASKS_APP_ID); `flask bgtasks adopt NAME` takes over what the other "
        "name has",
        app_id,
        address,
        ", ".join(map(repr, others)),
    )
