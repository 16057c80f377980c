"""Errors of the client. What a task itself may meet is in :mod:`flask_bgtasks.errors`, for both sides."""

from __future__ import annotations

from ..errors import BackgroundTasksError, TaskNotFound


class TaskRejected(BackgroundTasksError):
    """The server did not take the request, and will not take it as it is; or it could not be reached for too long."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"the request {key!r} was not accepted: {reason}")
        self.key = key
        self.reason = reason


class TaskGone(BackgroundTasksError):
    """The server knows the task no longer: it has expired, was deleted, or belongs to another login."""

    def __init__(self, request_id: str, reason: str | None = None) -> None:
        super().__init__(f"task {request_id!r} is gone: {reason or 'it has expired, was deleted, or is not yours'}")
        self.request_id = request_id


class InvalidRequestId(TaskNotFound, ValueError):
    """Something else was given where the id of a task was expected."""

    def __init__(self, request_id: object) -> None:
        super().__init__(str(request_id))
        given = repr(request_id) if len(repr(request_id)) <= 80 else f"{repr(request_id)[:80]}…"
        self._message = f"expected the id of a task, a UUID like '0c9b4f0e-6a52-4d0e-9f0a-2f6c1f9f4b7d', got {given}"
        self.args = (request_id,)

    def __str__(self) -> str:
        return self._message


class Unreachable(BackgroundTasksError):
    """No answer came: no network, no server, not in time, or not whole; or only that of a proxy or a server in need.

    ``retry_after`` is in seconds, where it said when to come again.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CredentialsRefused(BackgroundTasksError):
    """The server wants a login. Nothing is lost: the task goes on with the next call that has other headers."""

    def __init__(self) -> None:
        super().__init__(
            "the server answered 401 (or sent to its login) to these headers; the task stays pending. "
            "Make a client with fresh ones, or give headers=… a function that fetches them"
        )


class KeyReused(BackgroundTasksError, ValueError):
    """The key stands for another request already."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key!r} was used for another request; use a new key for a new request")
        self.key = key


class TooManyPending(BackgroundTasksError):
    """As many tasks are pending as the registry keeps."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} tasks are pending already; wait for some, or remove() them")
        self.limit = limit
