"""Sends what waits to be sent: submissions, and that an outcome was seen. Each until the server has it.

A submission goes out with its Idempotency-Key, so that it may go out twice: after a crash, by two processes, or because
the answer was lost. Both are kept in the registry, so both survive being offline and being killed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from functools import partial

from . import records
from .asking import MOST_AT_ONCE, Session
from .effects import Answer, Flow
from .errors import CredentialsRefused, Unreachable
from .records import Record, State

log = logging.getLogger("flask_bgtasks.client")

TRY_AGAIN = frozenset({408, 425, 429})
NOBODY_THERE = frozenset({429, 502, 503, 504})  # for the next submission as little as for this one
SEEN_AT_LAST = frozenset({404, 409, 410})
"""It is gone, or it runs again: nobody waits to hear that its end was seen."""

KEPT_SECONDS = 7 * 24 * 3600.0
"""A submission that could not be sent for so long is rejected: the server's memory of a key is no longer either."""


def flush(session: Session, *, woken: bool = False, only: Collection[str] | None = None) -> Flow[None]:
    """Send what is due, and stop at the first sign that there is no network, or no server.

    :param woken: pay no heed to how long our own backoff would still wait.
    :param only: the keys of those to send; None for all.
    """
    for record in (yield from session.all_in({State.QUEUED, State.SENDING, State.BLOCKED})):
        if only is not None and record.key not in only:
            continue
        if (yield from _expire(session, record)) or not _is_due(session, record, woken=woken):
            continue
        try:
            if not (yield from _send(session, record.key)):
                return
        except CredentialsRefused:
            return
    yield from send_seen(session, only=only)


def send_seen(session: Session, *, only: Collection[str] | None = None) -> Flow[None]:
    """Tell the server which outcomes were seen, these or all."""
    announced = yield from session.all_in({State.ANNOUNCED})
    for record in [r for r in announced if only is None or r.key in only][:MOST_AT_ONCE]:
        body = json.dumps({"via": record.via if record.via in ("poll", "stream", "firestore") else "poll"}).encode()
        path = session.path(record.request_id, "seen")
        try:
            answer = yield from session.ask("POST", path, headers={"content-type": "application/json"}, body=body)
        except (Unreachable, CredentialsRefused):
            return
        if answer.status >= 500 or answer.status in TRY_AGAIN:
            return
        if not answer.ok and answer.status not in SEEN_AT_LAST:  # for whatever reason: the task does not suffer
            log.warning("that task %s was seen is not taken: %s", record.request_id, answer.complaint())
        yield from session.change(record.key, records.acked)


def _is_due(session: Session, record: Record, *, woken: bool) -> bool:
    if record.state is State.BLOCKED:
        return False
    return record.due(session.clock.time(), patience=session.timing.longest_wish, woken=woken)


def _expire(session: Session, record: Record) -> Flow[bool]:
    """Give up what could not be sent for a week."""
    if record.request_id is not None or record.state is State.SENDING or session.clock.time() < record.expires_at:
        return False
    days = (record.expires_at - record.created_at) / 86400
    yield from session.change(record.key, partial(_rejected, reason=f"expired: it could not be sent for {days:g} days"))
    return True


def _send(session: Session, key: str) -> Flow[bool]:
    """Send one submission, if it is nobody else's turn; whether to go on with the next one."""
    claim = partial(records.claim_to_send, holder=session.holder, now=session.clock.time())
    before, claimed = yield from session.change(key, claim)
    if claimed is before or claimed.body is None or claimed.path is None:
        return True
    headers = {
        "content-type": claimed.content_type or "application/octet-stream",
        "idempotency-key": claimed.key,
        "prefer": "respond-async",
    }
    later: records.Transition = partial(_postponed, session=session, answer=None)
    try:
        timeout = session.timing.send_timeout
        answer = yield from session.ask("POST", claimed.path, headers=headers, body=claimed.body, timeout=timeout)
        later = _after(session, answer)
    except Unreachable:
        return False
    except CredentialsRefused:
        later = records.blocked
        raise
    finally:  # whatever happened, Ctrl-C too: it is not left as if somebody sent it
        yield from session.change(key, later)
    return answer.status not in NOBODY_THERE


def _after(session: Session, answer: Answer) -> records.Transition:
    """What becomes of a submission that was answered."""
    request_id = answer.headers.get("task-id") or (answer.document().get("request_id") if answer.ok else None)
    if request_id:  # whatever the status: the task exists, and says itself how it ended
        return partial(records.accepted, request_id=str(request_id))
    patient = answer.status in TRY_AGAIN or answer.status >= 500
    if patient or (answer.status == 409 and answer.retry_after is not None):  # an equal request is in progress
        return partial(_postponed, session=session, answer=answer)
    if answer.ok:
        reason = f"the server answered {answer.status} without a Task-Id: this address runs no background task"
    elif 300 <= answer.status < 400:
        reason = f"the server answered {answer.status}: submit to {answer.headers.get('location', 'another address')}"
    else:
        reason = answer.complaint()
    return partial(_rejected, reason=reason)


def _rejected(record: Record, *, reason: str) -> Record:
    return records.rejected(record, reason)


def _postponed(record: Record, *, session: Session, answer: Answer | None) -> Record:
    now = session.clock.time()
    wish = 0.0 if answer is None else min(answer.retry_after or 0.0, session.timing.longest_wish)
    pause = session.random.uniform(0.0, session.timing.send.ceiling(record.tries + 1))
    return records.postponed(record, next_try_at=now + pause, not_before=now + wish if wish else 0.0)
