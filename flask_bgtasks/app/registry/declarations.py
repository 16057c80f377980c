"""What a developer declared on the extension object, and which of it belongs to which app.

Several apps may share one extension object, so a name alone does not say which function is meant: an app factory that
is called twice declares each of its views and tasks twice. What stands at the top level of a module belongs to every
app of the object. What stands inside a function belongs to the app whose rule calls it (:mod:`..completion` finds it),
which is a local variable of that function, or in whose context it was submitted. Where nothing tells, the name is
refused: a task is never run by another app's function. Apps are referenced weakly; each owns its
:class:`~.app_registry.AppRegistry`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, cast

from flask import Flask

from ...core.definitions import TaskDefinition, clash
from ...core.model import Task
from ...wrapping.marks import definition_of
from ...wrapping.placement import apps_around, functions
from .app_registry import DECLARED, GUESSED, AppRegistry
from .declared_tasks import DeclaredTasks

REGISTRIES_KEY = "bgtasks.registries"
"""Under ``app.extensions``: the app's registry for each extension object that something was declared on for it. It
stands there before ``init_app``, and it is the app that owns it: a weak dictionary with the app for a key would never
be emptied, since declared functions refer to their app."""


class Declarations:
    """What was declared on one extension object: tasks, the owner loader, plugins, ``before_run`` functions."""

    def __init__(self) -> None:
        self.loader: Callable[[], str | None] | None = None
        self.plugins: list[tuple[Any, str | None]] = []
        self.before_run_functions: list[Callable[[Task], Any]] = []
        self._tasks = DeclaredTasks()

    @property
    def version(self) -> int:
        """Counts changes of the tasks."""
        return self._tasks.version

    # -- declaring ---------------------------------------------------------------------------------------------------

    def add(self, definition: TaskDefinition, frame: FrameType | None = None) -> TaskDefinition:
        """Declare a task.

        :param frame: where it is declared; by default the caller's frame.
        :raises ConfigurationError: another function of the same app has this name.
        """
        frame = frame or sys._getframe(1)
        with self._tasks.lock:
            if definition.in_function:
                self._add_closure(definition, apps_around(definition, frame))
            else:
                self._add_shared(definition)
        return definition

    def _add_shared(self, definition: TaskDefinition) -> None:
        for known in self._named(definition.name):
            if known.place != definition.place:
                raise clash(known, definition)
        self._tasks.share(definition)

    def _add_closure(self, definition: TaskDefinition, apps: list[Flask]) -> None:
        shared = self.shared().get(definition.name)
        if shared is not None:
            raise clash(shared, definition)
        mine = [app for app in apps if self._may_be_of(app)]
        if mine:
            how = DECLARED if len(mine) == 1 else GUESSED
            for app in mine:
                self.registry_of(app).claim(definition, how)
            return
        self._tasks.add_loose(definition)

    def _named(self, name: str) -> Iterator[TaskDefinition]:
        """Whatever has this name, in any app."""
        if name in self.shared():
            yield self.shared()[name]
        for registry in self._registries():
            claimed = registry.claimed(name)
            if claimed is not None:
                yield claimed
        yield from self._tasks.loose(name)

    def _registries(self) -> list[AppRegistry]:
        found = [app.extensions.get(REGISTRIES_KEY, {}).get(self) for app in self._tasks.apps()]
        return [registry for registry in found if registry is not None]

    def _may_be_of(self, app: Flask) -> bool:
        """Whether an app has this extension object, or may yet be given it."""
        return not app.extensions.get("bgtasks") or self in app.extensions.get(REGISTRIES_KEY, ())

    # -- asked by apps -----------------------------------------------------------------------------------------------

    def registry_of(self, app: Flask) -> AppRegistry:
        """The registry of an app; made when it is asked for first."""
        with self._tasks.lock:
            registries = app.extensions.setdefault(REGISTRIES_KEY, {})
            if self not in registries:
                registries[self] = AppRegistry(app, self._tasks)
                self._tasks.add_app(app)
            return cast(AppRegistry, registries[self])

    def remembered(self, app: Flask) -> Callable[[], None]:
        """A function that makes an app's registry what it is now, after a call of ``init_app`` that failed."""
        registry: AppRegistry | None = app.extensions.get(REGISTRIES_KEY, {}).get(self)
        return registry.remembered() if registry is not None else lambda: None

    def claim_around(self, app: Flask, frame: FrameType) -> None:
        """Give an app what local variables of its factory hold, and whose app was not known when it was declared.

        :param frame: where ``init_app`` was called.
        """
        registry = self.registry_of(app)
        with self._tasks.lock:
            for caller in functions(frame):
                for value in list(caller.f_locals.values()):
                    definition = definition_of(value)
                    if definition is not None and self._tasks.is_loose(definition):
                        registry.reach(definition)

    def shared(self) -> Mapping[str, TaskDefinition]:
        """What belongs to every app."""
        return self._tasks.shared()

    def declared_for(self, registry: AppRegistry) -> list[TaskDefinition]:
        """Everything that an app may have views of."""
        with self._tasks.lock:
            return [*registry.own(), *self.shared().values(), *self._tasks.loose()]

    def declared(self) -> dict[str, TaskDefinition]:
        """Everything that was declared, by name: what one app of this object could know."""
        with self._tasks.lock:
            found = {definition.name: definition for definition in self._tasks.loose()}
            for registry in self._registries():
                found.update(registry.visible())
            return {**found, **self.shared()}

    def unclear(self, registry: AppRegistry) -> list[str]:
        """Names that were declared for some app, and of which this one cannot tell whether they are its own."""
        with self._tasks.lock:
            return sorted({loose.name for loose in self._tasks.loose() if loose.name not in registry})
