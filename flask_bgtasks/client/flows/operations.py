"""The operations of a client: each is a piece of logic that the blocking and the asynchronous client both carry out.

The first parameter is the session; a second positional one is the key of the record. The docstrings are those of the
public methods.
"""

from __future__ import annotations

import json as json_module
import uuid
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from ...errors import CredentialsRefused, NotSerializable, TaskNotFound, TransitionRefused, Unreachable
from ..events import Kind, Outcome, TaskEvent
from ..io.effects import Answer, Call, Effect, Emit, Flow, Tell
from ..pending import records
from ..pending.ids import as_request_id
from ..pending.records import UNTOLD, Record, State
from . import channels, provenance
from .announce import Listener
from .follow import Following
from .outbox import KEPT_SECONDS, flush
from .session import MAX_AT_ONCE, Session, sighting_of


def submit(
    session: Session,
    path: str,
    *,
    json: Any = None,
    body: bytes | None = None,
    content_type: str | None = None,
    key: str | None = None,
) -> Flow[Record]:
    """Send a request for work, or keep it until it can be sent.

    Returns as soon as the request is stored on disk, and one try to send it was made. Even if that failed, the request
    is not lost: ``wait``, iterating, or ``check_pending`` send it, in this process or a later one. It becomes one task,
    however often it is sent.

    :param path: the URL path of the view, below the client's ``base_url``.
    :param json: a value that is sent as JSON.
    :param body: or bytes, with their ``content_type``.
    :param key: the Idempotency-Key; by default a new one. A key that was used before returns its task.
    :raises KeyReused: the key was used for another request.
    :raises TooManyPending: 1000 tasks are pending.
    """
    if (json is None) == (body is None):
        raise TypeError("submit() takes either json=… or body=…")
    if body is None:
        body, content_type = _as_json(json, user_token=session.user_token), content_type or "application/json"
    now = session.clock.time()
    record = Record(
        key=key or str(uuid.uuid4()),
        state=State.QUEUED,
        created_at=now,
        expires_at=now + KEPT_SECONDS,
        path=path,
        body=body,
        content_type=content_type,
        body_hash=records.digest(path, content_type, body),
    )
    record = yield Call(session.registry.add, (record,))
    yield from session.unblock()
    yield from flush(session, only={record.key}, woken=True)
    return (yield from session.get(record.key))


def follow(session: Session, request_id: str, *, after: int = 0) -> Flow[Record]:
    """Follow a task that was submitted elsewhere, or earlier. It is pending here from now on.

    :param after: the number of the last event that is already known.
    :raises InvalidRequestId: this is not a task id (a ``TaskNotFound``).
    """
    request_id = as_request_id(request_id)
    now = session.clock.time()
    record = Record(
        key=request_id,
        state=State.FOLLOWING,
        created_at=now,
        expires_at=now + KEPT_SECONDS,
        request_id=request_id,
        status="started",
        cursor=after,
    )
    record = yield Call(session.registry.add, (record,))
    yield from session.change(record.key, records.followed)
    _, record = yield from session.change(record.key, partial(records.moved, cursor=after))
    return record


def pending(session: Session) -> Flow[list[Record]]:
    """The tasks whose outcome is not known yet, or not reported yet; oldest first."""
    return (yield from session.all_in(records.PENDING))


def check_pending(session: Session, *, on_outcome: Listener | None = None) -> Flow[list[Outcome]]:
    """Do all pending work now: call it after a start, when the network is back, or on a schedule.

    Sends unsent requests, asks for the status of all pending tasks in one request (Firestore, if it is set up and the
    backend is unreachable), and reports the tasks that have ended.

    :param on_outcome: called with each outcome, instead of the client's own callback.
    :returns: the outcomes that this call reported, each for the first and only time. Without a callback they count as
        reported when this returns.
    """
    yield from session.unblock()
    yield from flush(session, woken=True)
    consumer = Following(session, (), listener=on_outcome, untold_only=True)
    following = yield from session.all_in({State.FOLLOWING})
    reached = True
    try:
        for begin in range(0, len(following), MAX_AT_ONCE):
            yield from channels.ask_status(consumer, following[begin : begin + MAX_AT_ONCE], via="poll")
    except Unreachable:
        reached = False
        if session.mirror is not None:
            yield from channels.read_mirror(consumer, session.mirror, following)
    except CredentialsRefused:
        yield from session.block(following)
    for record in (yield from session.all_in(UNTOLD)):
        if reached or session.mirror is not None or record.status != "completed":  # that has a result to be read
            try:
                yield from consumer.finish(record)
            except CredentialsRefused:
                break
    yield Call(session.registry.prune)
    return list(consumer.outcomes.values())


def remove(session: Session, key: str) -> Flow[None]:
    """Forget a task on this machine: it is no longer pending, and its end is not reported. It is not cancelled.

    :param key: its key or its ``request_id``. An unknown one is not an error.
    """
    record = yield Call(session.registry.get, (key,))
    if record is not None:
        yield from session.change(record.key, records.forgotten)


def events(session: Session, keys: Collection[str] | None, *, timeout: float | None = None) -> Flow[None]:
    """All events of these tasks, until the last of them is over; None means all pending tasks."""
    for key in keys or ():
        yield from session.change(key, records.followed)
    yield from Following(session, keys, give=Emit, timeout=timeout).run()


# -- one task --------------------------------------------------------------------------------------------------------


def wait(
    session: Session,
    key: str,
    *,
    on_progress: Callable[[TaskEvent], Any] | None = None,
    timeout: float | None = None,
) -> Flow[Any]:
    """Wait for the end and return the result: parsed if it is JSON, else bytes.

    :param on_progress: called with every event until then.
    :param timeout: seconds; None to wait without a limit.
    :raises TaskFailed: it failed.
    :raises TaskCancelled: it was cancelled.
    :raises TaskRejected: the server did not accept it.
    :raises TaskGone: the server no longer knows it.
    :raises CredentialsRefused: the server answered 401.
    :raises WaitTimeout: the task did not end in time (a ``TimeoutError``); it keeps running, and stays pending.
    """
    yield from session.change(key, records.followed)

    def give(event: TaskEvent) -> Effect | None:
        return None if on_progress is None or event.kind is Kind.TERMINAL else Tell(on_progress, event)

    consumer = Following(session, [key], give=None if on_progress is None else give, timeout=timeout)
    yield from consumer.run()
    (outcome,) = consumer.outcomes.values()
    return outcome.unwrap()


def cancel(session: Session, key: str) -> Flow[str]:
    """Ask the task to stop, and return its new status. An unsent request is withdrawn.

    :raises Unreachable: the server is unreachable.
    """
    _, record = yield from session.change(key, records.withdrawn)
    if record.state in records.OVER:
        return record.status
    return (yield from _act(session, record, "cancel"))


def retry(session: Session, key: str) -> Flow[str]:
    """Run a failed or cancelled task again, and return its new status. It is pending again.

    :raises TransitionRefused: it is neither failed nor cancelled.
    :raises Unreachable: the server is unreachable.
    """
    record = yield from session.get(key)
    return (yield from _act(session, record, "retry"))


def _act(session: Session, record: Record, what: str) -> Flow[str]:
    if record.request_id is None:  # it may have been accepted, and the answer lost
        yield from session.unblock()
        yield from flush(session, only={record.key}, woken=True)
        record = yield from session.get(record.key)
    if record.request_id is None:
        if record.state in records.OVER:
            raise TransitionRefused(record.key, status=record.status, change=what, why="the server never accepted it")
        raise Unreachable(f"the request {record.key!r} could not be sent yet, so there is nothing to {what}")
    answer = yield from session.ask("POST", session.path(record.request_id, what))
    _check(answer, record.request_id, what)
    sighting = sighting_of(answer.document(), via="poll")
    take_in = records.reopened if what == "retry" else records.sighted
    _, record = yield from session.change(record.key, partial(take_in, sighting=sighting))
    return sighting.status


def _check(answer: Answer, request_id: str, what: str) -> None:
    if answer.ok and answer.document().get("request_id") == request_id:
        return
    if not provenance.is_refusal(answer):
        raise Unreachable(provenance.unlike(answer), retry_after=answer.retry_after)
    if answer.status in (404, 410) and provenance.is_ours(answer):
        raise TaskNotFound(request_id)
    if answer.status == 409:
        status = str(answer.document().get("task_status", "its status does not allow this"))
        raise TransitionRefused(request_id, status=status, change=what, why=answer.complaint())
    raise Unreachable(answer.complaint(), retry_after=answer.retry_after)


def _as_json(value: Any, *, user_token: str | None) -> bytes:
    if user_token is not None and isinstance(value, dict):
        value = {"user_token": user_token, **value}
    try:
        return json_module.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise NotSerializable(f"submit(json=…): {error}; give JSON values, or body=… with a content_type") from error
