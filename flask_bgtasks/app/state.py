"""The parts of one app, built and wired: what ``app.extensions["bgtasks"]`` holds.

Everything that belongs to an app lives here, never on the extension object, which several apps may share.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, cast

from flask import Flask, current_app, has_request_context

from ..announcements.exchange import Exchange
from ..auth.credentials import Credentials
from ..auth.owners import Access, Owners
from ..capture import arguments
from ..core.definitions import TaskDefinition
from ..core.model import OnInterrupt, Task, TaskKind
from ..core.text.clean import clean, identity, text_of
from ..core.transitions.outside import Reopen
from ..core.transitions.transition import Transition
from ..delivery.device_registry import NO_HINTS, DeviceRegistry, TokenHints
from ..delivery.dispatcher import Dispatcher
from ..errors import ConfigurationError, ShuttingDown
from ..execution.engine import Engine
from ..execution.finding.wake_up_calls import WakeUpCalls
from ..plugins import Plugins
from ..runners.base import Runner
from ..runtime import server
from ..runtime.background_thread import Contained
from ..settings import Settings
from ..stores.base import Store
from ..stores.types import Created, Limits
from ..wrapping.layers import Chain
from ..wrapping.passage import Run
from . import app_ids
from .completion import Completion
from .lifecycle import Lifecycle
from .registry.app_registry import AppRegistry
from .registry.declarations import Declarations
from .watcher import Watcher

log = logging.getLogger("flask_bgtasks")

KEY = "bgtasks"

View = Callable[..., Any]

Wrap = Callable[[TaskDefinition, View], View]

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # a new task's times until the store sets its own


@dataclass(frozen=True)
class AppState:
    """One app's parts."""

    app: Flask
    extension: Any
    """The extension object that set up the app, for the app's own code; nothing here needs it."""
    declarations: Declarations
    settings: Settings
    plugins: Plugins
    registry: AppRegistry
    completion: Completion
    store: Store
    runner: Runner
    engine: Engine
    calls: WakeUpCalls
    deliveries: Dispatcher
    watcher: Watcher
    exchange: Exchange
    lifecycle: Lifecycle
    owners: Owners
    credentials: Credentials
    access: Access
    device_registry: DeviceRegistry
    wrap: Wrap
    """Makes the wrapper of a view."""

    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings that were passed to ``init_app``."""

    originals: dict[str, View] = field(default_factory=dict)
    """The app's own views behind the wrapped endpoints."""

    chains: dict[View, Chain] = field(default_factory=dict)
    """Views with a gate inside their decorators, by the view; made when they are needed first."""

    def chain(self, definition: TaskDefinition) -> Chain:
        """A backgrounded view, its decorators and the gate inside them."""
        return chain_of(self.chains, definition, self.view_function(definition))

    def call_view(self, definition: TaskDefinition, stored: Mapping[str, Any]) -> Any:
        """Call a view in the context of its run: its guards judged the request, and are passed over.

        :param stored: the captured request, with what decorators passed on.
        """
        chain = self.chain(definition)
        passage = Run(stored.get("passed_on", {}), name=definition.name, bound=chain.bound)
        return passage.call(chain.view, arguments.restored(self.app, stored))

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
        promised: bool = True,
        request_id: str | None = None,
    ) -> Created:
        """Store a task and hand it to the runner. When it returns, the task is committed.

        :param user_token: where its notification goes; registered for the owner. :param hints: what is known of it.
        :param run: False where the caller runs it where it stands.
        :param promised: whether somebody is told that it will finish before it has.
        :raises LimitReached: the queue is full, or this process is stopping; the task was not stored.
        :raises IdempotencyConflict: the key was used for another request.
        :raises ConfigurationError: the runner lacks something; the task was not stored.
        """
        if run and self.runner.draining:
            raise ShuttingDown()
        if run:
            self.runner.check()
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
        note = self.device_registry.note(task, hints)
        if note is not None:
            task = task.evolve(token_note=note)
        limits = self._limits() if run else None
        reserved = run and not self._left_to_others and self.runner.reserve()
        created: Created | None = None
        try:
            created = self.engine.create(task, input, limits=limits, at_once=reserved or not run, promised=promised)
        finally:
            if reserved and (created is None or created.attempt is None):
                self.runner.give_back()
        if reserved and created.attempt is not None:
            self._begin(created.task.request_id)
        elif created.attempt is None and not created.replayed and task.kind is not TaskKind.TRACKED:
            self.hand_over(created.task)
        return created

    def _begin(self, request_id: str) -> None:
        with self._stored(request_id):
            try:
                self.runner.begin(request_id)
            except BaseException:
                self.engine.give_back(request_id)
                raise

    @property
    def _left_to_others(self) -> bool:
        """Whether this is a shell's command, beside the processes that serve."""
        return self.runner.fetches and server.in_command()

    def _limits(self) -> Limits:
        """What may wait. Code that serves no request, a nightly job say, is not held to the share of nobody."""
        settings = self.settings
        shared = has_request_context() and self.owners.known
        anonymous = settings.max_queued_anonymous if shared else None
        return Limits(settings.max_queued, settings.max_queued_per_owner, anonymous)

    def hand_over(self, task: Task) -> None:
        """Have the runner run a stored task; from a shell's command it is left to the processes that serve.

        :raises Exception: what the runner raises, where nobody in this process looks for what is stored.
        """
        if self._left_to_others:
            return
        if self.runner.publishes:
            self.calls.publish(task)
            return
        with self._stored(task.request_id):
            self.runner.submit(task.request_id, priority=task.priority, queue=task.queue)

    @contextmanager
    def _stored(self, request_id: str) -> Iterator[None]:
        """Around a call of the runner about a stored task: what it raises must not make the task look refused.

        Whoever sent it would send it again, and it would run twice. It is found in the store instead.
        """
        try:
            yield
        except ShuttingDown:  # since it was asked: another process runs the task, or this one when it is started again
            log.debug("stopping: task %s is left to another process", request_id)
        except Exception:
            if not self.runner.fetches:
                raise
            log.exception("the runner failed with task %s, which is found in the store instead", request_id)

    def cancel(self, request_id: str) -> Transition:
        """Ask a task to stop; see :meth:`flask_bgtasks.execution.engine.Engine.cancel`."""
        outcome = self.engine.cancel(request_id)
        if outcome.task.done:
            with Contained("the runner cannot forget task %s, which is cancelled", request_id):
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
        """Stop taking work, let tasks and deliveries finish for ``grace`` seconds, close the sinks and the store."""
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


def chain_of(chains: dict[View, Chain], definition: TaskDefinition, view: View) -> Chain:
    """A view and its decorators, made when it is needed first.

    :param chains: those that were made, by their view.
    """
    chain = chains.get(view)
    if chain is None or chain.stale:  # two threads may both make one: they are equal
        chain = chains[view] = Chain(view, definition.options.guards)
    return chain
