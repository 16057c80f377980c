"""Builds the parts of one app and wires them: what an :class:`.state.AppState` holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, cast

from flask import Flask, request

from ..announcements.exchange import Exchange
from ..auth.credentials import Credentials
from ..auth.owners import Access, Owners
from ..capture import kept_request
from ..core.definitions import TaskRegistry
from ..core.model import Status, Task, TaskKind
from ..core.webhooks import WebhookTarget
from ..delivery.device_registry import DeviceRegistry
from ..delivery.dispatcher import Dispatcher
from ..delivery.notifier import NotifyPolicy
from ..errors import ConfigurationError
from ..execution.engine import Engine
from ..execution.finding.fetcher import Fetcher
from ..execution.finding.recovery import LOOK_SECONDS
from ..execution.finding.sweep import Sweep
from ..execution.finding.wake_up_calls import WakeUpCalls
from ..plugins import Plugins
from ..runners.base import Runner, WorkerProcess
from ..runtime import log_lines, server
from ..settings import Settings
from ..sink_context import SinkContext
from ..stores.base import Store
from ..stores.types import Attempt
from ..wording import unknown_name
from ..wrapping.layers import Chain
from . import app_ids, builtin_plugins, stuck
from .completion import Completion
from .lifecycle import Lifecycle
from .registry.app_registry import AppRegistry
from .registry.declarations import Declarations
from .state import AppState, View, Wrap, chain_of, state_of
from .watcher import Watcher


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
    plugins.register(builtin_plugins, name="bgtasks-bundled")
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
        chain=lambda definition, view: chain_of(chains, definition, view),
    )
    registry.complete = completion.complete
    context = SinkContext(
        app_name=app.name,
        settings=settings,
        store=store,
        enqueue=lambda sink, message: deliveries.send_message(sink, message),  # noqa: PLW0108 - it is made below
        webhook_targets=partial(_webhook_targets, plugins),
        is_draining=lambda: runner.draining,
    )
    deliveries = Dispatcher(
        app,
        store,
        plugins,
        context=context,
        notify_of=lambda name: _notify_of(registry, name),
        rules=NotifyPolicy.of(settings),
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
    fetcher = Fetcher(
        store,
        names=lambda: registry,
        most_running=lambda: registry.most_running,
        lease=settings.lease_seconds,
        queues=queues,
    )
    process = WorkerProcess(lambda: lifecycle, lambda: _queues(registry, queues))
    calls = WakeUpCalls(store, registry, fetcher, engine.run)
    runner = _make_runner(app, plugins, engine, fetcher, calls, settings, process)
    sweep = Sweep(store, fetcher, calls.publish_again, queues=lambda: process.queues)
    calls.attach(runner, sweep)
    engine.attach(runner, calls)
    exchange = Exchange(
        builtin_plugins.announcing(settings),
        waits=lambda task: _waits(task, runner),
        frees=lambda task: not task.held and registry.most_running.get(task.name) is not None,
        leaves_deliveries=server.in_command,
    )
    store.on_commit(exchange.committed)
    watcher = Watcher(store, holds=exchange.holds)
    lifecycle = Lifecycle(
        store=store,
        runner=runner,
        engine=engine,
        deliveries=deliveries,
        watcher=watcher,
        exchange=exchange,
        fetcher=fetcher,
        sweep=sweep,
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
        calls=calls,
        deliveries=deliveries,
        watcher=watcher,
        exchange=exchange,
        lifecycle=lifecycle,
        owners=owners,
        credentials=credentials,
        access=Access(app, store, owners, settings),
        device_registry=DeviceRegistry(store, max_devices=settings.max_devices_per_owner),
        wrap=wrap,
        overrides=dict(overrides),
        originals=originals,
        chains=chains,
    )


def rebuild(state: AppState, overrides: Mapping[str, Any], **how: Any) -> AppState:
    """The same app's parts once more, with other settings. Its views and its registry are the app's, and stay.

    :param overrides: settings that win over those that ``init_app`` was given.
    :param how: ``queues`` and ``look_seconds``, as :func:`build` takes them.
    """
    return build(
        state.app,
        state.declarations,
        {**state.overrides, **overrides},
        extension=state.extension,
        wrap=state.wrap,
        originals=state.originals,
        **how,
    )


def _waits(task: Task, runner: Runner) -> bool:
    """Whether another process may begin a task, and is to be told so; where the runner publishes that does it."""
    return task.status is Status.STARTED and task.kind is not TaskKind.TRACKED and not runner.publishes


def _abandon(store: Store, registry: AppRegistry, engine: Engine, settings: Settings) -> int:
    if settings.unknown_task_seconds is None:
        return 0
    after = timedelta(seconds=settings.unknown_task_seconds)
    return stuck.abandon(store, registry, after=after, change=engine.change)


def _open_store(app: Flask, plugins: Plugins, settings: Settings) -> Store:
    store = plugins.hook.bgtasks_open_store(app=app, url=settings.store, settings=settings)
    if store is None:
        scheme = settings.store.partition(":")[0]
        raise ConfigurationError(
            f"BGTASKS_STORE={_without_password(settings.store)!r}: unknown scheme {scheme!r}. "
            f"{unknown_name(scheme, builtin_plugins.STORES)} A plugin may add more."
        )
    app_ids.warn_of_twin(app, settings)
    return app_ids.of_app(cast(Store, store), settings)


def _make_runner(
    app: Flask,
    plugins: Plugins,
    engine: Engine,
    fetcher: Fetcher,
    calls: WakeUpCalls,
    settings: Settings,
    process: WorkerProcess,
) -> Runner:
    runner = plugins.hook.bgtasks_make_runner(
        app=app,
        name=settings.runner,
        run=engine.run,
        fetch=fetcher,
        wake=calls.answer,
        process=process,
        settings=settings,
    )
    if runner is None:
        raise ConfigurationError(
            f"BGTASKS_RUNNER={settings.runner!r}: there is no such runner. "
            f"{unknown_name(settings.runner, builtin_plugins.RUNNERS)} A plugin may add more."
        )
    return cast(Runner, runner)


def _queues(registry: AppRegistry, served: Collection[str] | None) -> set[str]:
    """The queues of this process's tasks, as far as it serves them."""
    named = {definition.options.queue for definition in map(registry.find, registry) if definition is not None}
    return named | {"default"} if served is None else named & set(served)


def _notify_of(registry: TaskRegistry, name: str) -> Any:
    definition = registry.find(name)
    return definition.options.notify if definition is not None else None


def _webhook_targets(plugins: Plugins, task: Task) -> list[WebhookTarget]:
    return [target for named in plugins.hook.bgtasks_webhook_targets(task=task) for target in named]


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
