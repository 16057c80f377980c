"""What ``track_request`` hands to its block: the task, and a way to give it a result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..execution import invocation
from ..pipeline.attempt import RunningAttempt

if TYPE_CHECKING:
    from .state import AppState


class TrackedTask:
    """A task that runs where it stands. ``step``, ``track`` and ``current_task`` report into it inside the block."""

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
        """Whether someone asked it to stop."""
        return self._running.stopped is not None

    def set_result(self, value: Any) -> None:
        """What the task is completed with, JSON.

        :raises NotSerializable: it is not JSON. :raises PayloadTooLarge: it is larger than what is stored.
        """
        state = self._state
        limit = state.settings.max_result_bytes
        self._running.result = invocation.json_result(state.app, value, "track_request", limit)
