"""The documents, as JSON Schema, and the parameters and headers that several calls share."""

from __future__ import annotations

import re
from typing import Any

from ...core.devices import FCM_TOKEN, FID, WEBPUSH
from ...core.model import EventType, Status
from ...core.preferences import DROP, HOLD, KINDS, MAX_MUTED
from ..problems import BASE, TYPES
from ..requests import json_body
from ..requests.query import MAX_IDS
from ..views.devices import DEVICE_ID, ENDPOINT, KEYS, PLATFORM

PROBLEMS_PAGE = BASE.rstrip("#")

Schema = dict[str, Any]

ID_PATTERN = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
PLACE_PATTERN = "^[0-9]{1,15}$"


def ref(name: str, kind: str = "schemas") -> dict[str, str]:
    """A reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def _nullable(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _whole(pattern: re.Pattern[str], description: str = "", **more: Any) -> Schema:
    """A string that must match the whole pattern, as in the views."""
    about = {"description": description} if description else {}
    return {"type": "string", "pattern": f"^{pattern.pattern}$", **about, **more}


def _object(properties: dict[str, Schema], *, optional: tuple[str, ...] = (), open: bool = False) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": open,
    }


TEXT: Schema = {"type": "string"}
PLAIN_TEXT: Schema = {"type": "string", "maxLength": 1000, "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$"}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time", "description": "UTC, with Z."}
ID: Schema = {"type": "string", "format": "uuid", "pattern": ID_PATTERN}
STATUS: Schema = {"type": "string", "enum": [status.value for status in Status]}

PROGRESS = _object(
    {
        "request_id": ID,
        "step": _nullable(TEXT),
        "step_number": WHOLE,
        "total_steps": _nullable(WHOLE),
        "details": _nullable(TEXT),
        "progress_percentage": {"type": "number", "minimum": 0, "maximum": 100, "description": "Never falls."},
        "status": STATUS,
        "last_updated": TIME,
        "eta_seconds": _nullable(NUMBER),
        "attempt": WHOLE,
    }
)

_LINKED = ("self", "progress", "events", "result", "cancel", "retry", "seen", "mute", "live_activity")
LINKS = _object(dict.fromkeys(_LINKED, TEXT))

_BRIEF: dict[str, Schema] = {
    "request_id": ID,
    "status": STATUS,
    "created_at": TIME,
    "completed_at": _nullable(TIME),
    "error_message": _nullable(TEXT),
    "rejected": {
        **FLAG,
        "description": "The view refused the request with a `4xx`: that is its answer, not a failure of the app.",
    },
    "result_status": {**_nullable(WHOLE), "description": "The status code of the view's answer."},
    "name": TEXT,
    "owner_uid": _nullable(TEXT),
    "attempt": {**WHOLE, "description": "The number of the current attempt; 0 before the first."},
    "seq": {**WHOLE, "description": "The number of the newest event. With `attempt`, it identifies duplicates."},
    "updated_at": TIME,
    "expire_at": _nullable(TIME),
    "cancel_requested_at": _nullable(TIME),
    "retry_at": {**_nullable(TIME), "description": "When the next attempt may begin, while the task waits for it."},
    "done": FLAG,
    "poll_after_ms": {**_nullable(WHOLE), "description": "When to poll again; null when there is nothing to wait for."},
    "progress": ref("Progress"),
    "links": ref("Links"),
}

_ATTENTION: dict[str, Schema] = {
    "seen_at": {**_nullable(TIME), "description": "When a client first showed the outcome."},
    "seen_via": _nullable(TEXT),
    "muted": {**FLAG, "description": "The owner has muted its notification."},
}
"""In lists that are read from the store only: what is answered from memory, by ``seq``, would be out of date."""

_ADDRESS = _whole(json_body.ADDRESS, "The address. It is in no response.")
_TOKEN = _nullable(
    _whole(
        json_body.ADDRESS,
        "The registration token of the installation. It proves that the installation is the client's own, and removes "
        "what others have registered for it. Only its hash is kept.",
    )
)
_LANGUAGE = _whole(json_body.LANGUAGE, "A language tag (BCP 47).", maxLength=json_body.MAX_LANGUAGE)

_DEVICE: dict[str, Schema] = {
    "platform": _nullable(_whole(PLATFORM, "`ios`, `android`, `web`.")),
    "app": _nullable(_whole(json_body.NAME, "The app and its version, to recognise the device in the list.")),
    "lang": _nullable(_LANGUAGE),
}

_REPLACES = _nullable(_whole(DEVICE_ID, "The `id` of the same device under an earlier address, which is removed."))

_SUBSCRIPTION = _object(
    {
        "endpoint": _whole(ENDPOINT, maxLength=json_body.MAX_ADDRESS),
        "keys": _object({name: _whole(pattern) for name, (_, pattern) in KEYS.items()}, open=True),
    },
    open=True,
)

_QUIET_HOURS = _object(
    {
        "from": {**TEXT, "pattern": "^([01]?[0-9]|2[0-3]):[0-5]?[0-9]$"},
        "to": {
            **TEXT,
            "pattern": "^([01]?[0-9]|2[0-3]):[0-5]?[0-9]$",
            "description": "Another time; if earlier than `from`, of the next day.",
        },
        "time_zone": {**TEXT, "description": "A name from the IANA database, such as `Europe/Berlin`."},
        "then": {
            "enum": [HOLD, DROP],
            "description": "Whether notifications are held until the quiet hours end, or dropped.",
        },
    },
    optional=("then",),
)

_NAMES = {"type": "array", "items": {**TEXT, "minLength": 1, "pattern": "^[^\\p{C}]*$"}, "maxItems": MAX_MUTED}

PREFERENCES: dict[str, Schema] = {
    "kinds": {
        "type": "array",
        "items": {"enum": list(KINDS)},
        "description": "What to notify about; everything if left out.",
    },
    "quiet_hours": {**_QUIET_HOURS, "type": ["object", "null"]},
    "muted": {**_NAMES, "description": "Names of tasks without notifications."},
}

TASK = _object(
    {
        **_BRIEF,
        "result_data": {"description": "The task's result, if it is JSON and at most 1 MiB; else null."},
        "result_omitted": {
            **FLAG,
            "description": "The JSON result is too large, or nested too deep; fetch it at `links.result`.",
        },
    }
)

EVENT = _object(
    {
        "request_id": ID,
        "seq": {"type": "integer", "minimum": 1},
        "type": {"type": "string", "enum": [type.value for type in EventType]},
        "at": TIME,
        "attempt": WHOLE,
    },
    open=True,
)

SCHEMAS: dict[str, Schema] = {
    "Task": TASK,
    "TaskBrief": _object(_BRIEF),
    "TaskListed": _object({**_BRIEF, **_ATTENTION}, optional=tuple(_ATTENTION)),
    "Progress": PROGRESS,
    "Links": LINKS,
    "Event": EVENT,
    "Accepted": _object(
        {"request_id": ID, "status": STATUS, "links": ref("Links"), "access_token": TEXT}, optional=("access_token",)
    ),
    "TaskList": _object(
        {
            "tasks": {"type": "array", "items": ref("TaskListed"), "maxItems": MAX_IDS},
            "missing": {"type": "array", "items": TEXT, "description": "The requested ids that do not exist."},
            "cursor": {
                **_nullable(TEXT),
                "description": "Fetches the next page, if there is more than `limit` or 1 MiB; null on the last page.",
            },
            "anonymous": {
                **FLAG,
                "description": "Nobody is logged in, in an app that names owners: a missing task may exist.",
            },
        }
    ),
    "EventPage": _object(
        {
            "request_id": ID,
            "events": {"type": "array", "items": ref("Event")},
            "after": WHOLE,
            "next": {**WHOLE, "description": "The `starting_after` of the next page."},
            "trimmed": {**FLAG, "description": "Events between `after` and the first one are no longer kept."},
            "seq": WHOLE,
            "done": FLAG,
        }
    ),
    "Stats": _object(
        {
            "tasks": _object({status.value: WHOLE for status in Status}),
            "rejected": {**WHOLE, "description": "How many of the failed tasks were refused by their view (`4xx`)."},
            "oldest_waiting": _nullable(TIME),
            "seen": {**WHOLE, "description": "Tasks whose outcome a client has shown."},
            "mean_seconds_to_seen": {
                **_nullable(NUMBER),
                "description": "From the end of a task until its outcome was shown.",
            },
            "deliveries": _object({"pending": WHOLE, "dead": WHOLE}),
            "process": _object({"waiting": WHOLE, "streams": ref("Streams")}),
        }
    ),
    "Streams": _object(
        {"open": WHOLE, "max": {**_nullable(WHOLE), "description": "null until the first stream is requested."}}
    ),
    "Health": _object(
        {
            "status": {"enum": ["ok", "degraded"]},
            "checks": _object({"store": TEXT, "runner": TEXT, "threads": TEXT, "tasks": TEXT}, optional=("tasks",)),
            "streams": ref("Streams"),
        }
    ),
    "Seen": _object({"via": {"type": "string", "enum": ["poll", "stream", "push", "firestore"]}}, open=True),
    "NewDevice": {
        "oneOf": [
            _object(
                {"kind": {"const": FID}, "value": _ADDRESS, "token": _TOKEN, **_DEVICE, "replaces": _REPLACES},
                optional=("token", *_DEVICE, "replaces"),
            ),
            _object(
                {"kind": {"const": FCM_TOKEN}, "value": _ADDRESS, **_DEVICE, "replaces": _REPLACES},
                optional=(*_DEVICE, "replaces"),
            ),
            _object(
                {"kind": {"const": WEBPUSH}, "value": _SUBSCRIPTION, **_DEVICE, "replaces": _REPLACES},
                optional=(*_DEVICE, "replaces"),
            ),
        ],
        "description": "A Firebase Installation ID, an FCM registration token, or a browser's `PushSubscription`. "
        "What is left out stays unchanged. Apps with their own sinks may accept more kinds.",
    },
    "Device": _object({"id": _whole(DEVICE_ID), "kind": TEXT, **_DEVICE, "created_at": TIME, "seen_at": TIME}),
    "DeviceList": _object(
        {
            "devices": {"type": "array", "items": ref("Device"), "description": "The most recently seen first."},
            "application_server_key": {
                **_nullable(TEXT),
                "description": "The key with which a browser subscribes (Push API); null if Web Push is not set up.",
            },
        }
    ),
    "Preferences": _object(PREFERENCES),
    "NewPreferences": _object(PREFERENCES, optional=tuple(PREFERENCES)),
    "LiveActivity": _object(
        {
            "token": _ADDRESS,
            "device": {
                "oneOf": [_ADDRESS, _object({"kind": {"enum": [FID, FCM_TOKEN]}, "value": _ADDRESS})],
                "description": "The FCM address of the device that the activity is on.",
            },
        }
    ),
    "LiveActivityToken": _object({"token": _ADDRESS}),
    "Problem": _object(
        {
            "type": {"type": "string", "enum": [*(kind.uri for kind in TYPES.values()), "about:blank"]},
            "title": TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": TEXT,
        },
        optional=("detail",),
        open=True,
    ),
}


def _query(name: str, schema: Schema, description: str, **more: Any) -> Schema:
    return {"name": name, "in": "query", "schema": schema, "description": description, **more}


def _header(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "header", "schema": schema, "description": description}


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_COMMAS = {"style": "form", "explode": False}

PARAMETERS: dict[str, Schema] = {
    "request_id": {"name": "request_id", "in": "path", "required": True, "schema": ID},
    "device_id": {"name": "device_id", "in": "path", "required": True, "schema": _whole(DEVICE_ID)},
    "accept_language": _header("Accept-Language", TEXT, "The language of the device, if `lang` is not given."),
    "access_token": _query(
        "access_token",
        TEXT,
        "A signed, read-only token of this task, from its `202`. For clients that cannot send headers (RFC 6750, 2.3).",
    ),
    "wait": _query(
        "wait",
        {"type": "number", "minimum": 0},
        "Hold the answer back for up to this many seconds (at most BGTASKS_MAX_WAIT). With `If-None-Match`, until "
        "there is another version; without, until the task has ended. Answered at once if no place for that is free.",
    ),
    "prefer": _header("Prefer", TEXT, "`wait=N` is the same as `?wait=N`."),
    "if_none_match": _header("If-None-Match", TEXT, "The `ETag` of the version that the client has, or `*`."),
    "starting_after": _query(
        "starting_after",
        {"type": "string", "pattern": PLACE_PATTERN},
        "The number of the last event that the client has.",
    ),
    "last_event_id": _header(
        "Last-Event-ID",
        {"type": "string", "pattern": PLACE_PATTERN},
        "Same as `starting_after`, and takes precedence over it.",
    ),
    "event_limit": _query(
        "limit", {"type": "integer", "minimum": 1, "maximum": 1000}, "Events in a page; does not apply to a stream."
    ),
    "many_ids": _query(
        "ids", {**_list_of(ID), "minItems": 1, "maxItems": MAX_IDS}, "The tasks to follow.", required=True, **_COMMAS
    ),
    "many_starting_after": _query(
        "starting_after",
        _list_of({"type": "string", "pattern": ID_PATTERN.rstrip("$") + ":[0-9]{1,15}$"}),
        "`<request_id>:<number>` for each task that is not to start from 0.",
        **_COMMAS,
    ),
    "many_last_event_id": _header(
        "Last-Event-ID", TEXT, "The `id` of the last event that the client has; it holds the position in every task."
    ),
    "many_access_token": _query(
        "access_token", TEXT, "One token for each of `ids`, in the same order, separated by commas."
    ),
    "ids": _query("ids", {**_list_of(TEXT), "maxItems": MAX_IDS}, "These tasks, whatever their status.", **_COMMAS),
    "status": _query("status", {**_list_of(STATUS), "minItems": 1}, "Tasks with one of these statuses.", **_COMMAS),
    "seen": _query("seen", FLAG, "Tasks whose outcome a client has shown, or (`false`) has not."),
    "name": _query("name", PLAIN_TEXT, "Tasks of this name."),
    "idempotency_key": _query(
        "idempotency_key",
        {"type": "string", "pattern": "^[!-~]{1,255}$"},
        "Tasks that were sent with this key: one for each endpoint that it was used with. `name` selects one.",
    ),
    "limit": _query("limit", {"type": "integer", "minimum": 1, "maximum": 100}, "Tasks in a page; 50 by default."),
    "cursor": _query("cursor", TEXT, "The `cursor` of the previous page; keep the other parameters unchanged."),
}

HEADERS: dict[str, Schema] = {
    "ETag": {"schema": TEXT, "required": True, "description": "Strong; the number of the newest event."},
    "Retry-After": {"schema": WHOLE, "description": "Seconds. Absent when there is nothing to wait for."},
    "Location": {"schema": TEXT, "required": True, "description": "The URL of the task or device."},
    "Task-Id": {"schema": ID, "required": True},
    "Preference-Applied": {"schema": TEXT, "description": "The preference that was applied."},
    "Allow": {"schema": TEXT, "required": True},
    "WWW-Authenticate": {"schema": TEXT, "required": True},
}

COMPONENTS = {
    "schemas": SCHEMAS,
    "parameters": PARAMETERS,
    "headers": HEADERS,
}
