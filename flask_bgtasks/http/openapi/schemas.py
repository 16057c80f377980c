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
    """A text that matches as a whole, as the views match it."""
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
        "description": "Its view refused the request with a `4xx`, which is its answer and no failure of the app.",
    },
    "result_status": {**_nullable(WHOLE), "description": "The status code that the view answered."},
    "name": TEXT,
    "owner_uid": _nullable(TEXT),
    "attempt": {**WHOLE, "description": "Which try at the task this is; 0 before the first."},
    "seq": {**WHOLE, "description": "The number of the newest event. With `attempt`, what clients tell doubles by."},
    "updated_at": TIME,
    "expire_at": _nullable(TIME),
    "cancel_requested_at": _nullable(TIME),
    "retry_at": {**_nullable(TIME), "description": "When the next attempt may begin, between two of them."},
    "done": FLAG,
    "poll_after_ms": {**_nullable(WHOLE), "description": "When to ask again; null when there is nothing to wait for."},
    "progress": ref("Progress"),
    "links": ref("Links"),
}

_ATTENTION: dict[str, Schema] = {
    "seen_at": {**_nullable(TIME), "description": "When a client first showed its outcome."},
    "seen_via": _nullable(TEXT),
    "muted": {**FLAG, "description": "Its owner wants no notification of it."},
}
"""In lists that are read from the store only: what is answered from memory, by ``seq``, would be out of date."""

_ADDRESS = _whole(json_body.ADDRESS, "The address. No answer holds it.")
_TOKEN = _nullable(
    _whole(
        json_body.ADDRESS,
        "The registration token of the installation. It shows that the installation is the client's, and ends what "
        "others have registered for it. Its hash is kept.",
    )
)
_LANGUAGE = _whole(json_body.LANGUAGE, "A language tag (BCP 47).", maxLength=json_body.MAX_LANGUAGE)

_DEVICE: dict[str, Schema] = {
    "platform": _nullable(_whole(PLATFORM, "`ios`, `android`, `web`.")),
    "app": _nullable(_whole(json_body.NAME, "Which app, and of which version: for who looks at the list.")),
    "lang": _nullable(_LANGUAGE),
}

_REPLACES = _nullable(_whole(DEVICE_ID, "The `id` of the same device under an earlier address: it is forgotten."))

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
        "to": {**TEXT, "pattern": "^([01]?[0-9]|2[0-3]):[0-5]?[0-9]$", "description": "Another one; of the next day."},
        "time_zone": {**TEXT, "description": "A name of the IANA database, `Europe/Berlin`."},
        "then": {"enum": [HOLD, DROP], "description": "What comes meanwhile is told when they end, or never."},
    },
    optional=("then",),
)

_NAMES = {"type": "array", "items": {**TEXT, "minLength": 1, "pattern": "^[^\\p{C}]*$"}, "maxItems": MAX_MUTED}

PREFERENCES: dict[str, Schema] = {
    "kinds": {"type": "array", "items": {"enum": list(KINDS)}, "description": "What to notify of; all where left out."},
    "quiet_hours": {**_QUIET_HOURS, "type": ["object", "null"]},
    "muted": {**_NAMES, "description": "Names of tasks of which nothing is to be told."},
}

TASK = _object(
    {
        **_BRIEF,
        "result_data": {"description": "What the task answered, where that is JSON and at most 1 MiB; else null."},
        "result_omitted": {**FLAG, "description": "The JSON result is larger, or too deep: it is at `links.result`."},
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
            "missing": {"type": "array", "items": TEXT, "description": "Of the ids that were asked for."},
            "cursor": {
                **_nullable(TEXT),
                "description": "Asks for the next page, of what is beyond `limit` or 1 MiB; null on the last.",
            },
            "anonymous": {
                **FLAG,
                "description": "Nobody is logged in, in an app that knows its users: a missing task may be there.",
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
            "rejected": {**WHOLE, "description": "Of the failed tasks, those whose view refused the request (`4xx`)."},
            "oldest_waiting": _nullable(TIME),
            "seen": {**WHOLE, "description": "Tasks whose outcome a client has shown."},
            "mean_seconds_to_seen": {**_nullable(NUMBER), "description": "From the end of a task to that."},
            "deliveries": _object({"pending": WHOLE, "dead": WHOLE}),
            "process": _object({"waiting": WHOLE, "streams": ref("Streams")}),
        }
    ),
    "Streams": _object(
        {"open": WHOLE, "max": {**_nullable(WHOLE), "description": "null before the first was asked for."}}
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
        "What is left out stays as it was known. Apps with sinks of their own may have more kinds.",
    },
    "Device": _object({"id": _whole(DEVICE_ID), "kind": TEXT, **_DEVICE, "created_at": TIME, "seen_at": TIME}),
    "DeviceList": _object(
        {
            "devices": {"type": "array", "items": ref("Device"), "description": "The last seen first."},
            "application_server_key": {
                **_nullable(TEXT),
                "description": "What a browser subscribes with (Push API); null where Web Push is not set up.",
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
    "accept_language": _header("Accept-Language", TEXT, "The language of a device of which no other is known."),
    "access_token": _query(
        "access_token",
        TEXT,
        "A signed, read-only token of this task, from its `202`. For who cannot send headers (RFC 6750, section 2.3).",
    ),
    "wait": _query(
        "wait",
        {"type": "number", "minimum": 0},
        "Hold the answer back for up to so many seconds (cut to BGTASKS_MAX_WAIT). With `If-None-Match`, until there "
        "is another version; without, until the task has ended. Answered at once where all places for that are taken.",
    ),
    "prefer": _header("Prefer", TEXT, "`wait=N` is as `?wait=N`."),
    "if_none_match": _header("If-None-Match", TEXT, "The `ETag` of the version that the client has, or `*`."),
    "starting_after": _query(
        "starting_after",
        {"type": "string", "pattern": PLACE_PATTERN},
        "The number of the last event that the client has.",
    ),
    "last_event_id": _header(
        "Last-Event-ID", {"type": "string", "pattern": PLACE_PATTERN}, "As `starting_after`, and wins over it."
    ),
    "event_limit": _query("limit", {"type": "integer", "minimum": 1, "maximum": 1000}, "Of a page; not of a stream."),
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
        "Last-Event-ID", TEXT, "The `id` of the last event that the client has; it holds its place in every task."
    ),
    "many_access_token": _query(
        "access_token", TEXT, "One token for each of `ids`, in their order, with commas between."
    ),
    "ids": _query("ids", {**_list_of(TEXT), "maxItems": MAX_IDS}, "These tasks, of any state.", **_COMMAS),
    "status": _query("status", {**_list_of(STATUS), "minItems": 1}, "Tasks in one of these states.", **_COMMAS),
    "seen": _query("seen", FLAG, "Tasks whose outcome a client has shown, or has not: `done` or not."),
    "name": _query("name", PLAIN_TEXT, "Tasks of this name."),
    "idempotency_key": _query(
        "idempotency_key",
        {"type": "string", "pattern": "^[!-~]{1,255}$"},
        "The tasks that were sent with this key: one for each endpoint it was used with. `name` narrows it down.",
    ),
    "limit": _query("limit", {"type": "integer", "minimum": 1, "maximum": 100}, "Tasks in a page; 50 by default."),
    "cursor": _query("cursor", TEXT, "The `cursor` of the page before, whose other parameters are the same."),
}

HEADERS: dict[str, Schema] = {
    "ETag": {"schema": TEXT, "required": True, "description": "Strong; the number of the newest event."},
    "Retry-After": {"schema": WHOLE, "description": "Seconds. Not there once there is nothing to wait for."},
    "Location": {"schema": TEXT, "required": True, "description": "Where it is followed, or forgotten."},
    "Task-Id": {"schema": ID, "required": True},
    "Preference-Applied": {"schema": TEXT, "description": "The `Prefer` that was followed."},
    "Allow": {"schema": TEXT, "required": True},
    "WWW-Authenticate": {"schema": TEXT, "required": True},
}

COMPONENTS = {
    "schemas": SCHEMAS,
    "parameters": PARAMETERS,
    "headers": HEADERS,
}
