"""Reports an outcome once: fetches the result, calls the callback, and records that it was reported.

If the process is killed between the callback and the record, the outcome is reported once more. The other order could
lose it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from ...core.model import Result
from ...core.text.json_values import parsed
from ...errors import Unreachable
from ..events import Outcome
from ..io.effects import Answer, Call, Flow, Tell
from ..pending import records
from ..pending.records import UNTOLD, Record
from .provenance import is_ours, task_id
from .session import Session

log = logging.getLogger("flask_bgtasks.client")

Listener = Callable[[Outcome], Any]
Show = Callable[[Outcome], Flow[None]]


def tell(
    session: Session, record: Record, *, listener: Listener | None, show: Show | None = None
) -> Flow[Outcome | None]:
    """Tell an outcome to the listener, if it is this process's turn; whoever shows it gets it in any case.

    :param listener: None: then whoever gets the outcome from here has been told.
    :param show: hands it to one who asked for this task; it may be left by :class:`.Left`, and has been told then.
    :returns: the outcome; None where nobody was told of it: it is another's turn, or its result cannot be read yet.
    :raises CredentialsRefused: the result cannot be read with these.
    """
    claimed = yield from _claim(session, record)
    if claimed is None and show is None:
        return None
    told = False
    try:
        outcome = yield from _outcome_of(session, claimed or record)
        if outcome is None:
            return None
        if claimed is not None:
            told = listener is None or (yield from _called_back(listener, outcome))
        if show is not None:
            yield from show(outcome)
    finally:
        if claimed is not None:
            after = records.announced if told else records.let_go
            yield from session.change(record.key, partial(after, claim=claimed))
    return outcome if told or show is not None else None


def _claim(session: Session, record: Record) -> Flow[Record | None]:
    if record.state not in UNTOLD:
        return None
    taken = partial(records.claim_to_tell, holder=session.holder, now=session.clock.time())
    before, claimed = yield from session.change(record.key, taken)
    return None if claimed is before else claimed


def _called_back(listener: Listener, outcome: Outcome) -> Flow[bool]:
    try:
        yield Tell(listener, outcome)
    except Exception:
        log.exception("the callback for task %s failed; it is called again later", outcome.request_id)
        return False
    return True


def _outcome_of(session: Session, record: Record) -> Flow[Outcome | None]:
    """How a task ended, with its result; None while that cannot be read."""
    status, error_message, result = record.status, record.error_message, None
    if status == "completed":
        try:
            result = yield from _result(session, record)
        except _Gone as error:
            status, error_message = "gone", f"it has completed, but its result can no longer be read: {error}"
        except Unreachable:
            return None
    return Outcome(
        key=record.key,
        request_id=record.request_id,
        path=record.path,
        status=status,
        result=result,
        error_message=error_message,
        seq=record.settled_seq,
        attempt=record.attempt,
        via=record.via,
    )


class _Gone(Exception):
    """There is no result, and there will be none."""


def _result(session: Session, record: Record) -> Flow[Any]:
    """What the task's view answered: from the backend, else from the mirror. :raises Unreachable: from neither."""
    try:
        answer = yield from session.ask("GET", session.path(record.request_id, "result"))
    except Unreachable:
        if session.mirror is None:
            raise
        return (yield from _mirrored_result(session, record))
    if task_id(answer) == record.request_id and answer.status != 202:
        return None if answer.status == 204 else _parsed(answer)
    if answer.status in (404, 409, 410) and is_ours(answer):
        raise _Gone(answer.complaint())
    raise Unreachable(answer.complaint())  # 202: a replica that does not know the end yet. Else not the backend's word


def _parsed(answer: Answer) -> Any:
    result = Result(answer.body, content_type=answer.headers.get("content-type", ""))
    found = parsed(result.body) if result.is_json else None
    return result.body if found is None else found[0]


def _mirrored_result(session: Session, record: Record) -> Flow[Any]:
    assert session.mirror is not None
    try:
        return (yield Call(session.mirror.result, (record.request_id,)))
    except Exception as error:  # of whichever mirror it is: it cannot be read, or is not whole yet
        raise Unreachable(f"the mirror has no result: {error}") from error
