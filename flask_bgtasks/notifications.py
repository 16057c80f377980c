"""What a user is told when a task ends: the notification, made from the task's ``notify=`` option and its result.

Says what is to be sent and to whom; sinks do the sending.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .model import Status, Task

Notify = str | Callable[..., Any] | None
"""A title, a format string over the result's fields, or ``function(task, result_data)`` giving a
:class:`Notification`, a title, or None for no notification."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One message to one user. ``data`` holds texts only and never the result: every channel carries it openly."""

    title: str
    body: str = ""
    user_token: str | None = field(default=None, repr=False)
    owner: str | None = None
    request_id: str | None = None
    data: Mapping[str, str] = field(default_factory=dict)


class _Fields(dict[str, Any]):
    """Format fields; one that the result lacks stands as it was written, so that a text is never lost."""

    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


def for_task(task: Task, notify: Notify, result_data: Any) -> Notification | None:
    """The notification that a finished task owes its user, None when it owes none.

    :param notify: the task's option.
    :param result_data: the result as parsed JSON, None where it is none; its top-level fields are the format fields.
    """
    made = notify(task, result_data) if callable(notify) else notify
    if not made:
        return None
    if isinstance(made, Notification):
        title, body, extra = made.title, made.body, made.data
    else:
        names = result_data if isinstance(result_data, Mapping) else {}
        title, body, extra = str(made).format_map(_Fields(names)), "", {}
    data = {
        "request_id": task.request_id,
        "status": task.status.value,
        "name": task.name,
        "seq": str(task.seq),
        "attempt": str(task.attempt),
    }
    return Notification(
        title=title,
        body=body,
        user_token=task.user_token,
        owner=task.owner,
        request_id=task.request_id,
        data={**{k: str(v) for k, v in extra.items()}, **data},
    )


def owed_for(status: Status, notify: Notify) -> bool:
    """Whether a task with this option owes a notification when it ends so. Only completion does, so far."""
    return notify is not None and status is Status.COMPLETED
