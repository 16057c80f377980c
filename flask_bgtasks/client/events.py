"""What a consumer gets about a task: its events, and its outcome at the end. Values without behaviour.

The names of types and fields are the server's (:doc:`/reference/http`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..errors import TaskCancelled, TaskFailed, TaskGone, TaskRejected

TERMINAL = frozenset({"completed", "failed", "cancelled"})
"""Statuses after which nothing comes but an explicit retry. Any other, known here or not, means that it goes on."""


class Kind(str, Enum):
    """What an event is about."""

    PROGRESS = "progress"
    STEP = "step"
    OUTPUT = "output"
    TERMINAL = "terminal"


KINDS = {
    "step_started": Kind.STEP,
    "step_finished": Kind.STEP,
    "output": Kind.OUTPUT,
    **dict.fromkeys(TERMINAL, Kind.TERMINAL),
}
"""Of the server's event types; all others are progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEvent:
    """Something happened to a task.

    :param kind: what it is about.
    :param type: the server's name for it, such as ``"step_started"``; ``"status"`` if it was learnt by polling.
    :param seq: its number in the task's history.
    :param attempt: the attempt that it belongs to.
    :param percentage: how far the task is; never less than in an earlier event.
    :param data: the server's event document.
    :param via: ``"stream"``, ``"poll"``, ``"firestore"``, or ``"client"`` for the client's own decisions.
    """

    kind: Kind
    type: str
    key: str
    request_id: str | None
    seq: int
    attempt: int
    status: str
    percentage: float
    data: Mapping[str, Any] = field(default_factory=dict)
    via: str = "stream"

    @property
    def step(self) -> str | None:
        """The step that it names."""
        return self.data.get("step")

    @property
    def details(self) -> str | None:
        """What the pipeline says of it."""
        return self.data.get("details")

    @property
    def chunks(self) -> list[Any]:
        """The pieces of output that it brings."""
        return self.data.get("chunks") or []


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a task ended.

    :param status: ``"completed"``, ``"failed"``, ``"cancelled"``; ``"rejected"``: it was never accepted;
        ``"gone"``: the server no longer knows it.
    :param result: what the view answered: parsed if it is JSON, else bytes.
    """

    key: str
    request_id: str | None
    path: str | None
    status: str
    result: Any = None
    error_message: str | None = None
    seq: int = 0
    attempt: int = 0
    via: str = "poll"

    def unwrap(self) -> Any:
        """The result of a completed task.

        :raises TaskFailed: it failed.
        :raises TaskCancelled: it was cancelled.
        :raises TaskRejected: the server did not accept it.
        :raises TaskGone: the server no longer knows it.
        """
        if self.status == "completed":
            return self.result
        if self.status == "rejected":
            raise TaskRejected(self.key, self.error_message or "")
        name = self.request_id or self.key
        if self.status == "gone":
            raise TaskGone(name, self.error_message)
        if self.status == "cancelled":
            raise TaskCancelled(name)
        raise TaskFailed(name, self.error_message)
