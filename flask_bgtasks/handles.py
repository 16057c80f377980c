"""What ``submit`` gives back: a handle on one task, for server-side code. It checks no owner."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .clean_json import parsed
from .errors import TaskFailed, TaskWasCancelled, WaitTimeout
from .model import Progress, Result, Status, Task

if TYPE_CHECKING:
    from .state import AppState

LONGEST_WAIT_SECONDS = 3600.0  # of one wake-up; a wait without a limit just waits again


class TaskHandle:
    """One task. Cheap: it holds the id, and asks the store each time."""

    __slots__ = ("_state", "request_id")

    def __init__(self, state: AppState, request_id: str) -> None:
        self._state = state
        self.request_id = request_id

    @property
    def task(self) -> Task:
        """The task as it stands now. :raises TaskNotFound: it was deleted."""
        return self._state.store.get(self.request_id)

    @property
    def status(self) -> Status:
        """The task's status now."""
        return self.task.status

    @property
    def progress(self) -> Progress | None:
        """Where it is now, None before the first report."""
        return self.task.progress

    def wait(self, *, timeout: float | None = None) -> Any:
        """Wait for the end and return the result: a function's value, or what a view answered, parsed if it is JSON.

        :param timeout: seconds; None to wait without a limit.
        :raises TaskFailed: it failed. :raises TaskWasCancelled: it was cancelled.
        :raises WaitTimeout: not in time; the task goes on.
        """
        task = self.wait_until_done(timeout=timeout)
        if task.status is Status.FAILED:
            raise TaskFailed(self.request_id, task.error_message, error_type=task.error_type)
        if task.status is Status.CANCELLED:
            raise TaskWasCancelled(self.request_id)
        return self.result_data()

    def wait_until_done(self, *, timeout: float | None = None) -> Task:
        """Wait for the end, whatever it is, and return the task. :raises WaitTimeout: not in time."""
        task = self.task
        if task.done:
            return task
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._state.watcher.follow([self.request_id]) as following:
            while not (task := following.task(self.request_id)).done:
                left = LONGEST_WAIT_SECONDS if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    raise WaitTimeout(self.request_id, timeout or 0)
                following.wait(left)
        return task

    def result(self) -> Result | None:
        """What is stored of the answer, None while there is nothing."""
        return self._state.store.load_result(self.request_id)

    def result_data(self) -> Any:
        """The answer: parsed where it is JSON, else its bytes; None while there is nothing."""
        result = self.result()
        if result is None:
            return None
        found = parsed(result.body) if "json" in result.content_type else None
        return result.body if found is None else found[0]

    def cancel(self) -> Task:
        """Ask the task to stop; the task after that."""
        return self._state.cancel(self.request_id).task

    def retry(self) -> Task:
        """Run a failed or cancelled task again. :raises TransitionRefused: it is neither."""
        return self._state.retry(self.request_id).task

    def __repr__(self) -> str:
        return f"<TaskHandle {self.request_id}>"
