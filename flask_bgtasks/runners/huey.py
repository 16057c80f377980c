"""``BGTASKS_RUNNER = "huey"``: tasks run in the consumer of a Huey instance that the app has already.

Huey forgets a task when a worker takes it, and keeps no result where a function returns None: there is nothing to
switch off. A Huey instance is one queue: for tasks with ``queue=`` name an instance for each.

Huey calls start-up hooks in each of its workers (huey.readthedocs.io, "on_startup"), be they threads, greenlets or
processes, and shut-down hooks when one ends. It has none for the moment in which it is told to stop: that is read from
the flag of the worker that calls the start-up hook, which all workers of a consumer share.
"""

from __future__ import annotations

import multiprocessing
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import FrameType
from typing import Any

import huey
from huey.consumer import BaseProcess

from .base import Wake, WorkerProcess
from .publishing import BEFORE, PublishingRunner, addressed, answering, checked


class HueyRunner(PublishingRunner):
    """Publishes to Huey.

    :param app_id: in the name of the Huey task, so that several apps can share an instance.
    :param find: gives the Huey instance, or instances by the names of our queues, of which one is ``default``.
    :raises ConfigurationError: there is none yet: consumers must know the task once the app's modules are imported.
    """

    def __init__(self, wake: Wake, process: WorkerProcess, *, app_id: str, find: Callable[[], Any]) -> None:
        super().__init__(wake)
        self.process = process
        found = find()
        several = isinstance(found, Mapping)
        given = {"default": None, **found} if several else {"default": found}
        name = f"flask_bgtasks.wake.{app_id}"
        self._tasks = {}
        for queue, one in given.items():
            what = f"Huey instance for the queue {queue!r}" if several else "Huey instance"
            instance = checked(one, huey.Huey, "huey", what, when=BEFORE)
            self._tasks[queue] = addressed(instance, name, self, instance.task(name=name))
            _watch(instance, name, self)

    def publish(self, request_id: str, queue: str) -> None:
        task = self._tasks.get(queue) or self._tasks["default"]
        task(request_id, queue)

    def examine(self) -> Iterable[tuple[str, str | None]]:
        for queue, task in self._tasks.items():
            yield answering(f"{task.huey.name} for {queue!r}", task.huey.pending_count)


def _watch(instance: huey.Huey, name: str, runner: HueyRunner) -> None:
    """Hear of the workers of an instance. Hooks are kept by name: those of an app that was made before are replaced."""
    this = weakref.ref(runner)

    def begin() -> None:
        found, flag = this(), _stop_flag()
        if found is not None:
            found.process.begin(None if flag is None else flag.is_set)

    def end() -> None:
        found, flag = this(), _stop_flag()
        if found is None:
            return
        if multiprocessing.parent_process() is not None:
            found.process.end(grace=0)  # such a process ends without calling what is registered for its end
        elif flag is None or flag.is_set():  # else one worker of several ends, and is replaced
            found.process.stop()

    instance.on_startup(name=name)(begin)
    instance.on_shutdown(name=name)(end)


def _stop_flag() -> Any:
    """What says that the consumer was told to stop: its worker, which calls the hook, is found on the stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        worker = frame.f_locals.get("self")
        if isinstance(worker, BaseProcess):
            return worker.stop_flag
        frame = frame.f_back
    return None
