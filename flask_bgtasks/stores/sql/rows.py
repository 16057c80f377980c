"""Between rows and the model: pure conversions, in the order of the columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from ...model import Event, EventType, Kind, Progress, Result, Status, Task
from ..base import Delivery
from . import schema

Row = Any
"""A driver's row: a sequence in the order of the selected columns."""

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)

TASK_FIELDS = tuple(column.name for column in schema.tasks.columns)

_TIMES = frozenset(
    {
        "created_at",
        "updated_at",
        "started_at",
        "completed_at",
        "expire_at",
        "lease_until",
        "cancel_requested_at",
        "seen_at",
    }
)

_dumps = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_statuses = {status.value: status for status in Status}
_kinds = {kind.value: kind for kind in Kind}
_event_types = {type.value: type for type in EventType}


def micros(at: datetime) -> int:
    """A time as it is stored."""
    return (at - EPOCH) // MICROSECOND


def moment(value: int) -> datetime:
    """A stored time."""
    return EPOCH + timedelta(microseconds=value)


def _moment(value: int | None) -> datetime | None:
    return None if value is None else EPOCH + timedelta(microseconds=value)


def dumps(value: Any) -> str:
    """JSON text, ASCII only: so that no lone surrogate or NUL in it upsets a database."""
    return _dumps(value)


def task(row: Row) -> Task:
    """A row of all columns of the tasks' table."""
    return Task(
        row[0],
        row[1],
        _kinds[row[2]],
        EPOCH + timedelta(microseconds=row[3]),
        EPOCH + timedelta(microseconds=row[4]),
        timedelta(microseconds=row[5]),
        _statuses[row[6]],
        row[7],
        row[8],
        row[9],
        row[10],
        row[11],
        None if row[12] is None else _progress(row[12]),
        _moment(row[13]),
        _moment(row[14]),
        _moment(row[15]),
        row[16],
        row[17],
        row[18],
        row[19],
        row[20],
        row[21],
        _moment(row[22]),
        _moment(row[23]),
        _moment(row[24]),
        row[25],
        row[26],
        row[27],
        row[28],
    )


def task_values(new: Task, old: Task | None = None) -> dict[str, Any]:
    """The columns of a task; with ``old`` only those that differ."""
    values: dict[str, Any] = {}
    for field in TASK_FIELDS:
        value = getattr(new, field)
        if old is not None:
            before = getattr(old, field)
            if value is before or value == before:
                continue
        values[field] = _column(field, value)
    return values


def _column(field: str, value: Any) -> Any:
    if value is None:
        return None
    if field in _TIMES:
        return micros(value)
    if field in ("status", "kind"):
        return value.value
    if field == "expires_after":
        return value // MICROSECOND
    if field == "progress":
        return _progress_text(value)
    if field == "error_message":  # the app's own text: whatever it holds must not keep the failure from being stored
        return value.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
    return value


def _progress_text(progress: Progress) -> str:
    return _dumps(
        [
            micros(progress.updated_at),
            progress.attempt,
            progress.percentage,
            progress.step,
            progress.step_number,
            progress.total_steps,
            progress.details,
            progress.eta_seconds,
        ]
    )


def _progress(text: str) -> Progress:
    at, *rest = json.loads(text)
    return Progress(moment(at), *rest)


def event(row: Row) -> Event:
    """A row of seq, type, at, attempt, data."""
    return Event(row[0], _event_types[row[1]], moment(row[2]), row[3], json.loads(row[4]))


def event_values(request_id: str, event: Event) -> dict[str, Any]:
    """The columns of an event."""
    return {
        "request_id": request_id,
        "seq": event.seq,
        "type": event.type.value,
        "at": micros(event.at),
        "attempt": event.attempt,
        "data": _dumps(event.data) if event.data else "{}",
    }


def result_head(result: Result) -> str:
    """What of a result is kept beside its body."""
    return _dumps([result.status_code, result.content_type, result.headers])


def result(head: str, body: bytes) -> Result:
    """A stored result."""
    status_code, content_type, headers = json.loads(head)
    return Result(bytes(body), status_code, content_type, tuple((name, value) for name, value in headers))


DELIVERY_FIELDS = (
    "id",
    "sink",
    "kind",
    "request_id",
    "seq",
    "payload",
    "tries",
    "created_at",
    "due_at",
    "dead",
    "error",
)


def delivery(row: Row) -> Delivery:
    """A row of :data:`DELIVERY_FIELDS`."""
    payload: Mapping[str, Any] | None = None if row[5] is None else json.loads(row[5])
    return Delivery(
        id=row[0],
        sink=row[1],
        kind=row[2],
        request_id=row[3],
        seq=row[4],
        payload=payload,
        tries=row[6],
        created_at=moment(row[7]),
        due_at=moment(row[8]),
        dead=bool(row[9]),
        error=row[10],
    )
