"""For code that the library does not run itself: ``update_status``, ``update_progress``, and ``track_request``.

They report on behalf of the task's current attempt; the state machine accepts or refuses as for any attempt.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ..auth.owners import is_id
from ..core.model import Progress, Status, Task
from ..core.steps import as_float
from ..core.text.clean import text_of
from ..core.text.redaction import redact
from ..core.transitions.attempt import Cancel, Complete, Fail
from ..core.transitions.transition import Change
from ..errors import ConfigurationError, TransitionRefused
from ..execution import invocation
from ..pipeline.attempt import RunningAttempt

if TYPE_CHECKING:
    from .state import AppState


BY_HAND = "by hand"

MAX_STEPS = 10**9  # a step's number is shown, and mirrored as an integer of 64 bits

LEASE = timedelta(hours=1)
"""How long tracked code may be silent before it counts as dead; each of its calls renews the lease."""


def checked_id(request_id: str | None) -> str | None:
    """:raises ConfigurationError: this is not a valid task id."""
    if request_id is not None and not is_id(request_id):
        raise ConfigurationError(
            f"request_id={request_id!r}: expected a UUID in lower case, as str(uuid.uuid4()) returns it"
        )
    return request_id


def update_status(
    state: AppState, request_id: str, status: Status | str, result_data: Any, error_message: str | None
) -> Task:
    """See :meth:`flask_bgtasks.BackgroundTasks.update_status`."""
    try:
        target = Status(status)
    except ValueError:
        names = ", ".join(s.value for s in Status)
        raise ValueError(f"update_status(status={status!r}): expected one of {names}") from None
    task = state.store.get(request_id)
    if task.status is target:
        return task
    if task.status is Status.STARTED and target is not Status.STARTED:
        task = state.store.claim(request_id, worker=BY_HAND, lease=LEASE, deliveries=state.deliveries.for_change).task
    if target is Status.PROCESSING and task.status is Status.PROCESSING:
        return task
    change: Change
    if target is Status.COMPLETED:
        result = invocation.json_result(state.app, result_data, task.name, state.settings.max_result_bytes)
        change = Complete(task.attempt, result)
    elif target is Status.FAILED:
        change = Fail(task.attempt, redact(text_of(error_message)) if error_message else "the task failed")
    elif target is Status.CANCELLED:
        change = Cancel(task.attempt)
    else:
        raise TransitionRefused(
            request_id,
            status=task.status.value,
            change=f"update_status({target.value!r})",
            why="a task never goes back",
        )
    return state.engine.end_by_hand(task, change).task


def update_progress(
    state: AppState, request_id: str, step: str, step_number: int, total_steps: int, details: str | None
) -> Task:
    """See :meth:`flask_bgtasks.BackgroundTasks.update_progress`."""
    numbers = as_float(step_number), as_float(total_steps)
    if None in numbers or not 1 <= step_number <= total_steps <= MAX_STEPS:
        raise ValueError(
            f"update_progress(step_number={step_number!r:.80}, total_steps={total_steps!r:.80}): "
            f"step_number counts from 1 to total_steps, which is {MAX_STEPS} at most"
        )
    task = state.store.get(request_id)
    if task.status is Status.STARTED:
        task = update_status(state, request_id, Status.PROCESSING, None, None)
    progress = Progress(
        updated_at=state.store.now(),
        attempt=task.attempt,
        percentage=round(100 * (int(step_number) - 1) / int(total_steps), 2),
        step=step,
        step_number=int(step_number),
        total_steps=int(total_steps),
        details=details,
    )
    after = state.store.save_progress(request_id, attempt=task.attempt, progress=progress)
    if task.worker == BY_HAND:
        state.store.renew(request_id, attempt=task.attempt, lease=LEASE)
    if after.progress is not None:
        state.deliveries.offer_progress(after, after.progress)
    return after


class TrackedTask:
    """A task that runs in place. ``step``, ``track`` and ``current_task`` report to it inside the block."""

    __slots__ = ("_running", "_state")

    def __init__(self, state: AppState, running: RunningAttempt) -> None:
        self._state = state
        self._running = running

    @property
    def request_id(self) -> str:
        """The id, to give to the client."""
        return self._running.request_id

    @property
    def cancelled(self) -> bool:
        """Whether the task was asked to stop."""
        return self._running.stopped is not None

    def set_result(self, value: Any) -> None:
        """Set the result with which the task will be completed, JSON.

        :raises NotSerializable: it is not JSON. :raises PayloadTooLarge: it is too large to be stored.
        """
        state = self._state
        limit = state.settings.max_result_bytes
        self._running.result = invocation.json_result(state.app, value, "track_request", limit)
