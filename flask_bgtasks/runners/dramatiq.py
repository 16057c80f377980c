"""``BGTASKS_RUNNER = "dramatiq"``: tasks run in the workers of a Dramatiq broker that the app has already.

Dramatiq acknowledges a message when its actor has returned, and gives it again when the worker is gone (60 seconds
without a heartbeat, Redis): by then the task goes on elsewhere, and the message finds nothing more to do. Its retries
and its time limit, ten minutes by default (dramatiq.io, "Message Time Limits"), are switched off for our actor.

A middleware tells of a worker's life (dramatiq.io, "Middleware"): in each of the processes that Dramatiq forks, after
the app's modules have been imported there.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import dramatiq
import dramatiq.broker

from .base import Wake, WorkerProcess
from .publishing import BEFORE, PublishingRunner, addressed, answering, checked, redis_address

OPTIONS = {"max_retries": 0, "time_limit": float("inf"), "store_results": False, "notify_shutdown": False}
"""Of our actor; those that no middleware of the broker knows are left out."""


class DramatiqRunner(PublishingRunner):
    """Publishes to a Dramatiq broker.

    :param app_id: in the name of the actor, so that several apps can share a broker.
    :param find: gives the broker; None for the one that ``dramatiq.set_broker`` was given.
    :raises ConfigurationError: there is no broker yet: workers must know the actor once the app's modules are imported.
    """

    def __init__(self, wake: Wake, process: WorkerProcess, *, app_id: str, find: Callable[[], Any]) -> None:
        super().__init__(wake)
        self.process = process
        found = find()
        if found is None:
            found = dramatiq.broker.global_broker  # get_broker() would make one, of RabbitMQ
        self.broker = checked(found, dramatiq.Broker, "dramatiq", "Dramatiq broker", when=BEFORE)
        self._name = f"flask_bgtasks.wake.{app_id}"
        self._actor = addressed(self.broker, self._name, self, self._register)
        _workers_of(self.broker).runners.add(self)

    def _register(self, wake: Callable[[str, str], None]) -> dramatiq.Actor[[str, str], None]:
        known: dict[str, Any] = {name: value for name, value in OPTIONS.items() if name in self.broker.actor_options}
        return dramatiq.actor(actor_name=self._name, broker=self.broker, **known)(wake)

    def publish(self, request_id: str, queue: str) -> None:
        message = self._actor.message(request_id, queue)
        if queue != "default":
            self.broker.declare_queue(queue)  # some brokers want that of who sends, too
            message = message.copy(queue_name=queue)
        self.broker.enqueue(message)

    def examine(self) -> Iterable[tuple[str, str | None]]:
        client: Any = getattr(self.broker, "client", None)
        if hasattr(client, "connection_pool"):  # of redis-py, which need not be installed for other brokers
            yield answering(redis_address(client), client.ping)


class _Workers(dramatiq.Middleware):
    """Hears of the workers of one broker, for the apps that publish to it."""

    def __init__(self) -> None:
        self.runners: weakref.WeakSet[DramatiqRunner] = weakref.WeakSet()

    def before_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        for runner in self.runners:
            for queue in runner.process.queues:  # a worker takes messages of those queues only that are declared
                broker.declare_queue(queue)

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        for runner in self.runners:
            runner.process.begin()

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        for runner in self.runners:
            runner.process.stop()

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        for runner in self.runners:
            runner.process.end(grace=0)


def _workers_of(broker: dramatiq.Broker) -> _Workers:
    """The broker's middleware of ours, added on first use: Dramatiq warns of a second one."""
    for middleware in broker.middleware:
        if isinstance(middleware, _Workers):
            return middleware
    added = _Workers()
    broker.add_middleware(added)
    return added
