"""The tasks of one app, by name, and how it is known of each that it is the app's."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from flask import Flask

from ...core.definitions import TaskDefinition, clash
from ...core.model import TaskKind
from .declared_tasks import DeclaredTasks

GUESSED, DECLARED, CALLED = 1, 2, 3
"""How it is known that a task is an app's, where it was not declared for every app. The app is one of several that were
local variables where it was declared, or its views refer to it; it is the only one there, or the one in whose context
the task was submitted; it has a rule that calls it. More is better."""


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

    def __init__(self, app: Flask, declared: DeclaredTasks) -> None:
        self._app = weakref.ref(app)
        self._declared = declared
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
            raise self._declared.why_not(name, self.app, self.visible())
        return found

    def __contains__(self, name: object) -> bool:
        return name in self.visible()

    def __iter__(self) -> Iterator[str]:
        return iter(self.visible())

    def __len__(self) -> int:
        return len(self.visible())

    def _now(self) -> _Visible:
        declared, visible = self._declared, self._visible
        if visible.stamp == declared.stamp:
            return visible
        with declared.lock:
            stamp = declared.stamp
            claimed = {name: claim.definition for name, claim in self._claims.items()}
            tasks = {**self._tracked, **declared.loose_of(self.app), **declared.shared(), **claimed}
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
        with self._declared.lock:
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
        with self._declared.lock:
            known = self._claims.get(definition.name)
            if known is not None and known.definition is not definition and known.how > GUESSED:
                raise clash(known.definition, definition)
            if definition.in_function:
                self._put(definition, DECLARED)

    def track(self, definition: TaskDefinition) -> None:
        """Keep what ``track_request`` says of a name, for the end of its tasks; functions keep their own options."""
        with self._declared.lock:
            known = self._tracked.get(definition.name)
            if known is None or known.options != definition.options:
                self._tracked[definition.name] = definition
                self._declared.changed()

    def add_endpoint(self, definition: TaskDefinition) -> None:
        """Add the task of a view that was wrapped by its endpoint's name.

        :raises ConfigurationError: a function has this name.
        """
        with self._declared.lock:
            known = self.find(definition.name)
            if known is not None and known.place != definition.place and known.kind is not TaskKind.TRACKED:
                raise clash(known, definition)
            self._put(definition, CALLED)

    def call(self, definition: TaskDefinition) -> None:
        """Note that a rule of this app calls a view: whatever else had the name yields."""
        with self._declared.lock:
            known = self._claims.get(definition.name)
            if known is None or known.definition is not definition or known.how < CALLED:
                self._put(definition, CALLED)

    def reach(self, definition: TaskDefinition) -> None:
        """Note that a view of this app, or the function that makes it, refers to a task: a good guess, and no more."""
        with self._declared.lock:
            known = self._claims.get(definition.name)
            if definition.in_function and (known is None or known.how < DECLARED):
                self._put(definition, GUESSED)

    def remembered(self) -> Callable[[], None]:
        """A function that makes this registry what it is now."""
        claims, complete = dict(self._claims), self.complete

        def restore() -> None:
            with self._declared.lock:
                self._claims, self.complete = claims, complete
                self._declared.changed()

        return restore

    def _put(self, definition: TaskDefinition, how: int) -> None:
        self._claims[definition.name] = _Claim(definition, how)
        self._declared.let_go(definition)
