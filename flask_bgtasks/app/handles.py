"""What ``@task`` makes of a function, and what ``submit`` returns: a handle on one task, for server-side code.

A handle does not check the owner. Both carry the types of the function, for users' type checkers.
"""

from __future__ import annotations

import contextvars
import functools
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from ..core.definitions import TaskDefinition
from ..core.model import Progress, Result, Status, Task, TaskKind
from ..core.text.json_values import parsed
from ..errors import BackgroundTasksError, TaskCancelled, TaskFailed, WaitTimeout
from ..pipeline import reporting
from ..wrapping.marks import mark

if TYPE_CHECKING:
    from .state import AppState

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)

log = logging.getLogger("flask_bgtasks")

STAND_IN_SECONDS = 0.25
"""How often a task that waits for another one checks for a free thread, and whether it is cancelled itself."""

MAX_WAIT_SECONDS = 3600.0  # of one wake-up; a wait without a limit just waits again


class TaskHandle(Generic[T_co]):
    """One task. Cheap to make: it holds only the id, and asks the store each time.

    For type checkers, a ``TaskHandle[str]`` is a task whose result is a string; the result type of a view is unknown.
    """

    __slots__ = ("_state", "request_id")

    def __init__(self, state: AppState, request_id: str) -> None:
        self._state = state
        self.request_id = request_id

    @property
    def task(self) -> Task:
        """The task in its current state. :raises TaskNotFound: it was deleted."""
        return self._state.store.get(self.request_id)

    @property
    def status(self) -> Status:
        """The task's current status."""
        return self.task.status

    @property
    def progress(self) -> Progress | None:
        """The newest progress; None before the first report."""
        return self.task.progress

    def wait(self, *, timeout: float | None = None) -> T_co:
        """Wait for the end and return the result: a function's value, or what a view answered, parsed if it is JSON.

        The value has been stored as JSON: a tuple comes back as a list.

        :param timeout: seconds; None to wait without a limit.
        :raises TaskFailed: it failed. :raises TaskCancelled: it was cancelled.
        :raises WaitTimeout: it did not end in time; it keeps running.
        """
        task = self.wait_until_done(timeout=timeout)
        if task.status is Status.FAILED:
            raise TaskFailed(self.request_id, task.error_message, error_type=task.error_type)
        if task.status is Status.CANCELLED:
            raise TaskCancelled(self.request_id)
        return cast(T_co, self.result_data())

    def wait_until_done(self, *, timeout: float | None = None) -> Task:
        """Wait until the task has ended, however it ends, and return it.

        If this is called inside a task while all threads are busy, an extra thread runs the awaited task, so that
        tasks which wait for each other cannot block each other.

        :raises WaitTimeout: it did not end in time.
        :raises CancelRequested: the waiting task was cancelled.
        """
        task = self.task
        if task.done:
            return task
        deadline = None if timeout is None else time.monotonic() + timeout
        waiting = reporting.current()
        stand_in = None if waiting is None else _StandIn(self._state, waiting[0].request_id)
        with self._state.watcher.follow([self.request_id]) as following:
            while not (task := following.task(self.request_id)).done:
                left = MAX_WAIT_SECONDS if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    raise WaitTimeout(self.request_id, timeout or 0)
                if waiting is not None and stand_in is not None:
                    waiting[0].check()
                    stand_in.look(task)
                    left = min(left, STAND_IN_SECONDS)
                following.wait(left)
        return task

    def result(self) -> Result | None:
        """The stored result; None while there is none."""
        return self._state.store.load_result(self.request_id)

    def result_data(self) -> T_co | None:
        """The result: parsed if it is JSON, else its bytes; None while there is none."""
        result = self.result()
        if result is None:
            return None
        found = parsed(result.body) if result.is_json else None
        return cast(T_co, result.body if found is None else found[0])

    def cancel(self) -> Task:
        """Ask the task to stop, and return the changed task."""
        return self._state.cancel(self.request_id).task

    def retry(self) -> Task:
        """Run a failed or cancelled task again.

        :raises TransitionRefused: it is neither failed nor cancelled. :raises LimitReached: too many tasks are waiting.
        """
        return self._state.retry(self.request_id).task

    def __repr__(self) -> str:
        return f"<TaskHandle {self.request_id}>"


Submit = Callable[[TaskDefinition, Sequence[Any], Mapping[str, Any], "str | None", "str | None"], TaskHandle[Any]]
"""Stores a task and has it run: its definition, arguments by place and by name, owner, address for notifications."""


class TaskFunction(Generic[P, R_co, T_co]):
    """A function under ``@task``: calling it just calls it; :meth:`submit` runs the call as a task.

    For type checkers, ``TaskFunction[[int], str, str]`` takes an int, and both a call and a task of it result in a
    string. For an async function, a call results in a coroutine, and a task in what the coroutine returns.
    """

    def __init__(self, definition: TaskDefinition, submit: Submit) -> None:
        assert definition.function is not None
        functools.update_wrapper(self, definition.function)
        self._submit = submit
        self._function = definition.function
        self.definition = definition
        mark(self, definition)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return cast(R_co, self._function(*args, **kwargs))

    # No keyword may stand between P.args and P.kwargs (PEP 612), so that with `owner` or `user_token` a checker does
    # not know the function's arguments.
    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[T_co]: ...

    @overload
    def submit(
        self, *args: Any, owner: str | None, user_token: str | None = None, **kwargs: Any
    ) -> TaskHandle[T_co]: ...

    @overload
    def submit(self, *args: Any, user_token: str | None, **kwargs: Any) -> TaskHandle[T_co]: ...

    def submit(  # type: ignore[misc]  # the function may have a parameter of these names, which it is then not given
        self, *args: Any, owner: str | None = None, user_token: str | None = None, **kwargs: Any
    ) -> TaskHandle[T_co]:
        """Store a task that makes this call, and hand it to the runner. Needs an app context.

        :param args: the function's arguments, JSON. Type checkers check them, unless ``owner`` or ``user_token`` is
            given.
        :param owner: whose task it is; in a request, None means the request's owner.
        :param user_token: where to send the notification.
        :raises NotSerializable: an argument is not JSON.
        :raises LimitReached: the queue is full, or this process is stopping.
        """
        return self._submit(self.definition, args, kwargs, owner, user_token)


AsyncTaskFunction = TaskFunction[P, Coroutine[Any, Any, T], T]


class TaskDecorator(Protocol):
    """What ``@task(…)`` returns: turns a function into a :class:`TaskFunction`."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]], /) -> AsyncTaskFunction[P, T]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> TaskFunction[P, R, R]: ...


class _StandIn:
    """Runs the task that another task waits for while no thread here is free; else both would wait forever.

    A thread of its own, so that nothing of the waiting task (its contexts, its sessions, its event loop) is touched.

    :param waiting: the id of the task that waits.
    """

    def __init__(self, state: AppState, waiting: str) -> None:
        self._state = state
        self._waiting = waiting
        self._thread: threading.Thread | None = None
        self._told = False

    def look(self, task: Task) -> None:
        """Run the awaited task, if nobody does and no thread here could."""
        state = self._state
        if task.held or state.runner.free > 0 or state.runner.draining:
            return
        if self._thread is not None and self._thread.is_alive():
            return
        if task.lease_until is not None and task.lease_until > state.store.now():
            return  # it waits for its next attempt, or whoever has made it runs it
        runs_here = task.name in state.registry and task.kind is not TaskKind.TRACKED
        runs_here = runs_here and task.queue == state.store.get(self._waiting).queue
        if self._thread is not None or not runs_here:  # it has been tried, and was refused
            self._tell(task)
        if runs_here:
            state.runner.cancel(task.request_id)  # what is forgotten here stays in the store
            self._thread = threading.Thread(
                target=self._run, args=(task.request_id,), name="bgtasks-stand-in", daemon=True
            )
            self._thread.start()

    def _run(self, request_id: str) -> None:
        try:
            contextvars.Context().run(self._state.engine.run, request_id)
        except BackgroundTasksError as error:
            log.warning("task %s cannot be begun: %s", request_id, error)
        except BaseException:  # as in the runner's threads: a task that calls sys.exit() has been told
            log.exception("the run of task %s broke", request_id)

    def _tell(self, task: Task) -> None:
        """Say once what may be a wait without an end: it is another process's to run, or has been refused here."""
        if not self._told:
            self._told = True
            log.warning(
                "task %s waits for task %s (%r), which cannot begin here: its max_concurrency is reached, or its queue "
                "(%r) is not served here. If it waits for a place that the waiting task holds, this never ends",
                self._waiting,
                task.request_id,
                task.name,
                task.queue,
            )
