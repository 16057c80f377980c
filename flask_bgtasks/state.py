"""The parts of one app, built and wired: what ``app.extensions["bgtasks"]`` holds.

Everything that belongs to an app lives here, never on the extension object, which several apps may share.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, cast

from flask import Flask, current_app

from . import serving
from .addresses import NO_HINTS, Addresses, Hints
from .changes import Outcome, Reopen
from .clean_text import clean, identity, text_of
from .definitions import Registry, TaskDefinition
from .delivery import Deliveries
from .engine import Engine, Environment
from .errors import ConfigurationError, ShuttingDown
from .lifecycle import Lifecycle
from .model import OnInterrupt, Task
from .notifying import Rules
from .owners import Access, Owners
from .picking import Picker
from .plugins import Plugins
from .recovery import LOOK_SECONDS
from .runners.base import Runner
from .settings import Settings
from .stores.base import Created, Limits, Store
from .watcher import Watcher

if TYPE_CHECKING:
    from .extension import BackgroundTasks

KEY = "bgtasks"

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # a new task's times until the store sets its own


@dataclass(frozen=True)
class AppState:
    """One app's parts."""

    app: Flask
    extension: BackgroundTasks
    settings: Settings
    plugins: Plugins
    registry: Registry
    store: Store
    runner: Runner
    engine: Engine
    deliveries: Deliveries
    watcher: Watcher
    lifecycle: Lifecycle
    owners: Owners
    access: Access
    addresses: Addresses
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings that ``init_app`` was given as arguments."""

    originals: dict[str, Callable[..., Any]] = field(default_factory=dict)
    """The app's own views behind the wrapped endpoints."""

    def submit(
        self,
        definition: TaskDefinition,
        input: Mapping[str, Any],
        *,
        owner: str | None = None,
        user_token: str | None = None,
        hints: Hints = NO_HINTS,
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
        limits = Limits(self.settings.max_queued, self.settings.max_queued_per_owner) if run else None
        reserved = None if run else self.settings.lease  # until then nobody else takes it for one that waits
        created = self.store.create(
            task, input=input, deliveries=self.deliveries.owed, limits=limits, reserved=reserved
        )
        if run and not created.replayed:
            self.hand_over(created.task)
        return created

    def hand_over(self, task: Task) -> None:
        """Have the runner run a stored task; from a shell's command it is left to the processes that serve."""
        if self.runner.picks and serving.in_command():
            return
        self.runner.submit(task.request_id, priority=task.priority, queue=task.queue)

    def cancel(self, request_id: str) -> Outcome:
        """Ask a task to stop; see :meth:`flask_bgtasks.engine.Engine.cancel`."""
        outcome = self.engine.cancel(request_id)
        if outcome.task.done:
            self.runner.cancel(request_id)
        return outcome

    def retry(self, request_id: str) -> Outcome:
        """Open a failed or cancelled task again and have it run.

        :raises TransitionRefused: it is neither failed nor cancelled.
        """
        if self.runner.draining:
            raise ShuttingDown()
        outcome = self.engine.change(self.store.get(request_id), Reopen())
        self.hand_over(outcome.task)
        return outcome

    def view_function(self, definition: TaskDefinition) -> Callable[..., Any]:
        """What to call for a task: its function, or the app's own view behind a wrapped endpoint."""
        if definition.function is not None:
            return definition.function
        endpoint = cast(str, definition.endpoint)
        try:
            return self.originals[endpoint]
        except KeyError:
            self.extension.wrap_endpoints(self)
            return self.originals[endpoint]

    def close(self, grace: float | None = None) -> None:
        """Stop taking work, let running tasks and deliveries finish for ``grace`` seconds, close the store."""
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
    extension: BackgroundTasks,
    overrides: Mapping[str, Any],
    *,
    queues: Collection[str] | None = None,
    look_seconds: float = LOOK_SECONDS,
) -> AppState:
    """Build an app's parts. Opens no connection and starts no thread: a server may fork after this.

    :param overrides: settings by lower-case name, which win over ``app.config``.
    :param queues: run tasks of these queues only.
    :param look_seconds: the mean time between two looks for work.
    :raises ConfigurationError: a setting names what is not there, or the instance folder cannot be written.
    """
    settings = Settings.from_config(app.config, **overrides)
    plugins = Plugins()
    plugins.register(_bundled(), name="bgtasks-bundled")
    plugins.load_entry_points()
    for plugin, name in extension.plugins:
        plugins.register(plugin, name=name)
    plugins.add_sinks(settings.sinks, app, settings)

    store = _open_store(app, plugins, settings)
    registry = extension.registry
    deliveries = Deliveries(
        app, store, plugins, notify_of=lambda name: _notify_of(registry, name), rules=Rules.of(settings)
    )
    owners = Owners(app, plugins, lambda: extension.loader)
    environment = Environment(
        view_of=lambda definition: state_of(app).view_function(definition),
        before_run=lambda task: _before_run(app, extension, owners, task),
        run_later=lambda task, wait: _run_later(runner, task, wait),
        can_wait=lambda: runner.can_wait,
        look=lambda: runner.look(),  # noqa: PLW0108 - the runner is made after the engine
        give_up=lambda request_id: runner.give_up(request_id),  # noqa: PLW0108 - as above
    )
    engine = Engine(
        app,
        store=store,
        settings=settings,
        registry=registry,
        deliveries=deliveries,
        environment=environment,
    )
    picker = Picker(
        store,
        names=lambda: registry,
        most_running=lambda: registry.most_running,
        lease=settings.lease_seconds,
        queues=queues,
    )
    runner = _make_runner(app, plugins, engine, picker, settings)
    watcher = Watcher(store)
    lifecycle = Lifecycle(
        store=store,
        runner=runner,
        engine=engine,
        deliveries=deliveries,
        watcher=watcher,
        picker=picker,
        grace=settings.shutdown_grace,
        look_seconds=look_seconds,
    )
    return AppState(
        app=app,
        extension=extension,
        settings=settings,
        plugins=plugins,
        registry=registry,
        store=store,
        runner=runner,
        engine=engine,
        deliveries=deliveries,
        watcher=watcher,
        lifecycle=lifecycle,
        owners=owners,
        access=Access(app, store, owners, settings),
        addresses=Addresses(store, most=settings.max_devices_per_owner),
        overrides=dict(overrides),
    )


def _bundled() -> Any:
    from . import bundled

    return bundled


def _open_store(app: Flask, plugins: Plugins, settings: Settings) -> Store:
    store = plugins.hook.bgtasks_open_store(app=app, url=settings.store, settings=settings)
    if store is None:
        scheme = settings.store.partition(":")[0]
        raise ConfigurationError(
            f"BGTASKS_STORE={_without_password(settings.store)!r}: unknown scheme {scheme!r}. "
            "Known here: memory, sqlite, postgresql, firestore. A plugin may add more."
        )
    return cast(Store, store)


def _make_runner(app: Flask, plugins: Plugins, engine: Engine, picker: Picker, settings: Settings) -> Runner:
    runner = plugins.hook.bgtasks_make_runner(
        app=app, name=settings.runner, run=engine.run, pick=picker, settings=settings
    )
    if runner is None:
        raise ConfigurationError(
            f"BGTASKS_RUNNER={settings.runner!r}: there is no such runner. "
            "Known here: threads, inline, external. A plugin may add more."
        )
    return cast(Runner, runner)


def _notify_of(registry: Registry, name: str) -> Any:
    definition = registry.find(name)
    return definition.options.notify if definition is not None else None


def _run_later(runner: Runner, task: Task, wait: float) -> None:
    try:
        runner.submit(task.request_id, delay=max(wait, 0.001), priority=task.priority, queue=task.queue)
    except ShuttingDown:
        return  # the store keeps it for whoever looks


def _before_run(app: Flask, extension: BackgroundTasks, owners: Owners, task: Task) -> None:
    owners.restore(task)
    for function in extension.before_run_functions:
        app.ensure_sync(function)(task)


def _without_password(url: str) -> str:
    before, at, after = url.rpartition("@")
    if not at:
        return url
    scheme, _, user = before.partition("://")
    return f"{scheme}://{user.partition(':')[0]}:***@{after}"
