"""``BGTASKS_RUNNER = "celery"``: tasks run in the workers of a Celery instance that the app has already.

A message carries a task's id and the name of its queue, and is acknowledged when it arrives: whether a task was run,
and what it came to, is in the store alone. So Celery's results, its acknowledgement after the run, its retries and its
revocation are not used: each would be a second authority (docs/decisions/0029).

Celery's signals (docs.celeryq.dev, "Signals") tell of a worker's life. What runs tasks looks after the store as well:
the children of a prefork pool, or the one process of the others.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import celery
import kombu.pools
from celery import signals
from celery.local import Proxy

from ..runtime.background_thread import Contained
from ..runtime.fork import after_fork_in_child
from .base import Wake, WorkerProcess
from .publishing import ANSWER_SECONDS, PublishingRunner, addressed, answering, checked

PREFORK = "celery.concurrency.prefork"

LIMITS = {"redis": {"socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS}}
"""Options of kombu's transports, by their kind; an app's own go before them. That of Redis has no time limit (kombu
5.6); that of RabbitMQ waits for no answer to a message, and ``broker_connection_timeout`` is 4 seconds."""

MAX_CHILDREN = 4096  # bytes: what POSIX writes to a pipe at once; Celery's default is one child for each core


class CeleryRunner(PublishingRunner):
    """Publishes to Celery.

    :param app_id: in the name of the Celery task, so that several apps can share a broker.
    :param find: gives the Celery instance, None while the app has none: it may be made after the app.
    """

    def __init__(self, wake: Wake, process: WorkerProcess, *, app_id: str, find: Callable[[], Any]) -> None:
        super().__init__(wake)
        self.process = process
        self._find = find
        self._name = f"flask_bgtasks.wake.{app_id}"
        self._registered: Any = None
        self._producers: Any = None  # of this process; made on first use
        after_fork_in_child(self._forget)
        _runners.add(self)

    def _forget(self) -> None:
        self._producers = None  # connections are the parent's

    def celery(self) -> celery.Celery:
        """The Celery instance. :raises ConfigurationError: the app has none yet, or it is something else."""
        found = self._find()
        if isinstance(found, Proxy):  # `celery.current_app`
            found = found._get_current_object()
        return checked(found, celery.Celery, "celery", "Celery instance")

    def check(self) -> None:
        self.task()

    def task(self) -> Any:
        """The Celery task, registered on first use. :raises ConfigurationError: the app has no Celery instance."""
        if self._registered is None:
            instance = self.celery()
            options = {"ignore_result": True, "acks_late": False, "max_retries": 0, "serializer": "json"}
            register = instance.task(name=self._name, shared=False, **options)
            self._registered = addressed(instance, self._name, self, register)
        return self._registered

    def publish(self, request_id: str, queue: str) -> None:
        task, where = self.task(), {} if queue == "default" else {"queue": queue}
        if task.app.conf.task_always_eager:  # it runs here and now, and may publish the next one
            task.apply_async((request_id, queue), **where)
            return
        if self._producers is None:
            self._producers = kombu.pools.producers[self._connection(task.app)]
        with self._producers.acquire(block=True, timeout=ANSWER_SECONDS) as producer:
            task.apply_async((request_id, queue), producer=producer, retry=False, **where)

    @staticmethod
    def _connection(instance: Any) -> Any:
        """Where to publish. One try: the look-out tries again. And no request waits for a broker without end."""
        given = instance.conf.broker_transport_options or {}
        limits = LIMITS.get(instance.connection_for_write().transport.driver_type, {})
        # `retry=False` of a call alone says nothing of the connection that is missing.
        return instance.connection_for_write(transport_options={**limits, **given, "max_retries": 0})

    def examine(self) -> Iterable[tuple[str, str | None]]:
        instance = self.celery()
        with self._connection(instance) as connection:
            yield answering(connection.as_uri(), connection.channel)  # a password is not in it


_runners: weakref.WeakSet[CeleryRunner] = weakref.WeakSet()


class _Worker:
    """A Celery worker in this process, and in the children that it forks."""

    def __init__(self) -> None:
        self.runners: Sequence[CeleryRunner] = ()
        # Of a prefork pool, whose children Celery tells nothing: the parent writes to the second end when it is told to
        # stop; when it is no more, that is closed.
        self.living: tuple[int, int] | None = None
        self.pid = 0

    def init(self, instance: Any) -> None:
        """It is about to begin: have our tasks registered, whether anybody has published by then or not."""
        mine = []
        for runner in list(_runners):
            with Contained("an app's tasks are not registered with Celery"):
                if runner.celery() is instance:
                    runner.task()
                    mine.append(runner)
        self.runners = mine
        if self.runners and self.living is None:
            self.living, self.pid = os.pipe(), os.getpid()

    def begin(self) -> None:
        """Tasks run in this process."""
        for runner in self.runners:
            runner.process.begin()

    def forked(self) -> None:
        """This is a child: it runs tasks, until the parent says that it stops, or dies."""
        if self.living is None or self.pid == os.getpid():  # a solo pool says so too, and forks nothing
            return
        receiver, sender = self.living
        os.close(sender)
        threading.Thread(target=self._await_stop, args=(receiver,), name="bgtasks-celery", daemon=True).start()
        self.begin()

    def _await_stop(self, receiver: int) -> None:
        with Contained("the end of the Celery worker is not noticed"):
            os.read(receiver, 1)
        for runner in self.runners:
            runner.process.stop()

    def stop(self) -> None:
        """The worker was told to stop."""
        if self.living is not None:
            receiver, sender = self.living
            self.living = None
            os.write(sender, bytes(MAX_CHILDREN))  # one for each: closing it says nothing while a fork has it open too
            os.close(sender)
            os.close(receiver)
        for runner in self.runners:
            runner.process.stop()

    def end(self) -> None:
        """This process ends, and what Celery let finish has."""
        for runner in self.runners:
            runner.process.end(grace=0)


_worker = _Worker()


def _on_init(sender: Any, **_: Any) -> None:
    _worker.init(sender.app)


def _on_child(**_: Any) -> None:
    _worker.forked()


def _on_ready(sender: Any, **_: Any) -> None:
    if type(sender.pool).__module__ != PREFORK:
        _worker.begin()


def _on_stop(**_: Any) -> None:
    _worker.stop()


def _on_end(**_: Any) -> None:
    _worker.end()


signals.worker_init.connect(_on_init)
signals.worker_process_init.connect(_on_child)
signals.worker_ready.connect(_on_ready)
signals.worker_shutting_down.connect(_on_stop)
signals.worker_process_shutdown.connect(_on_end)
signals.worker_shutdown.connect(_on_end)
