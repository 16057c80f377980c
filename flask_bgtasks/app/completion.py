"""Finishes an app's set-up once all its views are registered; Flask does not say when that is.

Wraps the views that the ``endpoints`` setting names, assigns decorated views to the app whose rules call them, and
finds errors in both. Runs when the server is ready, when a worker starts, at the first request, and before a task's
name is reported as unknown; what has not changed since the last run is skipped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from flask import Flask

from ..core.definitions import TaskDefinition, TaskOptions, clash
from ..core.model import TaskKind
from ..errors import ConfigurationError
from ..runtime import routes
from ..runtime.fork import after_fork_in_child
from ..settings import PREFIX
from ..wording import unknown_name
from ..wrapping.layers import Chain
from ..wrapping.marks import definition_of, mark, referred_to_by, wrapped_by
from .registry.app_registry import DECLARED, AppRegistry
from .registry.declarations import Declarations

log = logging.getLogger("flask_bgtasks")

View = Callable[..., Any]


@dataclass(frozen=True)
class SetupProblem:
    """What is wrong with an app's set-up.

    :ivar brief: for clients and probes, without the app's other names.
    :ivar message: for the developer, with the mend.
    """

    brief: str
    message: str


@dataclass(frozen=True)
class Unguarded:
    """A view of which it is not known who guards it.

    :ivar sealed: the callables that could not be opened.
    """

    name: str
    sealed: tuple[str, ...]

    @property
    def message(self) -> str:
        """For the developer, with the mend."""
        return (
            f"view {self.name!r}: {', '.join(self.sealed)} cannot be opened, so a guard in it would judge the request "
            "only when the view is called. Such a request is answered by its view, never with 202. Decorate with "
            "functools.wraps, or give validate= and refuse there whom the guard refuses"
        )


class Completion:
    """Finishes the set-up of one app.

    :param endpoints: the ``endpoints`` setting: options of tasks by endpoint name.
    :param url_prefix: where our routes are.
    :param originals: the app's own views behind the wrapped endpoints; filled here.
    :param wrap: makes the wrapper of a view.
    :param chain: takes a view apart into its decorators.
    :raises ConfigurationError: an option is wrong.
    """

    def __init__(
        self,
        app: Flask,
        endpoints: Mapping[str, Mapping[str, Any]],
        url_prefix: str,
        *,
        declarations: Declarations,
        registry: AppRegistry,
        originals: dict[str, View],
        wrap: Callable[[TaskDefinition, View], View],
        chain: Callable[[TaskDefinition, View], Chain],
    ) -> None:
        self._app = app
        self._url_prefix = url_prefix
        self._declarations = declarations
        self._registry = registry
        self._originals = originals
        self._wrapper = wrap
        self._chain = chain
        self._definitions = {endpoint: _definition(endpoint, options) for endpoint, options in endpoints.items()}
        self.problems: tuple[SetupProblem, ...] = ()
        self.misplaced: tuple[TaskDefinition, ...] = ()
        """Views whose wrapper no rule calls, while one calls the view itself."""
        self.unguarded: tuple[Unguarded, ...] = ()
        """Views with a decorator that could not be opened."""
        self._seen: object = None  # of which state of things the above is true
        self._busy = False
        self._told: set[str] = set()
        self._served = False
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        # Protects everything above, `originals` and the app's views: of two first requests at once, or a first request
        # and the thread that saw the server ready, one does it all and the others wait, so that no view is wrapped
        # twice and none is called before it is wrapped. Re-entered when a name is looked up meanwhile.
        self._lock = threading.RLock()

    # -- when --------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Wrap what is there already; called by ``init_app``. Endpoints without a view may get one later.

        :raises ConfigurationError: a name is taken.
        """
        with self._lock:
            for endpoint in self._definitions:
                if endpoint in self._app.view_functions:
                    self._wrap(endpoint)

    def complete(self) -> None:
        """Do what has to be done since the last time. Raises nothing: what is wrong is in :attr:`problems`."""
        with self._lock:
            if self._busy or self._seen == self._stamp():
                return
            self._busy = True
            try:
                problems = [*self._wrap_all(), *self._bind()]
                problems += [SetupProblem(f"shadowed route {c.ours.rule}", str(c)) for c in routes.in_app(self._app)]
                hidden = routes.hidden_hosts(self._app, self._url_prefix + "/health")
                problems += [SetupProblem("shadowed routes on a host", sentence) for sentence in hidden]
                self.problems = tuple(problems)
                self.unguarded = tuple(self._find_unguarded())
                self._seen = self._stamp()
            finally:
                self._busy = False

    def report(self, *, again: bool = False) -> None:
        """Complete, and log what is wrong, once.

        :param again: look again though nothing seems to have changed: a view may have come while another call looked.
        """
        with self._lock:
            self._seen = None if again else self._seen
            self.complete()
            for problem in self.problems:
                if problem.message not in self._told:
                    log.error("%s", problem.message)
            for definition in self.misplaced:
                if definition.place not in self._told:
                    log.warning("%s", misplacement(definition))
            for unguarded in self.unguarded:
                if unguarded.message not in self._told:
                    log.warning("%s", unguarded.message)
            self._told.update(unguarded.message for unguarded in self.unguarded)
            self._told.update(problem.message for problem in self.problems)
            self._told.update(definition.place for definition in self.misplaced)

    def check(self) -> None:
        """Complete where the developer is looking: a worker's start, ``bgtasks.start``.

        :raises ConfigurationError: something is wrong.
        """
        self.complete()
        self._raise()
        self.report()

    def first_request(self) -> bool:
        """Complete before the first request is answered; whether this was it.

        :raises ConfigurationError: something is wrong, and the app is being tested or debugged. Elsewhere a request for
            another view is answered as ever.
        """
        if self._served:
            return False
        self.report(again=True)
        if self._app.testing or self._app.debug:
            self._raise()
        with self._lock:
            first, self._served = not self._served, True
        return first

    def _raise(self) -> None:
        if self.problems:
            raise ConfigurationError("; ".join(problem.message for problem in self.problems))

    def _stamp(self) -> object:
        views = self._app.view_functions
        rules = sum(1 for _ in self._app.url_map.iter_rules())
        return [(name, id(view)) for name, view in list(views.items())], rules, self._declarations.version

    # -- endpoints by name -------------------------------------------------------------------------------------------

    def _wrap_all(self) -> Iterable[SetupProblem]:
        for endpoint in self._definitions:
            try:
                self._wrap(endpoint)
            except ConfigurationError as error:
                yield SetupProblem(f"endpoint {endpoint!r}", str(error))

    def _wrap(self, endpoint: str) -> None:
        """Put the wrapper before a view.

        :raises ConfigurationError: there is no such view, it has a wrapper, or the task's name is taken.
        """
        if endpoint in self._originals:
            return
        views, setting = self._app.view_functions, f"{PREFIX}ENDPOINTS"
        view = views.get(endpoint)
        if view is None:
            known = (name for name in views if not routes.is_ours(name))
            raise ConfigurationError(
                f"{setting}: no view has the endpoint {endpoint!r}. {unknown_name(endpoint, known)}"
            )
        if any(
            definition is not None and definition.kind is TaskKind.VIEW
            for definition in map(definition_of, wrapped_by(view))
        ):
            raise ConfigurationError(
                f"{setting}: the view of endpoint {endpoint!r} is under @background already; "
                "give its options there, and leave it out of the setting"
            )
        definition = self._definitions[endpoint]
        self._registry.add_endpoint(definition)
        self._originals[endpoint] = view
        views[endpoint] = mark(self._wrapper(definition, view), definition)

    # -- decorated views ---------------------------------------------------------------------------------------------

    def _bind(self) -> Iterable[SetupProblem]:
        """Give the app what its rules call, and what its views refer to."""
        ruled = {rule.endpoint for rule in self._app.url_map.iter_rules()}
        views = [v for name, v in list(self._app.view_functions.items()) if name in ruled and not routes.is_ours(name)]
        layers = [layer for view in views for layer in wrapped_by(view)]
        called = _by_name(layers)
        problems = []
        for name, definitions in called.items():
            try:
                self._call(name, definitions)
            except ConfigurationError as error:
                problems.append(SetupProblem(f"task name {name!r}", str(error)))
        hooks: list[Mapping[Any, list[Any]]] = [
            self._app.before_request_funcs,
            self._app.after_request_funcs,
            self._app.teardown_request_funcs,
        ]
        around = [function for hook in hooks for functions in hook.values() for function in functions]
        held = _by_name(referred_to_by([*layers, *around]))
        for name, definitions in held.items():
            if len(definitions) == 1 and name not in called:
                self._registry.reach(definitions[0])
        reached = {id(definition) for group in (called, held) for some in group.values() for definition in some}
        self.misplaced = tuple(self._find_misplaced(views, reached))
        return problems

    def _call(self, name: str, definitions: list[TaskDefinition]) -> None:
        first, *others = definitions
        shared = self._declarations.shared().get(name)
        known = [shared] if shared is not None else []
        known += [one for one, how in self._registry.claims(name) if how == DECLARED]
        for other in (*others, *(one for one in known if one.place != first.place)):
            raise clash(other, first)
        self._registry.call(first)

    def _find_unguarded(self) -> Iterable[Unguarded]:
        views = [(self._definitions[endpoint], view) for endpoint, view in self._originals.items()]
        called = [one for one in self._registry.values() if one.kind is TaskKind.VIEW and one.function is not None]
        views += [(one, cast(View, one.function)) for one in called]
        for definition, view in views:
            sealed = self._chain(definition, view).unseen(by_name=definition.options.respond == "prefer")
            if sealed and definition.options.validate is None:
                yield Unguarded(definition.name, tuple(sealed))

    def _find_misplaced(self, views: list[View], reached: set[int]) -> Iterable[TaskDefinition]:
        bare = {id(view) for view in views}
        for definition in self._declarations.declared_for(self._registry):
            if definition.kind is not TaskKind.VIEW or definition.function is None or id(definition) in reached:
                continue
            if any(id(layer) in bare for layer in wrapped_by(definition.function)):
                yield definition


def misplacement(definition: TaskDefinition) -> str:
    """What is wrong with a view whose wrapper no rule calls, and the mend."""
    return (
        f"@background above the route of {definition.place} does nothing: the route was given the view before it was "
        "wrapped. Write the route above it, '@app.post(…)' first and '@bgtasks.background' below"
    )


def _definition(endpoint: str, options: Mapping[str, Any]) -> TaskDefinition:
    try:
        made = TaskOptions(**{"name": endpoint, "respond": "prefer", **options})
    except TypeError as error:
        raise ConfigurationError(f"{PREFIX}ENDPOINTS[{endpoint!r}]: {error}") from None
    return TaskDefinition(
        name=made.name or endpoint,
        kind=TaskKind.VIEW,
        function=None,
        options=made,
        expected=made.expected_steps(),
        endpoint=endpoint,
    )


def _by_name(functions: Iterable[object]) -> dict[str, list[TaskDefinition]]:
    """The tasks that functions stand for, by name, each once."""
    found: dict[str, dict[int, TaskDefinition]] = {}
    for function in functions:
        definition = definition_of(function)
        if definition is not None:
            found.setdefault(definition.name, {})[id(definition)] = definition
    return {name: list(definitions.values()) for name, definitions in found.items()}
