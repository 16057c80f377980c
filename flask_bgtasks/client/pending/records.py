"""A submission as the registry keeps it, and its state machine: functions from one record to the next. Pure.

A function that changes nothing returns the record that it got. The registry applies them one at a time, each in a
transaction, so they decide on what is in the file, whatever other processes write to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from ...runtime import processes
from ..events import TERMINAL

CLAIM_SECONDS = 120.0
"""How long a claim holds at most: longer than a request with all its timeouts."""

MISSES = 2  # answers of the backend that it does not know a task, until that is believed

RecordTransition = Callable[["Record"], "Record"]


class State(str, Enum):
    """Where a submission is on its way."""

    QUEUED = "queued"  # stored here; the server may not know of it
    SENDING = "sending"  # somebody sends it now
    FOLLOWING = "following"  # accepted: its id is known
    BLOCKED = "blocked"  # the server answered 401: until there are new credentials
    SETTLED = "settled"  # it has ended, and nobody was told
    ANNOUNCED = "announced"  # told here; the server does not know of that
    ACKED = "acked"  # nothing is left to do
    REJECTED = "rejected"  # it will never be accepted, and nobody was told
    GONE = "gone"  # the server no longer knows it, and this was not reported yet


PENDING = frozenset({State.QUEUED, State.SENDING, State.FOLLOWING, State.BLOCKED, State.SETTLED})
UNTOLD = frozenset({State.SETTLED, State.REJECTED, State.GONE})
OVER = UNTOLD | {State.ANNOUNCED, State.ACKED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One submission, or one task that is followed.

    :param key: its Idempotency-Key; of a task that was not submitted here, its id.
    :param status: what the server last said; ``"rejected"`` or ``"gone"`` by this side.
    :param seq: the newest event that is known of. :param cursor: the last event that a consumer was given.
    :param next_try_at: when to send again, by backoff. :param not_before: and not sooner: the server asked for it.
    :param doubted_at: since when something answers it that does not look like the backend; 0 for never.
    :param misses: how often in a row the backend did not know it.
    :param settled_seq: the number of the event by which it ended last. :param settled_attempt: the attempt that did.
    :param provisional: that number is still to come: the channel that told of the end has none.
    :param holder: the process that sends or announces it, since ``held_at``.
    """

    key: str
    state: State
    created_at: float
    expires_at: float
    path: str | None = None
    body: bytes | None = None
    content_type: str | None = None
    body_hash: str | None = None
    request_id: str | None = None
    status: str = "queued"
    seq: int = 0
    attempt: int = 0
    percentage: float = 0.0
    progress: Mapping[str, Any] | None = None
    error_message: str | None = None
    via: str = "client"
    cursor: int = 0
    tries: int = 0
    next_try_at: float = 0.0
    not_before: float = 0.0
    misses: int = 0
    doubted_at: float = 0.0
    settled_seq: int = 0
    settled_attempt: int = -1
    provisional: bool = False
    holder: str | None = None
    held_at: float = 0.0
    updated_at: float = 0.0

    @property
    def pending(self) -> bool:
        """Whether its outcome is still to come, or to be told."""
        return self.state in PENDING

    def due(self, now: float, *, patience: float, woken: bool) -> bool:
        """Whether it is to be sent now.

        :param patience: the longest that a try is ever put off; a date beyond it comes from a clock that was wrong.
        :param woken: somebody asks for it: only what the server asked for is waited for.
        """
        wait = max(self.not_before, 0.0 if woken else self.next_try_at) - now
        return not 0 < wait <= patience


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What some channel says of a task. ``seq`` is None where the channel has no such number."""

    status: str
    seq: int | None
    attempt: int
    via: str
    progress: Mapping[str, Any] | None = None
    error_message: str | None = None

    @property
    def terminal(self) -> bool:
        """Whether the task has ended."""
        return self.status in TERMINAL

    @property
    def percentage(self) -> float:
        """How far it says that the task is."""
        found = (self.progress or {}).get("progress_percentage")
        return float(found) if isinstance(found, (int, float)) else 0.0


def digest(path: str, content_type: str | None, body: bytes) -> str:
    """What tells two requests apart that were given the same key."""
    return hashlib.sha256(b"\0".join((path.encode(), (content_type or "").encode(), body))).hexdigest()


# -- sending ---------------------------------------------------------------------------------------------------------


def free(record: Record, now: float) -> bool:
    """Whether nobody alive has claimed it.

    A claim of a moment later than ``now`` is one that was made while this one waited for its turn at the registry; one
    of much later is of a clock that was set back since.
    """
    if record.holder is None or abs(now - record.held_at) >= CLAIM_SECONDS:
        return True
    return processes.alive(record.holder) is False


def claim_to_send(record: Record, *, holder: str, now: float) -> Record:
    """Take the right to send it; the same record back means that somebody else has it, or that it is sent."""
    if record.state is State.QUEUED or (record.state is State.SENDING and free(record, now)):
        return replace(record, state=State.SENDING, holder=holder, held_at=now)
    return record


def accepted(record: Record, request_id: str) -> Record:
    """The server has it. Its body is needed no longer."""
    if record.request_id is not None:
        return record
    state = State.FOLLOWING if record.state in (State.QUEUED, State.SENDING, State.BLOCKED) else record.state
    return replace(
        record,
        state=state,
        request_id=request_id,
        status="started",
        error_message=None if record.doubted_at else record.error_message,
        body=None,
        tries=0,
        doubted_at=0.0,
        holder=None,
    )


def joined(submission: Record, followed: Record) -> Record:
    """A submission is a task that is followed already: its answer was lost, and its id came another way."""
    return replace(
        followed,
        key=submission.key,
        path=submission.path,
        content_type=submission.content_type,
        body_hash=submission.body_hash,
        created_at=submission.created_at,
        expires_at=submission.expires_at,
    )


def postponed(record: Record, *, next_try_at: float, not_before: float = 0.0) -> Record:
    """It was not accepted this time."""
    if record.state is not State.SENDING:
        return record
    tries = record.tries + 1
    return replace(record, state=State.QUEUED, tries=tries, next_try_at=next_try_at, not_before=not_before, holder=None)


def doubted(record: Record, reason: str, *, now: float, next_try_at: float, not_before: float = 0.0) -> Record:
    """Something answered it that does not look like the backend; ``reason`` says what."""
    again = postponed(record, next_try_at=next_try_at, not_before=not_before)
    if again is record:
        return record
    return replace(again, doubted_at=record.doubted_at or now, error_message=reason)


def rejected(record: Record, reason: str) -> Record:
    """It will never be accepted."""
    if record.request_id is not None or record.state not in (State.QUEUED, State.SENDING, State.BLOCKED):
        return record
    return replace(
        record, state=State.REJECTED, status="rejected", error_message=reason, body=None, via="client", holder=None
    )


def blocked(record: Record) -> Record:
    """The server wants other credentials."""
    if record.state not in (State.QUEUED, State.SENDING, State.FOLLOWING):
        return record
    return replace(record, state=State.BLOCKED, holder=None)


def unblocked(record: Record) -> Record:
    """There are other credentials."""
    if record.state is not State.BLOCKED:
        return record
    return replace(record, state=State.QUEUED if record.request_id is None else State.FOLLOWING)


# -- following -------------------------------------------------------------------------------------------------------


def sighted(record: Record, sighting: Sighting) -> Record:
    """Apply a channel's news to a record. The only function that ends a task here, once for each outcome.

    Whoever sees the state become :attr:`State.SETTLED` by this has the outcome; for everybody else it was old.
    """
    if record.state is State.ACKED and record.status not in TERMINAL:
        return record  # it was removed here
    if sighting.seq is None:
        return _sighted_without_number(record, sighting)
    old = sighting.seq <= record.settled_seq if sighting.terminal else sighting.seq <= record.seq
    if old or sighting.seq < record.seq or sighting.attempt < record.attempt:  # of a slow channel, or known already
        return replace(record, misses=0) if record.misses else record
    if record.provisional and sighting.attempt <= record.settled_attempt:
        return _numbered(record, sighting)
    known = _told_of(record, sighting)
    if sighting.terminal:
        return _settled(known, sighting, settled_seq=sighting.seq)
    return replace(known, state=State.FOLLOWING) if record.state in OVER else known  # somebody had it run again


def _sighted_without_number(record: Record, sighting: Sighting) -> Record:
    """An old mirror, that has no numbers. Only an outcome counts then, and one of each attempt."""
    known = sighting.attempt <= record.settled_attempt or sighting.attempt < record.attempt
    if not sighting.terminal or known or record.state in OVER:
        return record
    return _settled(_told_of(record, sighting), sighting, settled_seq=record.settled_seq)


def _numbered(record: Record, sighting: Sighting) -> Record:
    """Here is the number of an end that was told without; or a poll that was on its way before that end."""
    if not sighting.terminal:
        return record
    return replace(_told_of(record, sighting), settled_seq=sighting.seq or 0, provisional=False)


def _settled(record: Record, sighting: Sighting, *, settled_seq: int) -> Record:
    return replace(
        record,
        state=State.SETTLED,
        settled_seq=settled_seq,
        settled_attempt=sighting.attempt,
        provisional=sighting.seq is None,
        holder=None,
    )


def _told_of(record: Record, sighting: Sighting) -> Record:
    return replace(
        record,
        status=sighting.status,
        seq=record.seq if sighting.seq is None else sighting.seq,
        attempt=max(record.attempt, sighting.attempt),
        percentage=max(record.percentage, sighting.percentage),
        progress=record.progress if sighting.progress is None else sighting.progress,
        error_message=sighting.error_message,
        via=sighting.via,
        misses=0,
    )


def missed(record: Record) -> Record:
    """The backend does not know it. Believed the second time: a store that was restored may be a moment behind."""
    if record.state is not State.FOLLOWING:
        return record
    if record.misses + 1 < MISSES:
        return replace(record, misses=record.misses + 1)
    return replace(record, state=State.GONE, status="gone", misses=0, via="client", holder=None)


def moved(record: Record, cursor: int) -> Record:
    """A consumer was given the events up to this one."""
    return replace(record, cursor=cursor) if cursor > record.cursor else record


# -- telling ---------------------------------------------------------------------------------------------------------


def claim_to_tell(record: Record, *, holder: str, now: float) -> Record:
    """Take the right to announce it; the same record back means that somebody else has it, or that it was told."""
    if record.state in UNTOLD and free(record, now):
        return replace(record, holder=holder, held_at=now)
    return record


def let_go(record: Record, claim: Record) -> Record:
    """Give the right back: it was not told."""
    return replace(record, holder=None) if _holds(claim, record) else record


def announced(record: Record, claim: Record) -> Record:
    """It was told. What the server never had, or has no longer, need not hear of it.

    :param claim: the record as it was claimed; if it runs again or has ended anew since, this was the older outcome.
    """
    if not _holds(claim, record):
        return record
    return replace(record, state=State.ANNOUNCED if record.state is State.SETTLED else State.ACKED, holder=None)


def _holds(claim: Record, record: Record) -> bool:
    return record.state in UNTOLD and (record.holder, record.held_at) == (claim.holder, claim.held_at)


def acked(record: Record) -> Record:
    """The server knows that it was seen."""
    return replace(record, state=State.ACKED) if record.state is State.ANNOUNCED else record


def forgotten(record: Record) -> Record:
    """It is of no interest here any more, wherever it stands. The server goes on with what it has."""
    if record.state is State.ACKED:
        return record
    if record.request_id is None and record.state in PENDING:
        record = replace(record, status="rejected", error_message="it was removed before it was sent")
    return replace(record, state=State.ACKED, body=None, holder=None)


def withdrawn(record: Record) -> Record:
    """Cancelled before anybody has tried to send it."""
    if record.state is not State.QUEUED or record.tries:
        return record
    return replace(record, state=State.REJECTED, status="cancelled", body=None, via="client")


def reopened(record: Record, sighting: Sighting) -> Record:
    """It runs again, by an explicit retry."""
    known = _told_of(record, sighting)
    return replace(known, state=State.FOLLOWING, seq=max(record.seq, known.seq), provisional=False, holder=None)


def followed(record: Record) -> Record:
    """Somebody asks for a task that was removed here, or given up."""
    given_up = record.state is State.ACKED and record.status not in TERMINAL
    if record.request_id is None or not given_up:
        return record
    return replace(record, state=State.FOLLOWING, status="started", misses=0)
