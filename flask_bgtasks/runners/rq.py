"""``BGTASKS_RUNNER = "rq"``: tasks run in RQ's workers, each in a process of its own, if the worker forks.

A job names :func:`wake`, which RQ finds by its dotted path, and the app. A worker must have imported that, most easily
as its module of settings (``rq worker --config MODULE``), once, before it forks.

RQ's time limit, 180 seconds by default, is switched off for our jobs, and their results are not kept (python-rq.org,
"Enqueueing Jobs", "Results"). RQ tells a work horse nothing when its worker is told to stop, but notes that in Redis,
where it is read.
"""

from __future__ import annotations

import importlib
import os
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import redis
import rq
from rq.job import Job
from rq.worker import BaseWorker

from ..errors import ConfigurationError
from ..wording import NO_REDIS_ADDRESS
from .base import Wake, WorkerProcess
from .publishing import ANSWER_SECONDS, BEFORE, PublishingRunner, answering, checked, redis_address

NO_LIMIT = -1
"""A job's ``timeout`` that is none."""

FAILED_SECONDS = 86_400
"""For how long RQ keeps a job that could not run anything, for whoever looks at RQ's own lists."""


class RqRunner(PublishingRunner):
    """Publishes to RQ.

    :param app_id: travels with a job, so that it is run by the app that published it.
    :param find: gives the RQ queue of our queue ``default``, or the address of its Redis; our other queues have RQ
        queues of the same names beside it.
    :raises ConfigurationError: there is neither.
    """

    def __init__(self, wake: Wake, process: WorkerProcess, *, app_id: str, find: Callable[[], Any]) -> None:
        super().__init__(wake)
        self.process = process
        self._app_id = app_id
        found = find()
        if isinstance(found, str):
            found = rq.Queue(connection=_redis(found))
        self.queue = checked(found, rq.Queue, "rq", "RQ queue, or the address of a Redis", when=BEFORE)
        _runners[app_id] = self

    def publish(self, request_id: str, queue: str) -> None:
        where = self.queue
        if queue != "default":
            where = type(where)(
                queue,
                connection=where.connection,
                is_async=where.is_async,
                job_class=where.job_class,
                serializer=where.serializer,
                death_penalty_class=where.death_penalty_class,
            )
        where.enqueue_call(
            wake,
            args=(self._app_id, request_id, queue),
            timeout=NO_LIMIT,
            result_ttl=0,
            failure_ttl=FAILED_SECONDS,
            description=f"flask_bgtasks.wake({request_id!r}, {queue!r})",
        )

    def examine(self) -> Iterable[tuple[str, str | None]]:
        yield answering(redis_address(self.queue.connection), self.queue.connection.ping)


def _redis(address: str) -> redis.Redis:
    try:
        return redis.Redis.from_url(address, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS)
    except ValueError:  # its text may have the password, or a part of it
        raise ConfigurationError(f"BGTASKS_RQ: {NO_REDIS_ADDRESS}") from None


_runners: weakref.WeakValueDictionary[str, RqRunner] = weakref.WeakValueDictionary()
"""The newest of each app in this process: an app may be made again, as in tests."""


def wake(app_id: str, request_id: str, queue: str) -> None:
    """What RQ calls: have this process run what stands first in a queue of an app.

    :raises ConfigurationError: this process has no such app, and finds none.
    """
    runner, job = _runners.get(app_id) or _found(app_id), rq.get_current_job()
    if job is None or job.worker_name is None:  # a queue that was made with `is_async=False` calls this where it stands
        runner.arrived(request_id, queue)
        return
    runner.process.begin(lambda: _told_to_stop(job))
    try:
        runner.arrived(request_id, queue)
    finally:
        if os.environ.get("RQ_WORKER_ID") == job.worker_name:  # a work horse, which ends without any ceremony
            runner.process.end()


def _told_to_stop(job: Job) -> bool:
    """Whether RQ's worker was told to stop: it has noted that, and waits for its job to end."""
    with suppress(redis.RedisError):  # who cannot be asked has said nothing
        key = f"{BaseWorker.redis_worker_namespace_prefix}{job.worker_name}"
        return job.connection.hget(key, "shutdown_requested_date") is not None
    return False


def _found(app_id: str) -> RqRunner:
    """The runner of an app that is not imported here, as in a horse that is spawned and knows nothing of its worker."""
    module = os.environ.get("RQ_CONFIG")
    if module is not None:
        importlib.import_module(module)
    if app_id not in _runners:
        raise ConfigurationError(
            f"this RQ worker does not have the app {app_id!r}: have it import the app (rq worker --config MODULE, or "
            "RQ_CONFIG). If it is another app's, give each an RQ queue of its own"
        )
    return _runners[app_id]
