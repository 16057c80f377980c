"""The parts of one app, built and wired: what ``app.extensions["bgtasks"]`` holds.

Everything that belongs to an app lives here, never on the extension object, which several apps may share.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, cast

from flask import Flask, current_app, has_request_context, request

from ..auth.credentials import Credentials
from ..auth.owners import Access, Owners
from ..capture import arguments, kept_request
from ..core.definitions import TaskDefinition, TaskRegistry
from ..core.model import OnInterrupt, Task
from ..core.text.clean import clean, identity, text_of
from ..core.transitions import Reopen, Transition
from ..delivery.device_registry import NO_HINTS, Addresses, TokenHints
from ..delivery.dispatcher import Dispatcher
from ..delivery.notifier import NotifyPolicy
from ..errors import ConfigurationError, ShuttingDown
from ..execution.engine import Engine
from ..execution.fetcher import Fetcher
from ..execution.recovery import LOOK_SECONDS
from ..plugins import Plugins
from ..runners.base import Runner
from ..runtime import log_lines
from ..runtime import server as serving
from ..settings import Settings
from ..stores.base import Attempt, Created, Limits, Store
from ..wrapping.layers import Chain
from ..wrapping.passage import Run
from . import app_ids, stuck
from .completion import Completion
from .declarations import AppRegistry, Declarations
from .lifecycle import Lifecycle
from .watcher import Watcher

KEY = "bgtasks"

View = Callable[..., Any]

Wrap = Callable[[TaskDefinition, View], View]

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # a new task's times until the store sets its own


@dataclass(frozen=True)
class AppState:
    """One app's parts."""

    app: Flask
    extension: Any
    """The extension object that the app was given to, for the app's own code; nothing here needs it."""
    declarations: Declarations
    settings: Settings
    plugins: Plugins
    registry: AppRegistry
    completion: Completion
    store: Store
    runner: Runner
    engine: Engine
    deliveries: Dispatcher
    watcher: Watcher
    lifecycle: Lifecycle
    owners: Owners
    credentials: Credentials
    access: Access
    addresses: Addresses
    wrap: Wrap
    """Makes the wrapper of a view."""

    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings that ``init_app`` was given as arguments."""

    originals: dict[str, View] = field(default_factory=dict)
    """The app's own views behind the wrapped endpoints."""

    chains: dict[View, Chain] = field(default_factory=dict)
    """Views with a gate inside their decorators, by the view; made when they are needed first."""

    def chain(self, definition: TaskDefinition) -> Chain:
        """A backgrounded view, its decorators and the gate inside them."""
        return _chain(self.chains, definition, self.view_function(definition))

    def call_view(self, definition: TaskDefinition, stored: Mapping[str, Any]) -> Any:
        """Call a view in the context of its run: its guards judged the request, and are passed over.

        :param stored: the captured request, with what decorators passed on.
        """
        chain = self.chain(definition)
        passage = Run(stored.get("passed_on", {}), name=definition.name, bound=chain.bound)
        return passage.call(chain.view, arguments.restored(self.app, stored))

    def rebuilt(self, overrides: Mapping[str, Any], **how: Any) -> AppState:
        """The same app's parts once more, with other settings. Its views and its registry are the app's, and stay.

        :param overrides: settings that win over those that ``init_app`` was given.
        :param how: ``queues`` and ``look_seconds``, as :func:`build` takes them.
        """
        return build(
            self.app,
            self.declarations,
            {**self.overrides, **overrides},
            extension=self.extension,
            wrap=self.wrap,
            originals=self.originals,
            **how,
        )

    def begin(self) -> None:
        """Called before each request: with the first one the app is complete, and this process serves it.

        :raises ConfigurationError: its set-up is wrong, and it is being tested or debugged.
        """
        if self.completion.first_request():
            self.owners.warn_of_unread_login()
            self.lifecycle.start()
        elif self.lifecycle.recovery.thread.missing:  # which looks after the others
            self.lifecycle.mend()

    def submit(
        self,
        definition: TaskDefinition,
        input: Mapping[str, Any],
        *,
        owner: str | None = None,
        user_token: str | None = None,
        hints: TokenHints = NO_HINTS,
        idempotency_scope: str | None = None,
        fingerprint: str | None = None,
        run: bool = True,
        request_id: str | None = None,
    ) -> Created:
        """Store a task and hand it to the runner. When it returns, the task is committed.

        :param user_token: where its notification goes; registered for the owner. :param hints: what is known of it.
        :param run: False where the caller runs it where it stands.
        :raises LimitReached: the queue is full, or this process is stopping; the task was not stored.
        :raises IdempotencyConflict: the key stands for another request.
        """
        if run and self.runner.draining:
            raise ShuttingDown()
        self.registry.use(definition)
        options = definition.options
        task = Task(
            request_id=request_id or str(uuid.uuid4()),
            name=definition.name,
            kind=definition.kind,
            created_at=EPOCH,
            updated_at=EPOCH,
            expires_after=options.lifetime(self.settings.expires_after),
            owner=None if owner is None else identity(owner),
            queue=options.queue,
            priority=options.priority,
            max_attempts=options.max_attempts,
            on_interrupt=OnInterrupt(options.on_interrupt),
            user_token=None if user_token is None else clean(text_of(user_token, None)),
            idempotency_scope=idempotency_scope,
            fingerprint=fingerprint,
        )
        note = self.addresses.note(task, hints)
        if note is not None:
            task = task.evolve(token_note=note)
        limits = self._limits() if run else None
        reserved = None if run else self.settings.lease  # until then nobody else takes it for one that waits
        created = self.store.create(
            task, input=input, deliveries=self.deliveries.owed, limits=limits, reserved=reserved
        )
        if run and not created.replayed:
            self.hand_over(created.task)
        return created

    def _limits(self) -> Limits:
        """What may wait. Code that serves no request, a nightly job say, is not held to the share of nobody."""
        settings = self.settings
        shared = has_request_context() and self.owners.known
        anonymous = settings.max_queued_anonymous if shared else None
        return Limits(settings.max_queued, settings.max_queued_per_owner, anonymous)

    def hand_over(self, task: Task) -> None:
        """Have the runner run a stored task; from a shell's command it is left to the processes that serve."""
        if self.runner.picks and serving.in_command():
            return
        self.runner.submit(task.request_id, priority=task.priority, queue=task.queue)

    def cancel(self, request_id: str) -> Transition:
        """Ask a task to stop; see :meth:`flask_bgtasks.execution.engine.Engine.cancel`."""
        outcome = self.engine.cancel(request_id)
        if outcome.task.done:
            self.runner.cancel(request_id)
        return outcome

    def retry(self, request_id: str, *, private: Mapping[str, Any] | None = None) -> Transition:
        """Open a failed or cancelled task again and have it run.

        :param private: the login of the request that asks for it (:meth:`Credentials.of`); the first one was erased.
        :raises TransitionRefused: it is neither failed nor cancelled.
        :raises LimitReached: as many tasks wait as may: a task that is opened again waits like a new one.
        """
        if self.runner.draining:
            raise ShuttingDown()
        outcome = self.engine.change(self.store.get(request_id), Reopen(private), limits=self._limits())
        self.hand_over(outcome.task)
        return outcome

    def view_function(self, definition: TaskDefinition) -> View:
        """What to call for a task: its function, or the app's own view behind a wrapped endpoint."""
        if definition.function is not None:
            return definition.function
        endpoint = cast(str, definition.endpoint)
        try:
            return self.originals[endpoint]
        except KeyError:
            self.completion.complete()
            return self.originals[endpoint]

    def close(self, grace: float | None = None) -> None:
        """Stop taking work, let running tasks and deliveries finish for ``grace`` seconds, close the store."""
        app_ids.forget(self.app)
        self.lifecycle.close(grace)


def current_state() -> AppState:
    """The state of :data:`flask.current_app`.

    :raises ConfigurationError: ``init_app`` was not called for it.
    """
    return state_of(current_app)


def state_of(app: Flask) -> AppState:
    """The state of an app.

    :raises ConfigurationError: ``init_app`` was not called for it.
    """
    try:
        return cast(AppState, app.extensions[KEY])
    except KeyError:
        raise ConfigurationError(
            f"app {app.name!r} has no flask-bgtasks: call bgtasks.init_app(app) where it is made"
        ) from None


def build(
    app: Flask,
    declarations: Declarations,
    overrides: Mapping[str, Any],
    *,
    extension: Any,
    wrap: Wrap,
    originals: dict[str, View] | None = None,
    queues: Collection[str] | None = None,
    look_seconds: float = LOOK_SECONDS,
) -> AppState:
    """Build an app's parts. Opens no connection and starts no thread: a server may fork after this.

    :param declarations: what was declared on the extension object.
    :param overrides: settings by lower-case name, which win over ``app.config``.
    :param extension: the extension object itself, for the app's own code.
    :param wrap: makes the wrapper of a view.
    :param originals: the views that were wrapped by an earlier call for this app.
    :param queues: run tasks of these queues only.
    :param look_seconds: the mean time between two looks for work.
    :raises ConfigurationError: a setting names what is not there, or the instance folder cannot be written.
    """
    settings = app_ids.with_app_id(app, Settings.from_config(app.config, **overrides))
    log_lines.install()
    plugins = Plugins()
    plugins.register(_bundled(), name="bgtasks-bundled")
    plugins.load_entry_points()
    for plugin, name in declarations.plugins:
        plugins.register(plugin, name=name)
    plugins.add_sinks(settings.sinks, app, settings)

    store = _open_store(app, plugins, settings)
    registry = declarations.registry_of(app)
    originals = {} if originals is None else originals
    chains: dict[View, Chain] = {}
    completion = Completion(
        app,
        settings.endpoints,
        settings.url_prefix,
        declarations=declarations,
        registry=registry,
        originals=originals,
        wrap=wrap,
        chain=lambda definition, view: _chain(chains, definition, view),
    )
    registry.complete = completion.complete
    deliveries = Dispatcher(
        app, store, plugins, notify_of=lambda name: _notify_of(registry, name), rules=NotifyPolicy.of(settings)
    )
    owners = Owners(app, plugins, lambda: declarations.loader)
    credentials = Credentials(app, owners, settings.keep_headers)
    engine = Engine(
        app,
        store=store,
        settings=settings,
        registry=registry,
        deliveries=deliveries,
        credentials=credentials,
        call_view=lambda definition, stored: state_of(app).call_view(definition, stored),
        before_run=lambda attempt: _before_run(app, declarations, credentials, attempt),
    )
    picker = Fetcher(
        store,
        names=lambda: registry,
        most_running=lambda: registry.most_running,
        lease=settings.lease_seconds,
        queues=queues,
    )
    runner = _make_runner(app, plugins, engine, picker, settings)
    engine.attach(runner)
    watcher = Watcher(store)
    lifecycle = Lifecycle(
        store=store,
        runner=runner,
        engine=engine,
        deliveries=deliveries,
        watcher=watcher,
        picker=picker,
        complete=completion.report,
        abandon=lambda: _abandon(store, registry, engine, settings),
        grace=settings.shutdown_grace,
        look_seconds=look_seconds,
    )
    return AppState(
        app=app,
        extension=extension,
        declarations=declarations,
        settings=settings,
        plugins=plugins,
        registry=registry,
        completion=completion,
        store=store,
        runner=runner,
        engine=engine,
        deliveries=deliveries,
        watcher=watcher,
        lifecycle=lifecycle,
        owners=owners,
        credentials=credentials,
        access=Access(app, store, owners, settings),
        addresses=Addresses(store, most=settings.max_devices_per_owner),
        wrap=wrap,
        overrides=dict(overrides),
        originals=originals,
        chains=chains,
    )


def _abandon(store: Store, registry: AppRegistry, engine: Engine, settings: Settings) -> int:
    if settings.unknown_task_seconds is None:
        return 0
    after = timedelta(seconds=settings.unknown_task_seconds)
    return stuck.abandon(store, registry, after=after, change=engine.change)


def _chain(chains: dict[View, Chain], definition: TaskDefinition, view: View) -> Chain:
    chain = chains.get(view)
    if chain is None or chain.stale:  # two threads may both make one: they are equal
        chain = chains[view] = Chain(view, definition.options.guards)
    return chain


def _bundled() -> Any:
    from . import builtin_plugins

    return builtin_plugins


def _open_store(app: Flask, plugins: Plugins, settings: Settings) -> Store:
    store = plugins.hook.bgtasks_open_store(app=app, url=settings.store, settings=settings)
    if store is None:
        scheme = settings.store.partition(":")[0]
        raise ConfigurationError(
            f"BGTASKS_STORE={_without_password(settings.store)!r}: unknown scheme {scheme!r}. "
            "Known here: memory, sqlite, postgresql, firestore. A plugin may add more."
        )
    app_ids.warn_of_twin(app, settings)
    return app_ids.of_app(cast(Store, store), settings)


def _make_runner(app: Flask, plugins: Plugins, engine: Engine, picker: Fetcher, settings: Settings) -> Runner:
    runner = plugins.hook.bgtasks_make_runner(
        app=app, name=settings.runner, run=engine.run, pick=picker, settings=settings
    )
    if runner is None:
        raise ConfigurationError(
            f"BGTASKS_RUNNER={settings.runner!r}: there is no such runner. "
            "Known here: threads, inline, external. A plugin may add more."
        )
    return cast(Runner, runner)


def _notify_of(registry: TaskRegistry, name: str) -> Any:
    definition = registry.find(name)
    return definition.options.notify if definition is not None else None


def _before_run(app: Flask, declarations: Declarations, credentials: Credentials, attempt: Attempt) -> None:
    kept_request.restore_limits(request, attempt.input)
    credentials.restore(attempt.task, attempt.input)
    for function in declarations.before_run_functions:
        app.ensure_sync(function)(attempt.task)


def _without_password(url: str) -> str:
    before, at, after = url.rpartition("@")
    if not at:
        return url
    scheme, _, user = before.partition("://")
    return f"{scheme}://{user.partition(':')[0]}:***@{after}"
