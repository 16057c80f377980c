"""What a sink may use of its app: an argument of its hooks, the same for built-in and other sinks.

One object for each app. Knows the store by its protocol, and the rest by functions that the app's factory passes in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from .core.devices import Device
from .core.model import Result, Task
from .core.notifications import Message
from .core.preferences import Preferences
from .core.webhooks import WebhookTarget
from .errors import TaskNotFound
from .runtime.log_lines import LOGGER
from .settings import Settings
from .stores.base import Store


class SinkContext:
    """What a sink may use of its app.

    Every method may be called from any thread, also from one that the sink has begun itself, until
    :func:`~flask_bgtasks.hookspecs.bgtasks_close` has returned. Look-ups read the store, and raise
    :class:`~flask_bgtasks.StoreUnavailable` if it does not answer: do not catch that, and the delivery is retried.

    :ivar app_name: the name of the Flask app.
    :ivar settings: the app's ``BGTASKS_*`` settings, as attributes in lower case: ``settings.push_concurrency``.
    :ivar logger: the library's logger. Line breaks and control characters in its arguments are escaped.
    """

    def __init__(
        self,
        *,
        app_name: str,
        settings: Settings,
        store: Store,
        enqueue: Callable[[str, Message], None],
        webhook_targets: Callable[[Task], Iterable[WebhookTarget]],
        is_draining: Callable[[], bool],
    ) -> None:
        self.app_name: Final = app_name
        self.settings: Final = settings
        self.logger: Final = logging.getLogger(LOGGER)
        self._store = store
        self._enqueue = enqueue
        self._webhook_targets = webhook_targets
        self._is_draining = is_draining

    def __repr__(self) -> str:
        return f"<SinkContext of app {self.app_name!r}>"

    @property
    def draining(self) -> bool:
        """Whether this process is about to end: it accepts no more work, and its tasks may continue elsewhere."""
        return self._is_draining()

    def now(self) -> datetime:
        """The store's time, UTC; all times of tasks and events are of this clock."""
        return self._store.now()

    # -- deliveries ----------------------------------------------------------------------------------------------------

    def enqueue(self, sink: str, message: Message) -> None:
        """Store a message for a sink, which gets it by :func:`~flask_bgtasks.hookspecs.bgtasks_deliver_message`.

        For messages that come from no event and no notification; for those, return the messages from the hook.

        :param sink: the name under which it is registered. :param message: its ``channel``, ``payload`` and
            ``request_id`` are stored.
        """
        self._enqueue(sink, message)

    def count_dead_letters(self) -> int:
        """The number of dead letters of all the app's sinks."""
        return self._store.stats().deliveries_dead

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def find_task(self, request_id: str) -> Task | None:
        """A task in its current state; None if it is gone."""
        try:
            return self._store.get(request_id)
        except TaskNotFound:
            return None

    def load_result(self, request_id: str) -> Result | None:
        """A task's result; None if it has none (yet), or is gone."""
        try:
            return self._store.load_result(request_id)
        except TaskNotFound:
            return None

    def count_failed(self, name: str, *, since: datetime) -> int:
        """How many tasks of this name failed at ``since`` or later, and have not been opened again."""
        return self._store.count_failed(name, since=since)

    def webhook_targets(self, task: Task) -> list[WebhookTarget]:
        """The targets that plugins name for a task: :func:`~flask_bgtasks.hookspecs.bgtasks_webhook_targets`."""
        return list(self._webhook_targets(task))

    # -- users ---------------------------------------------------------------------------------------------------------

    def devices(self, *, owner: str | None = None, request_id: str | None = None) -> Sequence[Device]:
        """An owner's devices, or those of one task, most recently seen first. Give exactly one of the two."""
        return self._store.devices(owner=owner, request_id=request_id)

    def forget_device(self, device_id: str) -> None:
        """Remove a device whose address is no longer in use."""
        self._store.forget_device(device_id)

    def load_preferences(self, owner: str) -> Preferences:
        """An owner's notification preferences; the defaults if none are saved, or they cannot be read."""
        return Preferences.from_stored(self._store.load_preferences(owner))

    # -- cool-downs over all processes ---------------------------------------------------------------------------------

    def take_mark(self, key: str, span: timedelta) -> bool:
        """Take a key for this long; False if it is already taken.

        The processes of an app use this to agree on which of them does something, and how often.

        :param key: starts with the sink's name, so that no other sink takes it. :param span: with 0, only checks.
        """
        return self._store.take_mark(key, span)

    def set_mark(self, key: str, span: timedelta) -> None:
        """Take a key from now on for this long, even if it is already taken; a span of 0 releases it."""
        self._store.set_mark(key, span)
