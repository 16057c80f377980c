"""Every error that flask-bgtasks raises on purpose: one root, a class each, fields instead of parsed strings.

Messages say what happened, to what, and what to do about it. Knows nothing of the other modules.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any


class BackgroundTasksError(Exception):
    """The root of all errors of this library.

    Copied and pickled with message and fields, whatever the arguments of its class are: a broker's result back end, or
    :mod:`concurrent.futures`, hands it on to another process.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)


class ConfigurationError(BackgroundTasksError):
    """A setting, an option or the surroundings are wrong; raised in ``init_app`` or at import, before any request."""


class TaskNotFound(BackgroundTasksError):
    """There is no such task, or it is someone else's."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"no task {request_id!r}: it never was, is not yours, or was deleted")
        self.request_id = request_id


class TaskExpired(TaskNotFound):
    """The task was there; its time (``expires_after``) is over."""

    def __init__(self, request_id: str, expired_at: datetime) -> None:
        super().__init__(request_id)
        self.args = (f"task {request_id!r} expired at {expired_at:%Y-%m-%dT%H:%M:%SZ}",)
        self.expired_at = expired_at


class TransitionRefused(BackgroundTasksError):
    """The state machine does not allow this change in the state that the task is in."""

    def __init__(self, request_id: str, *, status: str, change: str, why: str) -> None:
        super().__init__(f"task {request_id!r} is {status}: {change} refused, {why}")
        self.request_id = request_id
        self.status = status
        self.change = change


class TaskFinished(TransitionRefused):
    """The task is in a terminal state, which is final."""

    def __init__(self, request_id: str, *, status: str, change: str) -> None:
        super().__init__(request_id, status=status, change=change, why="a terminal state is final")


class AlreadyClaimed(TransitionRefused):
    """Someone alive runs the task; ``until`` says how long that claim holds without renewal.

    Or, with ``worker`` None, it waits until then for its next attempt.
    """

    def __init__(self, request_id: str, *, status: str, worker: str | None, until: datetime) -> None:
        holds = "it waits" if worker is None else f"{worker} holds it"
        super().__init__(request_id, status=status, change="claim", why=f"{holds} until {until:%H:%M:%S}Z")
        self.worker = worker
        self.until = until


class AtCapacity(TransitionRefused):
    """As many tasks of this name run as ``max_concurrency`` allows; this one waits for one of them to end."""

    def __init__(self, request_id: str, *, status: str, name: str, limit: int) -> None:
        why = f"{limit} tasks called {name!r} run already (max_concurrency)"
        super().__init__(request_id, status=status, change="claim", why=why)
        self.limit = limit


class LeaseLost(BackgroundTasksError):
    """The attempt no longer holds the task: another attempt took over, or it has ended."""

    def __init__(self, request_id: str, *, attempt: int, holder: int, status: str) -> None:
        super().__init__(
            f"task {request_id!r}: attempt {attempt} no longer holds it "
            f"(attempt {holder} does, status {status}); nothing was written"
        )
        self.request_id = request_id
        self.attempt = attempt
        self.holder = holder
        self.status = status


class IdempotencyConflict(BackgroundTasksError):
    """The ``Idempotency-Key`` was used before with another body."""

    def __init__(self, request_id: str) -> None:
        super().__init__(
            "this Idempotency-Key was used before with another request; "
            "send the same body again, or a new key for a new request"
        )
        self.request_id = request_id


class StoreUnavailable(BackgroundTasksError):
    """The store cannot be read or written right now: locked, full, or out of reach. Nothing was changed.

    :ivar brief: what is wrong, in a few words that name no host and no file; None where there is no more to say.
    """

    def __init__(self, message: str = "the task store cannot be used right now", brief: str | None = None) -> None:
        super().__init__(message)
        self.brief = brief


class StoreUnusable(StoreUnavailable, ConfigurationError):
    """The store cannot be used until somebody mends it: its file is gone, damaged, read-only, or of a newer version.

    An outage like any other to who waits for the store: once it is mended, everything goes on.
    """


class OutcomeUnknown(StoreUnavailable):
    """The store failed while it made a change: it may have been made, and it may not. Ask for it before it is repeated.

    :ivar request_id: the task that it was about, where it was about one.
    """

    def __init__(self, message: str, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id


class NotStorable(BackgroundTasksError):
    """The store cannot keep a value: it is too large, or of a kind that the database lacks. Nothing was changed.

    Unlike :class:`StoreUnavailable` this is no outage: another try fails as well.
    """


class AccessDenied(BackgroundTasksError):
    """A signed access token is wrong, too old, or for something else."""


class LimitReached(BackgroundTasksError):
    """Something is full; nothing was stored. ``retry_after`` is in seconds."""

    def __init__(self, message: str, *, limit: int, retry_after: int) -> None:
        super().__init__(message)
        self.limit = limit
        self.retry_after = retry_after


class QueueFull(LimitReached):
    """As many tasks wait as ``BGTASKS_MAX_QUEUED`` allows."""

    def __init__(self, limit: int, retry_after: int = 5) -> None:
        super().__init__(
            f"{limit} tasks are waiting already (BGTASKS_MAX_QUEUED); try again later",
            limit=limit,
            retry_after=retry_after,
        )


class AnonymousQueueFull(QueueFull):
    """As many tasks without an owner wait as ``BGTASKS_MAX_QUEUED_ANONYMOUS`` allows, in an app that names owners."""

    def __init__(self, limit: int, retry_after: int = 5) -> None:
        super().__init__(limit, retry_after)
        self.args = (
            f"{limit} tasks without an owner are waiting already (BGTASKS_MAX_QUEUED_ANONYMOUS); "
            "log in, or try again later",
        )


class OwnerQueueFull(LimitReached):
    """This owner has as many tasks waiting as ``BGTASKS_MAX_QUEUED_PER_OWNER`` allows."""

    def __init__(self, limit: int, retry_after: int = 5) -> None:
        super().__init__(
            f"you have {limit} tasks waiting already (BGTASKS_MAX_QUEUED_PER_OWNER); try again later",
            limit=limit,
            retry_after=retry_after,
        )


class ShuttingDown(LimitReached):
    """This process is stopping and takes no more work."""

    def __init__(self, retry_after: int = 2) -> None:
        super().__init__("this server is restarting and takes no new work; try again", limit=0, retry_after=retry_after)


class PayloadTooLarge(BackgroundTasksError):
    """A request or a result is larger than what is stored. Sizes in bytes."""

    def __init__(self, what: str, *, size: int, limit: int, setting: str, mend: str) -> None:
        super().__init__(f"{what} is {_mebibytes(size)}, over {setting} ({_mebibytes(limit)}). {mend}")
        self.size = size
        self.limit = limit
        self.setting = setting


class NotSerializable(BackgroundTasksError, TypeError):
    """A value that has to be stored is not JSON."""


class TaskFailed(BackgroundTasksError):
    """Raised by ``wait`` for a task that failed; the message is the task's own ``error_message``."""

    def __init__(self, request_id: str, message: str | None, *, error_type: str | None = None) -> None:
        super().__init__(message or "the task failed")
        self.request_id = request_id
        self.error_type = error_type


class LoginLost(BackgroundTasksError):
    """A run answered 401 or 403, though its request was let in: it did not find the request's login.

    The ``error_type`` of a task that failed of it. Its request, sent again, opens it again.

    :ivar dropped: the names of the request's headers that its run did not get.
    """

    def __init__(self, request_id: str, status_code: int, dropped: Iterable[str] = ()) -> None:
        self.request_id, self.status_code, self.dropped = request_id, status_code, tuple(dropped)
        lacks = f" (it lacks {', '.join(self.dropped)})" if self.dropped else ""
        super().__init__(
            f"the view answered {status_code} in its run, though the request was let in: the run does not find "
            f"the request's login{lacks}. Name the headers that the view reads in BGTASKS_KEEP_HEADERS, or restore "
            "the login in a @bgtasks.before_run function"
        )


class TaskWasCancelled(BackgroundTasksError):
    """Raised by ``wait`` for a task that was cancelled."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"task {request_id!r} was cancelled")
        self.request_id = request_id


class WaitTimeout(BackgroundTasksError, TimeoutError):
    """The task had not finished when ``wait`` gave up; it goes on."""

    def __init__(self, request_id: str, seconds: float) -> None:
        super().__init__(f"task {request_id!r} has not finished within {seconds:g} s; it goes on")
        self.request_id = request_id


class RetryLater(BackgroundTasksError):
    """A sink raises this to be asked again, after ``after`` seconds if it knows better than the usual backoff.

    A task may raise it too: another attempt follows, as long as ``retries`` allows one.

    :param tried: False where a sink has not tried at all, since it leaves the addressee alone for now: that says
        nothing about its service, and counts as no try.
    """

    def __init__(self, message: str = "", *, after: float | None = None, tried: bool = True) -> None:
        super().__init__(message or "asked to be called again later")
        self.after = after
        self.tried = tried


class Undeliverable(BackgroundTasksError):
    """A sink raises this for what can never succeed: the delivery ends as a dead letter at once."""


class DeviceGone(Undeliverable):
    """A sink raises this for an address that is no longer anybody's: the device is forgotten, no letter is kept.

    :param device_id: the :attr:`~flask_bgtasks.core.devices.Device.id`.
    """

    def __init__(self, message: str, *, device_id: str) -> None:
        super().__init__(message)
        self.device_id = device_id


class Overloaded(RetryLater):
    """A sink raises this when its service wants nothing for ``after`` seconds: all its deliveries wait so long."""

    def __init__(self, message: str, *, after: float) -> None:
        super().__init__(message, after=after)


class TaskTimeout(BackgroundTasksError, TimeoutError):
    """An attempt took longer than the task's ``timeout``; what ``retry_on`` is compared with then."""

    def __init__(self, request_id: str, seconds: float) -> None:
        super().__init__(f"the attempt took longer than its timeout of {seconds:g} s")
        self.request_id = request_id
        self.seconds = seconds


class TaskCancelled(BaseException):
    """Raised inside a pipeline by the next report after the task was cancelled or taken over.

    Not an :class:`Exception`, so that ``except Exception`` in a pipeline does not swallow it, as
    :class:`asyncio.CancelledError` is not.
    """


def _restored(kind: type[BackgroundTasksError], args: tuple[Any, ...], fields: dict[str, Any]) -> BackgroundTasksError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


def unknown_name(name: str, known: Iterable[str]) -> str:
    """Say what is known, nearest first: the second half of a "no such …" message."""
    import difflib

    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"Known here: {', '.join(names) or 'none'}.{hint}"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.3g} MiB" if size >= 2**20 else f"{size} bytes"
