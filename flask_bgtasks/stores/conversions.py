"""How stores write values for which a database has no type: times as numbers, structures as JSON texts.

And how they read what a newer version of the library wrote, during a rolling deploy: what is added to the end of a list
is ignored, and a task with a word that is not known here is left to the processes that know it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any, TypeVar

from ..core.model import Checkpoint, Event, Progress, Result, Task, TokenNote
from ..errors import FromNewerVersion
from ..runtime.log_lines import Recurring

E = TypeVar("E", bound=Enum)
R = TypeVar("R")

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)

TASK_TIMES = (
    "created_at",
    "updated_at",
    "started_at",
    "completed_at",
    "place",
    "expire_at",
    "lease_until",
    "cancel_requested_at",
    "seen_at",
    "told_at",
    "muted_at",
)
"""The fields of a task that are times."""

CHECKPOINT = "checkpoint:"
"""Prefix of the name of a checkpoint's part, where a store keeps a task's parts by name."""

_dumps = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def dumps(value: Any) -> str:
    """JSON text, ASCII only: so that no lone surrogate or NUL in it upsets a database."""
    return _dumps(value)


def micros(at: datetime) -> int:
    """A time as microseconds since 1970."""
    return (at - EPOCH) // MICROSECOND


def moment(value: int) -> datetime:
    """The time of so many microseconds since 1970. :raises OverflowError: beyond the year 9999."""
    return EPOCH + timedelta(microseconds=value)


def event_data(event: Event) -> str:
    """An event's data as JSON text."""
    return _dumps(event.data) if event.data else "{}"


def result_head(result: Result) -> str:
    """The part of a result that is kept beside its body."""
    return _dumps([result.status_code, result.content_type, result.headers])


def result(head: str, body: bytes) -> Result:
    """A stored result."""
    status_code, content_type, headers, *_ = json.loads(head)
    return Result(bytes(body), status_code, content_type, tuple((name, value) for name, value in headers))


def checkpoint(part: str, head: str, body: bytes) -> Checkpoint:
    """A stored checkpoint. :param part: the name of its part, with :data:`CHECKPOINT`."""
    return Checkpoint(part.removeprefix(CHECKPOINT), json.loads(head), bytes(body))


def token_note_text(note: TokenNote) -> str:
    """A token note as JSON text."""
    return _dumps([note.kind, note.lang, note.registered])


def token_note(text: str) -> TokenNote:
    """A stored token note."""
    return TokenNote(*json.loads(text)[:_NOTED])


def progress_of(updated_at: datetime, rest: list[Any]) -> Progress:
    """A stored progress, with the values that follow its time."""
    return Progress(updated_at, *rest[:_REPORTED])


_NOTED = len(fields(TokenNote))
_REPORTED = len(fields(Progress)) - 1


# -- what a newer version wrote ----------------------------------------------------------------------------------------


def member(kind: type[E], value: str, *, field: str, request_id: str) -> E:
    """The member of an enumeration that a field of a task names. :raises FromNewerVersion: it is not known here."""
    try:
        return kind(value)
    except ValueError:
        raise FromNewerVersion(request_id, field, value) from None


def understood(read: Callable[[R], Task], found: Iterable[R]) -> Iterator[Task]:
    """The tasks of these rows that this version understands. The others it leaves alone, and says so in the log."""
    for row in found:
        try:
            yield read(row)
        except FromNewerVersion as error:
            _left_alone.note("left alone: %s", error)


_left_alone = Recurring(logging.getLogger("flask_bgtasks"))
