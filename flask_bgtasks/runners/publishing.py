"""What the runners have in common that have a queue beside the store: Celery's, Cloud Tasks', RQ's, Dramatiq's, Huey's.

The store stays the queue. A message of such a runner is a wake-up call: it says that something waits, and whoever gets
it runs what stands first in the store's queue. So priorities, fair shares and ``max_concurrency`` hold whatever the
other queue can do, and a message that comes twice, late or never does no harm: the look-out publishes what nobody
begins again (:mod:`flask_bgtasks.execution.finding.sweep`).
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
import weakref
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ..errors import ConfigurationError, ShuttingDown
from ..runtime.log_lines import Recurring
from .base import QueuelessRunner, Wake

log = logging.getLogger("flask_bgtasks")

T = TypeVar("T")

ANSWER_SECONDS = 5.0
"""How long a Redis may take to answer, where no limit was named: a request waits for it, once in a while."""

AWAY_SECONDS = 30.0
"""For how long nothing is published on a request's own thread after it failed, unless the look-out succeeds before."""


class PublishingRunner(QueuelessRunner):
    """Publishes wake-up calls; processes that get them call :meth:`arrived`.

    :param wake: as ``bgtasks_make_runner`` is given it.
    """

    served_by = "start a worker of it"

    def __init__(self, wake: Wake) -> None:
        super().__init__()
        self._wake = wake
        # By time.monotonic. After a failure: no request waits for what is away, but the look-out of the process.
        self._away_until = 0.0
        self._outage = Recurring(log)  # of wake-up calls for later
        self._passed_on: set[str] = set()  # by this process while it stops; each step on it is one

    @abstractmethod
    def publish(self, request_id: str, queue: str) -> None:
        """Have a process that serves this queue call :meth:`arrived` with the same two.

        :raises Exception: it cannot be reached. That is in the log, and tried again.
        """

    def publish_later(self, request_id: str, queue: str, delay: float) -> None:
        """Have it called after so many seconds, where the queue can keep a message until then.

        If it cannot, nothing is lost: the look-out publishes a task as soon as it is due.

        :raises Exception: the queue cannot be reached.
        """

    def arrived(self, request_id: str, queue: str) -> bool:
        """A wake-up call has come: run what stands first in its queue, in this thread.

        In a process that stops it is passed on, to one that does not; once, since it may come here again.

        :returns: whether the call has done what it was for. If not, a queue that :attr:`repeats` has it come again.
        """
        if self._stopped:
            if not self.repeats and request_id not in self._passed_on:
                self._passed_on.add(request_id)
                self.publish(request_id, queue)
            return False
        # A fresh context: nothing of what the other queue's library has in its own reaches a task.
        return contextvars.Context().run(self._wake, request_id, queue)

    def submit(self, request_id: str, *, delay: float = 0.0, priority: int = 0, queue: str = "default") -> None:
        if self._stopped:
            raise ShuttingDown()
        away = time.monotonic() < self._away_until
        if delay > 0 and away:
            return  # the look-out does it, when the store's time says so
        if away:
            raise ConnectionError("it was away a moment ago; the look-out tries again")
        try:
            if delay > 0:
                self.publish_later(request_id, queue, delay)
            else:
                self.publish(request_id, queue)
        except Exception as error:
            self._away_until = time.monotonic() + AWAY_SECONDS
            if delay <= 0:
                raise
            self._outage.note("retries are published when they are due: %s: %s", type(error).__name__, error)

    def submit_again(self, request_id: str, *, priority: int = 0, queue: str = "default") -> None:
        if self._stopped:
            raise ShuttingDown()
        self.publish(request_id, queue)
        self._away_until = 0.0

    @property
    def publishes(self) -> bool:
        return True


def answering(what: str, ask: Callable[[], object]) -> tuple[str, str | None]:
    """What :meth:`~.base.Runner.examine` says of a queue: whether it answers.

    :param what: the queue, without a password. :param ask: asks it something; raises where it does not answer.
    """
    try:
        ask()
    except Exception as error:  # of whichever library
        return f"queue: {what}", f"{type(error).__name__}: {error}"
    return f"queue: {what}", None


def redis_address(client: Any) -> str:
    """Where a client of redis-py connects to, without a password."""
    options = client.connection_pool.connection_kwargs
    place = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"Redis at {place}/{options.get('db') or 0}"


def checked(found: Any, kind: type[T], name: str, what: str, *, when: str = "") -> T:
    """What the app publishes to.

    :param found: the setting, or what the app keeps.
    :param name: the runner's, which the setting is named after.
    :param what: what it has to be, in words. :param when: until when it has to be there, in words.
    :raises ConfigurationError: there is none, or it is something else.
    """
    setting, kept = f"BGTASKS_{name.upper()}", f'app.extensions["{name}"]'
    if isinstance(found, kind):
        return found
    if found is None:
        raise ConfigurationError(
            f"BGTASKS_RUNNER={name!r}: the app has no {what}. Set {setting} to one, or keep one in {kept}{when}"
        )
    raise ConfigurationError(f"{setting}: expected a {what}, not {type(found).__name__}. Leave it out to use {kept}")


BEFORE = ", before init_app is called: a worker that imports the app has to know what to call"
"""When what an app publishes to has to be there, with a library that tells nobody that a worker begins."""


def addressed(
    holder: Any, name: str, runner: PublishingRunner, register: Callable[[Callable[[str, str], None]], T]
) -> T:
    """What an instance of another queue's library calls when a message of this name comes.

    It is registered once for each name. An app may be made again, as in tests: the newest gets the messages.

    :param holder: the instance, which keeps it. :param register: has the library call a function; what it is sent by.
    """
    with _registering:
        known = vars(holder).setdefault("flask_bgtasks", {})
        if name not in known:
            newest: list[weakref.ref[PublishingRunner]] = []

            def wake(request_id: str, queue: str) -> None:
                found = newest[-1]()
                if found is not None:
                    found.arrived(request_id, queue)

            known[name] = register(wake), newest
        made, newest = known[name]
        newest[:] = [weakref.ref(runner)]
        return cast(T, made)


_registering = threading.Lock()
"""Keeps two threads from both registering a name."""
