"""Between rows and the model: pure conversions, in the order of the columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from ...core.devices import Device
from ...core.model import (
    Event,
    EventType,
    OnInterrupt,
    Progress,
    Status,
    Task,
    TaskKind,
    made_of,
)
from ...errors import FromNewerVersion
from ..conversions import (
    MICROSECOND,
    TASK_TIMES,
    dumps,
    event_data,
    micros,
    moment,
    progress_of,
    token_note,
    token_note_text,
    understood,
)
from ..types import Delivery
from . import schema

Row = Any
"""A driver's row: a sequence in the order of the selected columns."""

TASK_FIELDS = tuple(column.name for column in schema.tasks.columns if column.name != "number")

_statuses = {status.value: status for status in Status}
_kinds = {kind.value: kind for kind in TaskKind}
_interrupts = {choice.value: choice for choice in OnInterrupt}

NUMBER = len(TASK_FIELDS)
"""Where a row of all columns holds the task's number."""


def task(row: Row) -> Task:
    """A row of all columns of the tasks' table. :raises FromNewerVersion: it is not to be understood here."""
    fields = dict(zip(TASK_FIELDS, row, strict=False))  # what is over is the number
    for name, read in _READ.items():
        value = fields[name]
        if value is not None:
            try:
                fields[name] = read(value)
            except KeyError:
                raise FromNewerVersion(fields["request_id"], name, value) from None
    return made_of(fields)


def tasks(found: Iterable[Row]) -> list[Task]:
    """Such rows; without those that only a newer version understands."""
    return list(understood(task, found))


def task_values(new: Task, old: Task | None = None) -> dict[str, Any]:
    """The columns of a task; with ``old`` only those that differ."""
    if old is None:
        values = dict(new.__dict__)
    else:
        before = old.__dict__
        values = {name: value for name, value in new.__dict__.items() if value is not before[name]}
    for name in values.keys() & _WRITE.keys():
        value = values[name]
        if value is not None:
            values[name] = _WRITE[name](value)
    return values


def _storable(text: str) -> str:
    """The app's own text: whatever it holds must not keep a failure from being stored."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def _progress_text(progress: Progress) -> str:
    return dumps(
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
    return progress_of(moment(at), rest)


# How the columns that are not kept as they are become fields, and fields columns.
_READ: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(TASK_TIMES, moment),
    "kind": _kinds.__getitem__,
    "status": _statuses.__getitem__,
    "on_interrupt": _interrupts.__getitem__,
    "expires_after": lambda value: timedelta(microseconds=value),
    "progress": _progress,
    "token_note": token_note,
}
_WRITE: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(TASK_TIMES, micros),
    "kind": lambda kind: kind.value,
    "status": lambda status: status.value,
    "on_interrupt": lambda choice: choice.value,
    "expires_after": lambda span: span // MICROSECOND,
    "progress": _progress_text,
    "token_note": token_note_text,
    "error_message": _storable,
}


def event(row: Row) -> Event:
    """A row of seq, type, at, attempt, data."""
    return Event(row[0], EventType(row[1]), moment(row[2]), row[3], json.loads(row[4]))


def event_values(number: int, event: Event) -> dict[str, Any]:
    """The columns of an event of the task with that number."""
    return {
        "task": number,
        "seq": event.seq,
        "type": event.type.value,
        "at": micros(event.at),
        "attempt": event.attempt,
        "data": event_data(event),
    }


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
    "channel",
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
        channel=row[11],
    )


DEVICE_FIELDS = tuple(column.name for column in schema.devices.columns if column.name not in ("installation", "app_id"))


def device(row: Row) -> Device:
    """A row of :data:`DEVICE_FIELDS`."""
    fields = dict(zip(DEVICE_FIELDS, row, strict=True))
    times = {name: moment(fields[name]) for name in ("created_at", "seen_at")}
    return Device(**{**fields, **times, "details": json.loads(fields["details"])})


def device_values(device: Device) -> dict[str, Any]:
    """The columns of a device that has its times."""
    assert device.created_at is not None
    assert device.seen_at is not None
    values = {name: getattr(device, name) for name in DEVICE_FIELDS}
    times = {"created_at": micros(device.created_at), "seen_at": micros(device.seen_at)}
    return {**values, **times, "details": dumps(device.details), "installation": device.installation}
