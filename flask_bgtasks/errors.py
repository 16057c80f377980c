"""Every public error of flask-bgtasks: one root, and fields instead of text that has to be parsed.

Knows no other module of the package but the words of its texts. In brackets: what else an error is, so that code which
knows nothing of flask-bgtasks can catch it::

    BackgroundTasksError
    ├── ConfigurationError
    │   └── AmbiguousTask (LookupError)
    ├── UnknownTask (LookupError)
    ├── TaskNotFound
    │   ├── TaskExpired
    │   └── InvalidRequestId (ValueError)
    ├── TransitionRefused
    │   ├── TaskFinished
    │   ├── AlreadyClaimed
    │   └── AtCapacity
    ├── LeaseLost
    ├── IdempotencyConflict
    ├── AccessDenied
    ├── PayloadTooLarge
    ├── NotSerializable (TypeError)
    ├── LimitReached
    │   ├── QueueFull
    │   │   └── AnonymousQueueFull
    │   ├── OwnerQueueFull
    │   └── ShuttingDown
    ├── NotStorable
    ├── StoreUnavailable
    │   ├── StoreUnusable (ConfigurationError)
    │   ├── OutcomeUnknown
    │   └── FromNewerVersion
    ├── TaskFailed
    ├── TaskCancelled
    ├── WaitTimeout (TimeoutError)
    ├── TaskTimeout (TimeoutError)
    ├── LoginLost
    ├── RetryLater
    │   └── Overloaded
    ├── Undeliverable
    │   └── DeviceGone
    ├── EndpointUnreachable
    ├── TaskRejected
    ├── TaskGone
    ├── Unreachable
    ├── CredentialsRefused
    ├── KeyReused (ValueError)
    ├── TooManyPending
    └── FirestoreUnavailable
    CancelRequested (BaseException)
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from .wording import counted, nearest


class BackgroundTasksError(Exception):
    """The root of all errors of this library.

    Each survives :mod:`pickle` and :mod:`copy` with its text and its fields, whatever arguments its class takes: a
    broker's result back end or :mod:`concurrent.futures` hands it to another process.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)


class ConfigurationError(BackgroundTasksError):
    """A setting, an option or the environment is wrong; raised at import or in ``init_app``, before any request."""


class AmbiguousTask(ConfigurationError, LookupError):
    """Several functions were declared under this task name, and it is unclear which of them belongs to this app."""


class UnknownTask(BackgroundTasksError, LookupError):
    """A stored task names a function that this process does not know: not imported here, or renamed."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(
            f"no task is called {name!r} here.{nearest(name, known)} Import the module that defines it before tasks "
            f"run; if the function was renamed, keep its old name with name={name!r}"
        )
        self.name = name


class TaskNotFound(BackgroundTasksError):
    """The task does not exist, belongs to another owner, or was deleted."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"task {request_id!r} does not exist, belongs to another owner, or was deleted")
        self.request_id = request_id


class TaskExpired(TaskNotFound):
    """The task existed, but was kept only for its ``expires_after``."""

    def __init__(self, request_id: str, expired_at: datetime) -> None:
        super().__init__(request_id)
        self.args = (f"task {request_id!r} expired at {expired_at:%Y-%m-%dT%H:%M:%SZ}",)
        self.expired_at = expired_at


class InvalidRequestId(TaskNotFound, ValueError):
    """The client was given something other than the id of a task."""

    def __init__(self, request_id: object) -> None:
        super().__init__(str(request_id))
        given = repr(request_id) if len(repr(request_id)) <= 80 else f"{repr(request_id)[:80]}…"
        self.args = (f"expected the id of a task, a UUID like '0c9b4f0e-6a52-4d0e-9f0a-2f6c1f9f4b7d', got {given}",)


class TransitionRefused(BackgroundTasksError):
    """The task's state does not allow this change."""

    def __init__(self, request_id: str, *, status: str, change: str, why: str) -> None:
        super().__init__(f"task {request_id!r} is {status}: {change} refused, {why}")
        self.request_id, self.status, self.change = request_id, status, change


class TaskFinished(TransitionRefused):
    """The task has ended, which is final."""

    def __init__(self, request_id: str, *, status: str, change: str) -> None:
        super().__init__(request_id, status=status, change=change, why="a terminal state is final")


class AlreadyClaimed(TransitionRefused):
    """Another process runs the task; its lease holds until ``until``, unless it is renewed.

    If ``worker`` is None, no process runs it: it waits until then for its next attempt.
    """

    def __init__(self, request_id: str, *, status: str, worker: str | None, until: datetime) -> None:
        holds = "it waits" if worker is None else f"{worker} holds it"
        super().__init__(request_id, status=status, change="claim", why=f"{holds} until {until:%H:%M:%S}Z")
        self.worker, self.until = worker, until


class AtCapacity(TransitionRefused):
    """As many tasks of this name are running as ``max_concurrency`` allows; this one waits for one of them to end."""

    def __init__(self, request_id: str, *, status: str, name: str, limit: int) -> None:
        why = f"{counted(limit, 'task')} called {name!r} already running (max_concurrency)"
        super().__init__(request_id, status=status, change="claim", why=why)
        self.limit = limit


class LeaseLost(BackgroundTasksError):
    """The attempt no longer holds its task: another attempt took over, or the task has ended."""

    def __init__(self, request_id: str, *, attempt: int, holder: int, status: str) -> None:
        super().__init__(
            f"task {request_id!r}: attempt {attempt} lost its lease "
            f"(the task is {status}, its latest attempt is {holder}); nothing was written"
        )
        self.request_id, self.attempt, self.holder, self.status = request_id, attempt, holder, status


class IdempotencyConflict(BackgroundTasksError):
    """The ``Idempotency-Key`` was used before with another request."""

    def __init__(self, request_id: str) -> None:
        super().__init__(
            "this Idempotency-Key was used before with another request; "
            "send the same request again, or use a new key for a new one"
        )
        self.request_id = request_id


class AccessDenied(BackgroundTasksError):
    """A signed access token is invalid, too old, or for another task."""


class PayloadTooLarge(BackgroundTasksError):
    """A request or a result is too large to be stored. Sizes in bytes."""

    def __init__(self, what: str, *, size: int, limit: int, setting: str, mend: str) -> None:
        super().__init__(f"{what} is {_mebibytes(size)}, over {setting} ({_mebibytes(limit)}). {mend}")
        self.size, self.limit, self.setting = size, limit, setting


class NotSerializable(BackgroundTasksError, TypeError):
    """A value that has to be stored is not JSON."""


class LimitReached(BackgroundTasksError):
    """A limit is reached; nothing was stored. Try again after ``retry_after`` seconds."""

    def __init__(self, message: str, *, limit: int, retry_after: int) -> None:
        super().__init__(message)
        self.limit, self.retry_after = limit, retry_after


class QueueFull(LimitReached):
    """As many tasks are waiting as ``BGTASKS_MAX_QUEUED`` allows."""

    def __init__(self, limit: int, retry_after: int = 5) -> None:
        message = f"the queue is full: {counted(limit, 'task')} waiting (BGTASKS_MAX_QUEUED); try again later"
        super().__init__(message, limit=limit, retry_after=retry_after)


class AnonymousQueueFull(QueueFull):
    """As many tasks without an owner are waiting as ``BGTASKS_MAX_QUEUED_ANONYMOUS`` allows, in an app with owners."""

    def __init__(self, limit: int, retry_after: int = 5) -> None:
        super().__init__(limit, retry_after)
        self.args = (
            f"the queue is full: {counted(limit, 'task')} without an owner waiting (BGTASKS_MAX_QUEUED_ANONYMOUS); "
            "log in, or try again later",
        )


class OwnerQueueFull(LimitReached):
    """As many tasks of this owner are waiting as ``BGTASKS_MAX_QUEUED_PER_OWNER`` allows."""

    def __init__(self, limit: int, retry_after: int = 5) -> None:
        message = f"you have {counted(limit, 'task')} waiting (BGTASKS_MAX_QUEUED_PER_OWNER); try again later"
        super().__init__(message, limit=limit, retry_after=retry_after)


class ShuttingDown(LimitReached):
    """This process is stopping and accepts no more tasks."""

    def __init__(self, retry_after: int = 2) -> None:
        message = "this server is restarting and accepts no new tasks; try again"
        super().__init__(message, limit=0, retry_after=retry_after)


class NotStorable(BackgroundTasksError):
    """The store cannot keep a value: it is too large, or of a type that the database lacks. Nothing was changed.

    Unlike :class:`StoreUnavailable` this is not an outage: another try fails as well.
    """


class StoreUnavailable(BackgroundTasksError):
    """The store cannot be read or written right now: locked, full, or unreachable. Nothing was changed.

    :ivar brief: the reason in a few words, without names of hosts or files; None if there is nothing to add.
    """

    def __init__(self, message: str = "the task store cannot be used right now", brief: str | None = None) -> None:
        super().__init__(message)
        self.brief = brief


class StoreUnusable(StoreUnavailable, ConfigurationError):
    """The store cannot be used until somebody repairs it: its file is missing, damaged, read-only, or too new.

    Code that waits for the store treats it as an outage: once it is repaired, everything goes on.
    """


class OutcomeUnknown(StoreUnavailable):
    """The store failed during a change, which may or may not have been made. Check before you repeat it.

    :ivar request_id: the task that was to be changed; None if there was none.
    """

    def __init__(self, message: str, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id


class FromNewerVersion(StoreUnavailable):
    """A task has a value that this version does not know. Nothing was changed: a process of a newer version serves it.

    :ivar field: the field of the task. :ivar value: what it holds.
    """

    def __init__(self, request_id: str, field: str, value: str) -> None:
        super().__init__(
            f"task {request_id!r}: its {field} {value!r} was stored by a newer flask-bgtasks; a process of that "
            "version serves it",
            "the task was stored by a newer version of flask-bgtasks",
        )
        self.request_id, self.field, self.value = request_id, field, value


class TaskFailed(BackgroundTasksError):
    """Raised by ``wait`` for a task that failed; the message is the task's own ``error_message``."""

    def __init__(self, request_id: str, message: str | None, *, error_type: str | None = None) -> None:
        super().__init__(message or "the task failed")
        self.request_id, self.error_type = request_id, error_type


class TaskCancelled(BackgroundTasksError):
    """Raised by ``wait`` for a task that was cancelled."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"task {request_id!r} was cancelled")
        self.request_id = request_id


class WaitTimeout(BackgroundTasksError, TimeoutError):
    """Raised by ``wait`` for a task that did not finish in time; the task keeps running."""

    def __init__(self, request_id: str, seconds: float) -> None:
        super().__init__(f"task {request_id!r} has not finished within {seconds:g} s; it goes on")
        self.request_id = request_id


class TaskTimeout(BackgroundTasksError, TimeoutError):
    """An attempt took longer than the task's ``timeout``. ``retry_on`` is compared with this class."""

    def __init__(self, request_id: str, seconds: float) -> None:
        super().__init__(f"the attempt took longer than its timeout of {seconds:g} s")
        self.request_id, self.seconds = request_id, seconds


class LoginLost(BackgroundTasksError):
    """A run answered 401 or 403 although its request was admitted: the run did not find the request's login.

    The class name is the ``error_type`` of such a task. Sending the request again opens the task again.

    :ivar dropped: the names of the request's headers that the run did not get.
    """

    def __init__(self, request_id: str, status_code: int, dropped: Iterable[str] = ()) -> None:
        self.request_id, self.status_code, self.dropped = request_id, status_code, tuple(dropped)
        lacks = f" (it lacks {', '.join(self.dropped)})" if self.dropped else ""
        super().__init__(
            f"the view answered {status_code} in its run, though the request was let in: the run does not find "
            f"the request's login{lacks}. Name the headers that the view reads in BGTASKS_KEEP_HEADERS, or restore "
            "the login in a @bgtasks.before_run function"
        )


class CancelRequested(BaseException):
    """Raised inside a task by its next report after it was cancelled, or after another attempt took over.

    Like :class:`asyncio.CancelledError` it is not an :class:`Exception`, so ``except Exception`` in a pipeline does not
    swallow it.
    """


class RetryLater(BackgroundTasksError):
    """A sink raises this to be called again: after ``after`` seconds, or with the usual back-off if that is None.

    A task may raise it too: another attempt follows, as long as ``retries`` allows one.

    :param tried: False if a cooldown kept the sink from calling its service; that does not count as a try.
    """

    def __init__(self, message: str = "", *, after: float | None = None, tried: bool = True) -> None:
        super().__init__(message or "asked to be called again later")
        self.after, self.tried = after, tried


class Overloaded(RetryLater):
    """A sink raises this when its service asks for a pause: all its deliveries wait for ``after`` seconds."""

    def __init__(self, message: str, *, after: float) -> None:
        super().__init__(message, after=after)


class Undeliverable(BackgroundTasksError):
    """A sink raises this if a delivery can never succeed: it becomes a dead letter at once."""


class DeviceGone(Undeliverable):
    """A sink raises this for an address that is no longer in use: the device is removed, and no dead letter is kept.

    :param device_id: the :attr:`~flask_bgtasks.core.devices.Device.id`.
    """

    def __init__(self, message: str, *, device_id: str) -> None:
        super().__init__(message)
        self.device_id = device_id


class EndpointUnreachable(BackgroundTasksError):
    """A URL that a sink called did not answer, or did not answer in time."""


class TaskRejected(BackgroundTasksError):
    """The server refused the request for good, or could not be reached for too long."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"the request {key!r} was not accepted: {reason}")
        self.key, self.reason = key, reason


class TaskGone(BackgroundTasksError):
    """The server no longer knows the task: it has expired, was deleted, or belongs to another owner."""

    def __init__(self, request_id: str, reason: str | None = None) -> None:
        super().__init__(f"task {request_id!r} is gone: {reason or 'it expired, was deleted, or is not yours'}")
        self.request_id = request_id


class Unreachable(BackgroundTasksError):
    """The server gave no complete answer in time, or answered with a server error, or only a proxy answered.

    :ivar retry_after: seconds until it may be asked again, if it said so.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CredentialsRefused(BackgroundTasksError):
    """The server requires a login. Nothing is lost: the task goes on with the next call that has valid headers."""

    def __init__(self) -> None:
        super().__init__(
            "the server answered 401 (or redirected to its login) to these headers; the task stays pending. "
            "Create a client with new ones, or pass headers=… a function that returns them"
        )


class KeyReused(BackgroundTasksError, ValueError):
    """The idempotency key was used for another request."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key!r} was used for another request; use a new key for a new request")
        self.key = key


class TooManyPending(BackgroundTasksError):
    """The client's registry is full: it keeps no more pending tasks."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the registry is full: {counted(limit, 'task')} pending; wait for some, or remove() them")
        self.limit = limit


class FirestoreUnavailable(BackgroundTasksError):
    """Firestore could not be read: no network, or it answered with an error. ``status`` is 0 without an answer."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.3g} MiB" if size >= 2**20 else counted(size, "byte")


def _restored(kind: type[BackgroundTasksError], args: tuple[Any, ...], fields: dict[str, Any]) -> BackgroundTasksError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error
