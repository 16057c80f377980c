"""Sends unsent submissions, and reports of seen outcomes, until the server has them.

A submission is sent with its Idempotency-Key, so it may be sent twice: after a crash, by two processes, or because the
answer was lost. Both kinds are kept in the registry, so they survive being offline and being killed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from functools import partial

from ...core.backoff import Backoff
from ...errors import CredentialsRefused, Unreachable
from ..io.effects import Answer, Flow
from ..pending import records
from ..pending.records import Record, State
from . import provenance
from .provenance import DOUBTED_SECONDS, Verdict
from .session import MAX_AT_ONCE, Session

log = logging.getLogger("flask_bgtasks.client")

UNAVAILABLE = frozenset({429, 502, 503, 504})  # for the next submission as little as for this one
SEEN_TOO_LATE = frozenset({404, 409, 410})
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
    for record in [r for r in announced if only is None or r.key in only][:MAX_AT_ONCE]:
        body = json.dumps({"via": record.via if record.via in ("poll", "stream", "firestore") else "poll"}).encode()
        path = session.path(record.request_id, "seen")
        try:
            answer = yield from session.ask("POST", path, headers={"content-type": "application/json"}, body=body)
        except (Unreachable, CredentialsRefused):
            return
        if answer.status != 204:
            if not provenance.is_refusal(answer) or answer.status >= 500 or answer.status in provenance.LATER:
                return  # no word of the backend's, or none for now
            if answer.status not in SEEN_TOO_LATE:  # for whatever reason: the task does not suffer
                log.warning("the server refused to mark task %s as seen: %s", record.request_id, answer.complaint())
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
    later: records.RecordTransition = partial(_postponed, session=session, answer=None)
    try:
        timeout = session.timing.send_timeout
        answer = yield from session.ask("POST", claimed.path, headers=headers, body=claimed.body, timeout=timeout)
        later = _after(session, claimed, answer)
    except Unreachable:
        return False
    except CredentialsRefused:
        later = records.blocked
        raise
    finally:  # whatever happened, Ctrl-C too: it is not left as if somebody sent it
        yield from session.change(key, later)
    return answer.status not in UNAVAILABLE


def _after(session: Session, record: Record, answer: Answer) -> records.RecordTransition:
    """What becomes of a submission that was answered."""
    found = provenance.judge(answer)
    if found.verdict is Verdict.ACCEPTED and found.request_id is not None:
        return partial(records.accepted, request_id=found.request_id)
    if found.verdict is Verdict.LATER:
        return partial(_postponed, session=session, answer=answer)
    if found.verdict is Verdict.REJECTED:
        return partial(_rejected, reason=found.reason)
    if record.doubted_at and session.clock.time() - record.doubted_at >= DOUBTED_SECONDS:
        return partial(_rejected, reason=f"for {DOUBTED_SECONDS / 3600:g} hours {found.reason}")
    log.warning("POST %s is tried again: %s", record.path, found.reason)
    return partial(_doubted, session=session, answer=answer, reason=found.reason)


def _rejected(record: Record, *, reason: str) -> Record:
    return records.rejected(record, reason)


def _postponed(record: Record, *, session: Session, answer: Answer | None) -> Record:
    next_try_at, not_before = _when_again(record, session, answer, backoff=session.timing.send)
    return records.postponed(record, next_try_at=next_try_at, not_before=not_before)


def _doubted(record: Record, *, session: Session, answer: Answer, reason: str) -> Record:
    next_try_at, not_before = _when_again(record, session, answer, backoff=session.timing.doubt)
    now = session.clock.time()
    return records.doubted(record, reason, now=now, next_try_at=next_try_at, not_before=not_before)


def _when_again(record: Record, session: Session, answer: Answer | None, *, backoff: Backoff) -> tuple[float, float]:
    """When to send it again by our own backoff, and the moment before which the server does not want it."""
    now = session.clock.time()
    wish = 0.0 if answer is None else min(answer.retry_after or 0.0, session.timing.longest_wish)
    pause = session.random.uniform(0.0, backoff.ceiling(record.tries + 1))
    return now + pause, now + wish if wish else 0.0
