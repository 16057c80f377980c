"""Waits for a task inside a request: long polls, ``Prefer: wait``, repeated requests. Each wait holds a thread."""

from __future__ import annotations

import time
from collections.abc import Callable

from ...app.state import AppState
from ...core.model import Status, Task
from ...runtime.connection import LOOK_SECONDS


def wait_until(
    state: AppState,
    request_id: str,
    reached: Callable[[Task], bool],
    *,
    seconds: float,
    cut_short: Callable[[], bool],
) -> Task:
    """Wait until the task is as wanted, the time is over, the client has gone or this process stops.

    :param reached: whether the task is as wanted; asked again after each of its changes.
    :returns: the task, as wanted or not.
    :raises TaskNotFound: it was deleted.
    """
    deadline = time.monotonic() + seconds
    with state.watcher.follow([request_id]) as following:
        while not reached(task := following.task(request_id)):
            left = deadline - time.monotonic()
            if left <= 0 or state.runner.draining or cut_short():
                break
            following.wait(min(left, LOOK_SECONDS))
    return task


def wait_for_end(state: AppState, request_id: str, *, patience: float, cut_short: Callable[[], bool]) -> Task:
    """Wait for the end of a task as long as someone works on it, with no other limit: as the request itself would.

    :param patience: seconds for it to begin, and for its lease to be renewed by somebody once that ran out.
    :returns: the task, which has not ended if nobody works on it, or if the client has gone.
    """
    impatient = time.monotonic() + patience
    while True:
        task = wait_until(state, request_id, _done, seconds=min(patience, LOOK_SECONDS * 5), cut_short=cut_short)
        if task.done or cut_short() or state.runner.draining:
            return task
        task = state.store.get(request_id)  # renewals are no events: only the store knows of them
        lease = task.lease_until
        if task.status is Status.PROCESSING and lease is not None and lease > state.store.now():
            impatient = time.monotonic() + patience
        elif time.monotonic() >= impatient:
            return task


def _done(task: Task) -> bool:
    return task.done
