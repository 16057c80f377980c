"""The tasks that were declared on one extension object where no app was known: shared ones, and loose ones.

What stands at the top level of a module is shared by every app. What stands inside a function belongs to one app; where
none could be seen around it, it is loose, and is kept by its name and its place until an app has it. Refers to apps
weakly.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping

from flask import Flask

from ...core.definitions import TaskDefinition, clash
from ...errors import AmbiguousTask, UnknownTask
from ...runtime.fork import after_fork_in_child
from ...wrapping.placement import scope


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


class DeclaredTasks:
    """The shared and the loose tasks of one extension object, its apps, and the lock that protects them.

    Callers of what changes something, or reads the loose tasks, hold :attr:`lock`.
    """

    def __init__(self) -> None:
        self.version = 0
        """Counts changes."""
        self._shared: dict[str, TaskDefinition] = {}
        self._loose: dict[str, dict[str, _Loose]] = {}
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        # Protects all that is above and what registries hold: modules are imported, and names looked up, in any thread.
        self.lock = threading.RLock()

    @property
    def stamp(self) -> tuple[int, int]:
        """Differs when something has changed: apps that are gone count too."""
        return self.version, len(self._apps)

    def changed(self) -> None:
        """Note that something has changed, so that registries know when what they have put together is old."""
        self.version += 1

    def apps(self) -> list[Flask]:
        """The apps of the extension object that are still there."""
        return list(self._apps)

    def add_app(self, app: Flask) -> None:
        """Note that an app has the extension object."""
        self._apps.add(app)
        self.changed()

    # -- what every app has ------------------------------------------------------------------------------------------

    def shared(self) -> Mapping[str, TaskDefinition]:
        """What belongs to every app."""
        return self._shared

    def share(self, definition: TaskDefinition) -> None:
        """Add what belongs to every app; a module that is loaded again declares it again, and the newest counts."""
        self._shared[definition.name] = definition
        self.changed()

    # -- what one app has --------------------------------------------------------------------------------------------

    def add_loose(self, definition: TaskDefinition) -> None:
        """Add what was declared inside a function, for an app that is not known.

        :raises ConfigurationError: another function in the same scope has its name.
        """
        places = self._loose.setdefault(definition.name, {})
        for place, loose in places.items():
            newest = loose.newest
            if newest is not None and place != definition.place and scope(place) == scope(definition.place):
                raise clash(newest, definition)
        known = places.get(definition.place)
        places[definition.place] = _Loose(definition, known.count + 1 if known is not None else 1)
        self.changed()

    def loose(self, name: str | None = None) -> Iterator[TaskDefinition]:
        """The newest loose task of each place, of one name or of all."""
        several = self._loose.values() if name is None else (self._loose.get(name, {}),)
        for places in list(several):
            yield from (newest for loose in list(places.values()) if (newest := loose.newest) is not None)

    def is_loose(self, definition: TaskDefinition) -> bool:
        """Whether this is the newest loose task of its place."""
        loose = self._loose.get(definition.name, {}).get(definition.place)
        return loose is not None and loose.newest is definition

    def loose_of(self, app: Flask | None) -> dict[str, TaskDefinition]:
        """What an app may take for its own, though nothing says so: there is no other that could be meant."""
        found, only = {}, all(one is app for one in self.apps())
        for name, places in self._loose.items():
            candidates = [(loose.newest, loose.count) for loose in places.values() if loose.newest is not None]
            if len(candidates) == 1 and (candidates[0][1] == 1 or only):
                found[name] = candidates[0][0]
        return found

    def let_go(self, definition: TaskDefinition) -> None:
        """Note that an app has a task, and keeps it alive."""
        loose = self._loose.get(definition.name, {}).get(definition.place)
        if loose is not None:
            loose.let_go(definition)
        self.changed()

    def why_not(self, name: str, app: Flask | None, known: Mapping[str, TaskDefinition]) -> LookupError:
        """The error about a name that an app does not know."""
        with self.lock:
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
