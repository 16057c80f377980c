"""Builds the plugin manager: built-in sinks, installed distributions' entry points, the app's own plugins.

The library's own features plug in by the same hooks as other plugins.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy
from werkzeug.utils import import_string

from . import hookspecs
from .errors import ConfigurationError
from .wording import unknown_name

if TYPE_CHECKING:
    from flask import Flask

    from .settings import Settings

log = logging.getLogger("flask_bgtasks")

ENTRY_POINT_GROUP = "flask_bgtasks"

BUILT_IN_SINKS = {
    "memory": "flask_bgtasks.sinks.memory:MemorySink",
    "firestore": "flask_bgtasks.sinks.firestore:FirestoreSink",
    "fcm": "flask_bgtasks.sinks.fcm.sink:FcmSink",
    "live_activity": "flask_bgtasks.sinks.live_activity:LiveActivitySink",
    "webpush": "flask_bgtasks.sinks.webpush:WebPushSink",
    "webhook": "flask_bgtasks.sinks.webhook:WebhookSink",
    "alerts": "flask_bgtasks.sinks.alerts:AlertsSink",
}
"""Made on demand: naming one imports it, and with it what it needs."""


class Plugins:
    """The plugins of one app. ``hook`` calls all of them, :meth:`only` one."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._only: dict[tuple[str, str], pluggy.HookCaller] = {}

    @property
    def hook(self) -> Any:
        """The hooks, by name; each calls every plugin that implements it."""
        return self._manager.hook

    def load_entry_points(self) -> None:
        """Register what installed distributions offer.

        :raises ConfigurationError: one of them cannot be imported.
        """
        try:
            self._manager.load_setuptools_entrypoints(ENTRY_POINT_GROUP)
        except Exception as error:
            raise ConfigurationError(
                f"a plugin of the entry point group {ENTRY_POINT_GROUP!r} cannot be loaded: "
                f"{type(error).__name__}: {error}. Mend or uninstall that distribution"
            ) from error
        for name, plugin in self._manager.list_name_plugin():
            if inspect.isclass(plugin):  # an entry point may name a class: it is made here
                self._manager.unregister(plugin)
                self._register(plugin(), name)
        self._check()

    def register(self, plugin: Any, *, name: str | None = None) -> None:
        """Register a plugin of the app's own.

        :param name: the name that its deliveries are stored under; the same in every process. By default its ``name``
            attribute, or the name of its class or module.
        :raises ConfigurationError: the name is taken, or a hook does not exist.
        """
        self._register(plugin, name or name_of(plugin))
        self._check()

    def add_sinks(self, sinks: Iterable[Any], app: Flask, settings: Settings) -> None:
        """Register what ``BGTASKS_SINKS`` lists: names or instances.

        :raises ConfigurationError: an unknown name, or a sink that lacks something.
        """
        for sink in sinks:
            if not isinstance(sink, str):
                self.register(sink)
            elif self._manager.has_plugin(sink):
                continue  # an installed plugin, named for the reader's sake
            elif sink in BUILT_IN_SINKS:
                made = import_string(BUILT_IN_SINKS[sink])
                self.register(
                    made.from_settings(app, settings) if hasattr(made, "from_settings") else made(), name=sink
                )
            else:
                known = {*BUILT_IN_SINKS, *(name for name, _ in self._manager.list_name_plugin())}
                raise ConfigurationError(f"BGTASKS_SINKS: no sink is called {sink!r}. {unknown_name(sink, known)}")

    def get(self, name: str) -> Any:
        """The plugin of that name, None if there is none."""
        return self._manager.get_plugin(name)

    def implementing(self, hook: str) -> list[str]:
        """The names of the plugins that implement a hook."""
        return [impl.plugin_name for impl in getattr(self._manager.hook, hook).get_hookimpls()]

    def only(self, name: str, hook: str) -> pluggy.HookCaller:
        """A hook that calls this one plugin: each has deliveries of its own."""
        key = (name, hook)
        if key not in self._only:
            others = [plugin for other, plugin in self._manager.list_name_plugin() if other != name]
            self._only[key] = self._manager.subset_hook_caller(hook, others)
        return self._only[key]

    def _register(self, plugin: Any, name: str) -> None:
        self._only.clear()
        try:
            self._manager.register(plugin, name)
        except ValueError:
            raise ConfigurationError(
                f"a plugin called {name!r} is registered already; give this one another name="
            ) from None
        except pluggy.PluginValidationError as error:
            self._manager.unregister(plugin)
            raise ConfigurationError(f"plugin {name!r}: {error}") from error

    def _check(self) -> None:
        try:
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise ConfigurationError(f"{error}. All hooks are listed in flask_bgtasks/hookspecs.py") from error


def name_of(plugin: Any) -> str:
    """What a plugin is called where nobody says: the same in every process, since its deliveries are kept under it."""
    name = getattr(plugin, "name", None)
    if isinstance(name, str) and name:
        return name
    if inspect.ismodule(plugin) or inspect.isclass(plugin):
        return plugin.__name__
    return type(plugin).__name__
