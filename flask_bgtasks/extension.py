"""The extension object: ``init_app``, ``@background``, ``@task``, ``track_request`` and the manual calls.

Declarations (tasks, owner loader, plugins) live on the object, as on a blueprint
(:class:`~flask_bgtasks.app.registry.declarations.Declarations`); what belongs to an app lives in its
:class:`~flask_bgtasks.app.state.AppState`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from flask import Flask, current_app, has_app_context, has_request_context, request

from .app import tracking
from .app.factory import build
from .app.handles import AsyncTaskFunction, TaskDecorator, TaskFunction, TaskHandle
from .app.registry.declarations import Declarations
from .app.state import KEY, AppState, current_state, state_of
from .app.tracking import TrackedTask
from .auth.owners import OwnerLoader
from .core.definitions import (
    FunctionOptions,
    TaskDefinition,
    TaskOptions,
    TrackedOptions,
    ViewOptions,
    require_known,
)
from .core.model import Status, Task, TaskKind
from .core.notifications import Notification
from .core.text.clean import identity
from .errors import ConfigurationError
from .execution import invocation
from .pipeline.reporting import current_task
from .runtime.rollback import undone_on_failure
from .wrapping.marks import mark

if TYPE_CHECKING:
    from typing_extensions import Unpack  # in typing from Python 3.11 on

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

UNSAFE_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
"""A view that takes any of these is run in the background for these only: its GET shows the form (RFC 9110, 9.2.1)."""


class BackgroundTasks:
    """Turns the views and functions of Flask apps into stored tasks.

    :param app: if given, :meth:`init_app` is called with it.
    """

    def __init__(self, app: Flask | None = None, **settings: Any) -> None:
        self.declarations = Declarations()
        if app is not None:
            self.init_app(app, **settings)

    @property
    def registry(self) -> Mapping[str, TaskDefinition]:
        """The declared tasks, by name. Each app has a registry of its own, in its state."""
        return self.declarations.declared()

    @property
    def loader(self) -> OwnerLoader | None:
        """The function given to :meth:`owner_loader`."""
        return self.declarations.loader

    @property
    def plugins(self) -> list[tuple[Any, str | None]]:
        """The plugins given to :meth:`register` before ``init_app``."""
        return self.declarations.plugins

    @property
    def before_run_functions(self) -> list[Callable[[Task], Any]]:
        """The functions given to :meth:`before_run`."""
        return self.declarations.before_run_functions

    # -- set-up ------------------------------------------------------------------------------------------------------

    def init_app(
        self, app: Flask, *, endpoints: Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None, **settings: Any
    ) -> None:
        """Set up an app. Opens no connection and starts no thread yet. A call that failed can be repeated.

        :param endpoints: existing views to wrap, as ``url_for`` names them; replaces ``BGTASKS_ENDPOINTS``. Or a
            mapping from these names to the options of the tasks, see :class:`~flask_bgtasks.TaskOptions`.
        :param settings: settings by lower-case name without the prefix; they win over ``app.config``.
        :raises ConfigurationError: a setting is wrong, or the app has this extension already.
        """
        from . import http  # the parts that stand on top of this one
        from .cli import commands  # the parts that stand on top of this one

        if KEY in app.extensions:
            raise ConfigurationError(
                f"app {app.name!r} has flask-bgtasks already: call init_app once, "
                "and keep one BackgroundTasks object for all modules"
            )
        if app._got_first_request:
            raise ConfigurationError(
                f"app {app.name!r} has answered requests already: call init_app where the app is made"
            )
        if endpoints is not None:
            settings["endpoints"] = endpoints
        with undone_on_failure(app, self.declarations.remembered(app)):
            state = build(app, self.declarations, settings, extension=self, wrap=self._wrapper)
            self.declarations.claim_around(app, sys._getframe(1))
            state.completion.prepare()
            commands.register(state)
            http.register(state)  # last of what may be refused: rules cannot be taken back
            app.before_request(_before_request)
            app.extensions[KEY] = state
        state.lifecycle.loaded()

    def start(self, app: Flask) -> None:
        """Start looking for work in this process: tasks that wait, or that a dead process left behind.

        Gunicorn, ``flask run`` and ``waitress-serve`` are recognised, and any other process starts with its first
        request. If that is too late, call this in each process, after a fork and once all views are registered.

        :raises ConfigurationError: an endpoint has no view, or something else is wrong with the app's set-up.
        """
        state = state_of(app)
        state.completion.check()
        state.lifecycle.start()

    def register(self, plugin: Any, *, name: str | None = None) -> None:
        """Register a plugin: any object with ``@hookimpl`` methods. Before ``init_app``, or in an app context after it.

        :param name: the name that its deliveries are stored under; the same in every process.
        """
        if has_app_context() and KEY in current_app.extensions:
            state = current_state()
            state.plugins.register(plugin, name=name)
            state.deliveries.refresh()
        else:
            self.declarations.plugins.append((plugin, name))

    def owner_loader(self, function: F) -> F:
        """Register the function that names a request's owner: called in the request, returns None for nobody."""
        self.declarations.loader = cast(OwnerLoader, function)
        return function

    def before_run(self, function: F) -> F:
        """Register ``function(task)``, called in a run's request context before the view, to restore what is in ``g``.

        ``before_request`` functions do not run again there: they ran in the original request, and the cookies and
        credentials that they may need are not stored.
        """
        self.declarations.before_run_functions.append(function)
        return function

    # -- ways in -----------------------------------------------------------------------------------------------------

    @overload
    def background(self, function: F) -> F: ...

    @overload
    def background(self, **options: Unpack[ViewOptions]) -> Callable[[F], F]: ...

    def background(self, function: F | None = None, **options: Unpack[ViewOptions]) -> F | Callable[[F], F]:
        """Run a view in the background: the client gets ``202`` and follows the task. Goes below the route decorator.

        :param options: see :class:`~flask_bgtasks.TaskOptions`.
        :raises TypeError: an option that does not exist.
        :raises ConfigurationError: an option's value is wrong, or the name is taken.
        """
        made = TaskOptions(**options)

        def decorate(view: F) -> F:
            definition = self._define(view, TaskKind.VIEW, made)
            return cast(F, mark(self._wrapper(definition, view), definition))

        return decorate if function is None else decorate(function)

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, T]]) -> AsyncTaskFunction[P, T]: ...

    @overload
    def task(self, function: Callable[P, R]) -> TaskFunction[P, R, R]: ...

    @overload
    def task(self, **options: Unpack[FunctionOptions]) -> TaskDecorator: ...

    def task(self, function: Callable[..., Any] | None = None, **options: Unpack[FunctionOptions]) -> Any:
        """Make a function that can be submitted as a task. Calling it still just calls it.

        :param options: see :class:`~flask_bgtasks.TaskOptions`; ``respond``, ``validate`` and ``guards`` are for views
            only.
        :raises TypeError: an option that does not exist.
        """
        why = "a function answers no request; use @background on a view"
        require_known(options, FunctionOptions, who="@task", why=why)
        made = TaskOptions(**options)

        def decorate(called: Callable[..., Any]) -> TaskFunction[..., Any, Any]:
            return TaskFunction(self._define(called, TaskKind.FUNCTION, made), self._submit)

        return decorate if function is None else decorate(function)

    def submit(
        self,
        name: str,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        owner: str | None = None,
        user_token: str | None = None,
    ) -> TaskHandle[Any]:
        """Submit a task by the name of its function; see :meth:`TaskFunction.submit`.

        :raises UnknownTask: no ``@task`` function of this app has this name.
        :raises ConfigurationError: several have it, and it is unclear which of them belongs to this app.
        """
        definition = current_state().registry[name]
        if definition.kind is not TaskKind.FUNCTION:
            raise TypeError(f"{name!r} is a view: it is submitted by its request. Put @task on a function for this")
        return self._submit(definition, args, kwargs or {}, owner, user_token)

    def _submit(
        self,
        definition: TaskDefinition,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        owner: str | None,
        user_token: str | None,
    ) -> TaskHandle[Any]:
        state = current_state()
        input = invocation.json_arguments(definition.name, tuple(args), kwargs)
        created = state.submit(definition, input, owner=_owner(state, owner), user_token=user_token)
        return TaskHandle(state, created.task.request_id)

    @contextmanager
    def track_request(
        self,
        name: str,
        *,
        request_id: str | None = None,
        owner: str | None = None,
        user_token: str | None = None,
        **options: Unpack[TrackedOptions],
    ) -> Iterator[TrackedTask]:
        """Record a block of code as a task, with progress, mirror and notification, while it runs in place.

        The task is completed when the block ends, and failed when it raises (the exception propagates).

        :param name: the task's name.
        :param request_id: a UUID that a client already knows; by default a new one.
        :param owner: whose task it is; in a request, None means the request's owner.
        :param options: ``steps``, ``total_steps``, ``notify``, ``expires_after``.
        """
        state = current_state()
        definition = self._define_tracked(state, name, options)
        created = state.submit(
            definition,
            {},
            owner=_owner(state, owner),
            user_token=user_token,
            request_id=tracking.checked_id(request_id),
            run=False,
        )
        with state.engine.tracked(created.task.request_id) as running:
            yield TrackedTask(state, running)

    # -- by hand -----------------------------------------------------------------------------------------------------

    def update_status(
        self,
        request_id: str,
        status: Status | str,
        result_data: Any = None,
        error_message: str | None = None,
    ) -> Task:
        """Set the status of a tracked task: ``processing``, ``completed``, ``failed`` or ``cancelled``.

        :param result_data: the result, JSON.
        :param error_message: for ``failed``.
        :returns: the changed task.
        :raises TransitionRefused: the task has ended with another status, or is not running.
        """
        return tracking.update_status(current_state(), request_id, status, result_data, error_message)

    def update_progress(
        self, request_id: str, step: str, step_number: int, total_steps: int, details: str | None = None
    ) -> Task:
        """Report the progress of a tracked task.

        :param step_number: the number of the current step, from 1.
        :param total_steps: how many steps there are.
        :raises LeaseLost: the task is not running.
        """
        return tracking.update_progress(current_state(), request_id, step, step_number, total_steps, details)

    def send_push(self, user_token: str, title: str, body: str, data: Mapping[str, Any] | None = None) -> int:
        """Send a push notification: it is stored, then sent by every sink that can. Return how many sinks those are.

        :param user_token: the device's address, as the client gave it.
        :param data: strings for the app; other values are converted to strings.
        """
        return current_state().deliveries.send(Notification(title, body, user_token=user_token, data=data or {}))

    def get(self, request_id: str) -> TaskHandle[Any]:
        """A handle on a task. Does not check the owner: for server-side code.

        :raises TaskNotFound: no such task. :raises TaskExpired: it has expired.
        """
        state = current_state()
        return TaskHandle(state, state.access.any_task(request_id).request_id)

    def cancel(self, request_id: str) -> Task:
        """Ask a task to stop, and return the changed task. Does not check the owner."""
        return self.get(request_id).cancel()

    def retry(self, request_id: str) -> Task:
        """Run a failed or cancelled task again. Does not check the owner.

        :raises TransitionRefused: it is neither failed nor cancelled. :raises LimitReached: too many tasks are waiting.
        """
        return self.get(request_id).retry()

    def access_token(self, request_id: str) -> str | None:
        """A short-lived token that lets its bearer read this one task; None without the app's ``SECRET_KEY``."""
        return current_state().access.sign(request_id)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _define(self, function: Callable[..., Any], kind: TaskKind, options: TaskOptions) -> TaskDefinition:
        name = options.name or function.__name__
        return self.declarations.add(
            TaskDefinition(name=name, kind=kind, function=function, options=options, expected=options.expected_steps())
        )

    def _define_tracked(self, state: AppState, name: str, options: TrackedOptions) -> TaskDefinition:
        name = identity(name)
        known = state.registry.find(name)
        if known is not None and not options:
            return TaskDefinition(
                name=name, kind=TaskKind.TRACKED, function=None, options=known.options, expected=known.expected
            )
        require_known(options, TrackedOptions, who="track_request", why="its block runs once, where it stands")
        made = TaskOptions(name=name, **options)
        definition = TaskDefinition(
            name=name, kind=TaskKind.TRACKED, function=None, options=made, expected=made.expected_steps()
        )
        state.registry.track(definition)
        return definition

    def _wrapper(self, definition: TaskDefinition, view: Callable[..., Any]) -> Callable[..., Any]:
        from .http.submission.accept import accept

        @functools.wraps(view)
        def accepted(*args: Any, **view_args: Any) -> Any:
            if _is_plain():
                return current_app.ensure_sync(view)(*args, **view_args)
            return accept(current_state(), definition, (args, view_args))

        return accepted


def _before_request() -> None:
    """Begin with the first request, of the state that the app has then: the test fixture puts another one there."""
    current_state().begin()


def _is_plain() -> bool:
    """Whether this request is to be answered by the view itself: it only reads, while the view also writes."""
    if request.method in UNSAFE_METHODS:
        return False
    if request.method != "GET":  # HEAD and OPTIONS ask about a resource; they do no work
        return True
    rule = request.url_rule
    return rule is not None and bool(UNSAFE_METHODS & (rule.methods or set()))


def _owner(state: AppState, owner: str | None) -> str | None:
    """The owner that was named, or the task's that this code runs in, or the request's."""
    if owner is not None:
        return owner
    if current_task:
        return current_task.owner
    return state.owners.current() if has_request_context() else None
