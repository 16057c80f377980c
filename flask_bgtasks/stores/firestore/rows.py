"""Between Firestore's documents and the model: pure conversions. Structures are JSON texts, times native timestamps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from enum import Enum
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
from ...firebase.firestore.values import text
from ..base import PRIVATE
from ..conversions import (
    EPOCH,
    MICROSECOND,
    TASK_TIMES,
    member,
    progress_of,
    token_note,
    token_note_text,
    understood,
)
from ..types import Delivery

MAX_TEXT_BYTES = 50_000  # of one text in a task's document, which holds 1 MiB; JSON may make six bytes of one

EVENT_WIDTH = 10  # digits of an event's id, which sorts as its number


def moment(value: Any) -> datetime | None:
    """A stored time, without the type that the SDK gives it."""
    if value is None:
        return None
    span: timedelta = value - EPOCH
    return EPOCH + span


def task_values(task: Task) -> dict[str, Any]:
    """All fields of a task's document."""
    values = dict(task.__dict__)
    values["kind"] = task.kind.value
    values["status"] = task.status.value
    values["on_interrupt"] = task.on_interrupt.value
    values["expires_after"] = task.expires_after // MICROSECOND
    values["progress"] = None if task.progress is None else _progress_text(task.progress)
    values["token_note"] = None if task.token_note is None else token_note_text(task.token_note)
    values["error_message"] = text(task.error_message, MAX_TEXT_BYTES)
    values["rejected"] = task.rejected
    values["seen"] = task.seen_at is not None
    values["seconds_to_seen"] = _seconds_to_seen(task)
    values["erase_at"] = None if task.expire_at is None else task.expire_at + task.expires_after
    return values


def _seconds_to_seen(task: Task) -> float | None:
    if task.seen_at is None or task.completed_at is None:
        return None
    return (task.seen_at - task.completed_at).total_seconds()


_OURS = frozenset({"seen", "seconds_to_seen", "erase_at", "order", "rejected", PRIVATE})
"""Fields that are kept for queries and for the store itself, and are no part of a task."""


_WORDS: Mapping[str, type[Enum]] = {"kind": TaskKind, "status": Status, "on_interrupt": OnInterrupt}


def tasks(found: Iterable[Mapping[str, Any]]) -> Iterator[Task]:
    """Tasks' documents; without those that only a newer version understands."""
    return understood(task, found)


def task(found: Mapping[str, Any]) -> Task:
    """A task's document. :raises FromNewerVersion: it is not to be understood here."""
    fields = {"app": "", **{name: value for name, value in found.items() if name not in _OURS}}
    for name in TASK_TIMES:
        fields[name] = moment(fields.get(name))
    for name, kind in _WORDS.items():
        fields[name] = member(kind, fields[name], field=name, request_id=fields["request_id"])
    fields["expires_after"] = timedelta(microseconds=fields["expires_after"])
    fields["progress"] = None if fields["progress"] is None else _progress(fields["progress"])
    note = fields.get("token_note")
    fields["token_note"] = None if note is None else token_note(note)
    return made_of(fields)


def _progress_text(progress: Progress) -> str:
    return json.dumps(
        [
            progress.updated_at.isoformat(),
            progress.attempt,
            progress.percentage,
            text(progress.step, MAX_TEXT_BYTES),
            progress.step_number,
            progress.total_steps,
            text(progress.details, MAX_TEXT_BYTES),
            progress.eta_seconds,
        ]
    )


def _progress(text: str) -> Progress:
    at, *rest = json.loads(text)
    return progress_of(datetime.fromisoformat(at), rest)


def event_id(seq: int) -> str:
    """The name of an event's document."""
    return f"{seq:0{EVENT_WIDTH}d}"


def event_values(event: Event) -> dict[str, Any]:
    """The fields of an event's document, but for its data."""
    return {"seq": event.seq, "type": event.type.value, "at": event.at, "attempt": event.attempt}


def event(found: Mapping[str, Any], data: str | bytes) -> Event:
    """An event's document. :param data: as :func:`event_data` made it."""
    at = moment(found["at"])
    assert at is not None
    return Event(found["seq"], EventType(found["type"]), at, found["attempt"], json.loads(data))


def delivery(found: Mapping[str, Any]) -> Delivery:
    """A delivery's document."""
    created_at, due_at = moment(found["created_at"]), moment(found["due_at"])
    assert created_at is not None
    assert due_at is not None
    return Delivery(
        id=found["id"],
        sink=found["sink"],
        kind=found["kind"],
        request_id=found["request_id"],
        seq=found["seq"],
        payload=None if found["payload"] is None else json.loads(found["payload"]),
        tries=found["tries"],
        created_at=created_at,
        due_at=due_at,
        dead=found["dead"],
        error=found["error"],
        channel=found.get("channel", ""),
    )


DEVICE_FIELDS = ("id", "kind", "value", "owner", "platform", "app", "lang", "request_id")


def device_values(device: Device) -> dict[str, Any]:
    """The fields of a device's document."""
    values = {name: getattr(device, name) for name in DEVICE_FIELDS}
    times = {"created_at": device.created_at, "seen_at": device.seen_at}
    return {**values, **times, "details": json.dumps(device.details), "installation": device.installation}


def device(found: Mapping[str, Any]) -> Device:
    """A device's document."""
    fields = {name: found[name] for name in DEVICE_FIELDS}
    fields |= {name: moment(found[name]) for name in ("created_at", "seen_at")}
    return Device(**fields, details=json.loads(found["details"]))


def key_of(app_id: str, key: str) -> str:
    """The name of the document that an app has once for a key. No app's id holds a line break."""
    return hashed(f"{app_id}\n{key}" if app_id else key)


def hashed(text: str) -> str:
    """A document's name for any text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]
