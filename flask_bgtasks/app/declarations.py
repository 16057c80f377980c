"""What a developer declared on the extension object, and which of it belongs to which app.

Several apps may share one extension object, so a name alone does not say which function is meant: an app factory that
is called twice declares each of its views and tasks twice. What stands at the top level of a module belongs to every
app of the object. What stands inside a function belongs to the app whose rule calls it (:mod:`.completion` finds that
out), which is a local variable of that function, or in whose context it was submitted. Where nothing tells, the name is
refused: a task is never run by another app's function. Apps are referenced weakly; each owns its :class:`AppRegistry`.
"""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, cast

from flask import Flask

from ..core.definitions import TaskDefinition, clash
from ..core.model import Task, TaskKind
from ..errors import AmbiguousTask, UnknownTask
from ..runtime.fork import after_fork_in_child
from ..wrapping.marks import definition_of
from ..wrapping.placement import apps_around, functions, scope

REGISTRIES_KEY = "bgtasks.registries"
"""Under ``app.extensions``: the app's registry for each extension object that something was declared on for it. It
stands there before ``init_app``, and it is the app that owns it: a weak dictionary with the app for a key would never
be emptied, since declared functions refer to their app."""

GUESSED, DECLARED, CALLED = 1, 2, 3
"""How it is known that a task is an app's, where it was not declared for every app. The app is one of several that were
local variables where it was declared, or its views refer to it; it is the only one there, or the one in whose context
the task was submitted; it has a rule that calls it. More is better."""


class _Loose:
    """What was declared in one place inside a function, for an app that is not known.

    The newest is kept alive until an app has it; those before it live as long as something else refers to them.
    """

    def __init__(self, newest: TaskDefinition, count: int = 1) -> None:
        self.count = count
        self._reference = weakref.ref(newest)
        self._kept: TaskDefinition | None = newest

    @property
    def newest(self) -> TaskDefinition | None:
        """The newest, None if its app is gone."""
        return self._reference()

    def let_go(self, definition: TaskDefinition) -> None:
        """An app keeps it alive now."""
        if self._kept is definition:
            self._kept = None


class Declarations:
    """What was declared on one extension object: tasks, the owner loader, plugins, ``before_run`` functions."""

    def __init__(self) -> None:
        self.loader: Callable[[], str | None] | None = None
        self.plugins: list[tuple[Any, str | None]] = []
        self.before_run_functions: list[Callable[[Task], Any]] = []
        self.version = 0
        """Counts changes, so that registries know when what they have put together is old."""
        self._shared: dict[str, TaskDefinition] = {}
        self._loose: dict[str, dict[str, _Loose]] = {}
        self._registries: weakref.WeakSet[AppRegistry] = weakref.WeakSet()
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        # Protects all that is above and what registries hold: modules are imported, and names looked up, in any thread.
        self.lock = threading.RLock()

    # -- declaring ---------------------------------------------------------------------------------------------------

    def add(self, definition: TaskDefinition, frame: FrameType | None = None) -> TaskDefinition:
        """Declare a task.

        :param frame: where it is declared; by default the caller's frame.
        :raises ConfigurationError: another function of the same app has this name.
        """
        frame = frame or sys._getframe(1)
        with self.lock:
            if definition.in_function:
                self._add_closure(definition, apps_around(definition, frame))
            else:
                self._add_shared(definition)
            self.version += 1
        return definition

    def _add_shared(self, definition: TaskDefinition) -> None:
        """A module that is loaded again declares the same places again; the newest counts."""
        for known in self._named(definition.name):
            if known.place != definition.place:
                raise clash(known, definition)
        self._shared[definition.name] = definition

    def _add_closure(self, definition: TaskDefinition, apps: list[Flask]) -> None:
        name = definition.name
        if name in self._shared:
            raise clash(self._shared[name], definition)
        mine = [app for app in apps if self._may_be_of(app)]
        if mine:
            how = DECLARED if len(mine) == 1 else GUESSED
            for app in mine:
                self.registry_of(app).claim(definition, how)
            return
        places = self._loose.setdefault(name, {})
        for place, loose in places.items():
            newest = loose.newest
            if newest is not None and place != definition.place and scope(place) == scope(definition.place):
                raise clash(newest, definition)
        known = places.get(definition.place)
        places[definition.place] = _Loose(definition, known.count + 1 if known is not None else 1)

    def _named(self, name: str) -> Iterator[TaskDefinition]:
        """Whatever has this name, in any app."""
        if name in self._shared:
            yield self._shared[name]
        for registry in list(self._registries):
            claimed = registry.claimed(name)
            if claimed is not None:
                yield claimed
        yield from (loose.newest for loose in self._loose.get(name, {}).values() if loose.newest is not None)

    def _may_be_of(self, app: Flask) -> bool:
        """Whether an app has this extension object, or may yet be given it."""
        return not app.extensions.get("bgtasks") or self in app.extensions.get(REGISTRIES_KEY, ())

    # -- asked by apps -----------------------------------------------------------------------------------------------

    def registry_of(self, app: Flask) -> AppRegistry:
        """The registry of an app; made when it is asked for first."""
        with self.lock:
            registries = app.extensions.setdefault(REGISTRIES_KEY, {})
            if self not in registries:
                registries[self] = AppRegistry(app, self)
                self._registries.add(registries[self])
                self.version += 1
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
        with self.lock:
            for caller in functions(frame):
                for value in list(caller.f_locals.values()):
                    definition = definition_of(value)
                    if definition is not None and self._is_loose(definition):
                        registry.reach(definition)

    def shared(self) -> Mapping[str, TaskDefinition]:
        """What belongs to every app."""
        return self._shared

    def loose_of(self, app: Flask | None) -> dict[str, TaskDefinition]:
        """What an app may take for its own, though nothing says so: there is no other that could be meant."""
        found = {}
        for name, places in self._loose.items():
            candidates = [(loose.newest, loose.count) for loose in places.values() if loose.newest is not None]
            if len(candidates) == 1 and (candidates[0][1] == 1 or self._is_only(app)):
                found[name] = candidates[0][0]
        return found

    def declared_for(self, registry: AppRegistry) -> list[TaskDefinition]:
        """Everything that an app may have views of."""
        with self.lock:
            loose = [one.newest for places in self._loose.values() for one in places.values() if one.newest is not None]
            return [*registry.own(), *self._shared.values(), *loose]

    def declared(self) -> dict[str, TaskDefinition]:
        """Everything that was declared, by name: what one app of this object could know."""
        with self.lock:
            found: dict[str, TaskDefinition] = {}
            for places in self._loose.values():
                found.update({one.newest.name: one.newest for one in places.values() if one.newest is not None})
            for registry in list(self._registries):
                found.update(registry.visible())
            return {**found, **self._shared}

    def unclear(self, registry: AppRegistry) -> list[str]:
        """Names that were declared for some app, and of which this one cannot tell whether they are its own."""
        return sorted(
            name
            for name, places in self._loose.items()
            if name not in registry and any(loose.newest is not None for loose in places.values())
        )

    def settle(self, definition: TaskDefinition) -> None:
        """Note that an app has a task, and keeps it alive."""
        loose = self._loose.get(definition.name, {}).get(definition.place)
        if loose is not None:
            loose.let_go(definition)
        self.version += 1

    def why_not(self, name: str, app: Flask | None, known: Mapping[str, TaskDefinition]) -> LookupError:
        """The error about a name that an app does not know."""
        places = {place: loose for place, loose in self._loose.get(name, {}).items() if loose.newest is not None}
        if not places:
            return UnknownTask(name, known)
        several = [f"{place} ({loose.count} times)" if loose.count > 1 else place for place, loose in places.items()]
        label = app.name if app is not None else "an app"
        return AmbiguousTask(
            f"task {name!r} was declared by {' and by '.join(several)}, for several apps in this process, and nothing "
            f"says which of these functions belongs to app {label!r}. Declare it where the app is a local variable, "
            "below `app = Flask(...)` in the factory; or at the top level of a module, once for all apps; or give each "
            "app's function its own name="
        )

    def _is_loose(self, definition: TaskDefinition) -> bool:
        loose = self._loose.get(definition.name, {}).get(definition.place)
        return loose is not None and loose.newest is definition

    def _is_only(self, app: Flask | None) -> bool:
        """Whether every other app of this object is gone."""
        return all(registry.app is app for registry in list(self._registries) if registry.app is not None)


@dataclass(frozen=True)
class _Claim:
    definition: TaskDefinition
    how: int


@dataclass(frozen=True)
class _Visible:
    """What a registry has put together, and of which state of things."""

    stamp: tuple[int, int] = (-1, 0)
    tasks: Mapping[str, TaskDefinition] = field(default_factory=dict)
    most_running: Mapping[str, int] = field(default_factory=dict)


class AppRegistry(Mapping[str, TaskDefinition]):
    """The tasks of one app, by name: what was declared for every app, and what belongs to this one."""

    def __init__(self, app: Flask, declarations: Declarations) -> None:
        self._app = weakref.ref(app)
        self._declarations = declarations
        self._claims: dict[str, _Claim] = {}
        self._tracked: dict[str, TaskDefinition] = {}
        self._visible = _Visible()
        self.complete: Callable[[], object] = lambda: None
        """Called before a name is said to be unknown: a view may have been registered meanwhile."""

    __hash__ = object.__hash__  # by identity: a mapping's own equality would compare tasks
    __eq__ = object.__eq__

    @property
    def app(self) -> Flask | None:
        """The app, None once it is gone."""
        return self._app()

    # -- looking up --------------------------------------------------------------------------------------------------

    def visible(self) -> Mapping[str, TaskDefinition]:
        """The tasks that this app knows now."""
        return self._now().tasks

    @property
    def most_running(self) -> Mapping[str, int]:
        """How many tasks of a name may run at once, where there is a limit."""
        return self._now().most_running

    def find(self, name: str) -> TaskDefinition | None:
        """The task of that name, None where this process does not know it."""
        return self.visible().get(name)

    def __getitem__(self, name: str) -> TaskDefinition:
        """:raises UnknownTask: nothing has this name here. :raises AmbiguousTask: it cannot be told which is meant."""
        found = self.find(name)
        if found is None:
            self.complete()
            found = self.find(name)
        if found is None:
            gc.collect()  # apps are in reference cycles: one that is gone may still seem to be there
            found = self.find(name)
        if found is None:
            raise self._declarations.why_not(name, self.app, self.visible())
        return found

    def __contains__(self, name: object) -> bool:
        return name in self.visible()

    def __iter__(self) -> Iterator[str]:
        return iter(self.visible())

    def __len__(self) -> int:
        return len(self.visible())

    def _now(self) -> _Visible:
        declarations, visible = self._declarations, self._visible
        stamp = (declarations.version, len(declarations._registries))  # apps that are gone count too
        if visible.stamp == stamp:
            return visible
        with declarations.lock:
            stamp = (declarations.version, len(declarations._registries))
            claimed = {name: claim.definition for name, claim in self._claims.items()}
            tasks = {**self._tracked, **declarations.loose_of(self.app), **declarations.shared(), **claimed}
            most = {
                name: task.options.max_concurrency
                for name, task in tasks.items()
                if task.options.max_concurrency is not None
            }
            self._visible = _Visible(stamp, tasks, most)
            return self._visible

    # -- what is this app's ------------------------------------------------------------------------------------------

    def claimed(self, name: str) -> TaskDefinition | None:
        """The task of that name that was found to be this app's own."""
        claim = self._claims.get(name)
        return None if claim is None else claim.definition

    def claims(self, name: str) -> list[tuple[TaskDefinition, int]]:
        """The task of that name that was found to be this app's own, and how that is known; at most one."""
        claim = self._claims.get(name)
        return [] if claim is None else [(claim.definition, claim.how)]

    def own(self) -> list[TaskDefinition]:
        """Everything that was found to be this app's own."""
        return [claim.definition for claim in list(self._claims.values())]

    def claim(self, definition: TaskDefinition, how: int) -> None:
        """Make a task this app's own, unless another one of its name is known better to be.

        The same place declared again, by a factory or a test that runs twice for one app, takes the name over.

        :raises ConfigurationError: another function has the name, and is known as well.
        """
        with self._declarations.lock:
            known = self._claims.get(definition.name)
            if known is not None and known.definition.place != definition.place:
                if known.how == how or min(known.how, how) >= DECLARED:
                    raise clash(known.definition, definition)
                if known.how > how:
                    return
            self._put(definition, how)

    def use(self, definition: TaskDefinition) -> None:
        """Note that a task is submitted in this app's context.

        :raises ConfigurationError: this app has another function of that name.
        """
        if definition.kind is TaskKind.TRACKED or self.claimed(definition.name) is definition:
            return
        with self._declarations.lock:
            known = self._claims.get(definition.name)
            if known is not None and known.definition is not definition and known.how > GUESSED:
                raise clash(known.definition, definition)
            if definition.in_function:
                self._put(definition, DECLARED)

    def track(self, definition: TaskDefinition) -> None:
        """Keep what ``track_request`` says of a name, for the end of its tasks; functions keep their own options."""
        with self._declarations.lock:
            known = self._tracked.get(definition.name)
            if known is None or known.options != definition.options:
                self._tracked[definition.name] = definition
                self._declarations.version += 1

    def add_endpoint(self, definition: TaskDefinition) -> None:
        """Add the task of a view that was wrapped by its endpoint's name.

        :raises ConfigurationError: a function has this name.
        """
        with self._declarations.lock:
            known = self.find(definition.name)
            if known is not None and known.place != definition.place and known.kind is not TaskKind.TRACKED:
                raise clash(known, definition)
            self._put(definition, CALLED)

    def call(self, definition: TaskDefinition) -> None:
        """Note that a rule of this app calls a view: whatever else had the name yields."""
        with self._declarations.lock:
            known = self._claims.get(definition.name)
            if known is None or known.definition is not definition or known.how < CALLED:
                self._put(definition, CALLED)

    def reach(self, definition: TaskDefinition) -> None:
        """Note that a view of this app, or the function that makes it, refers to a task: a good guess, and no more."""
        with self._declarations.lock:
            known = self._claims.get(definition.name)
            if definition.in_function and (known is None or known.how < DECLARED):
                self._put(definition, GUESSED)

    def remembered(self) -> Callable[[], None]:
        """A function that makes this registry what it is now."""
        claims, complete = dict(self._claims), self.complete

        def restore() -> None:
            with self._declarations.lock:
                self._claims, self.complete = claims, complete
                self._declarations.version += 1

        return restore

    def _put(self, definition: TaskDefinition, how: int) -> None:
        self._claims[definition.name] = _Claim(definition, how)
        self._declarations.settle(definition)
