"""The calls: the parameters of each, and every status that it can answer with."""

from __future__ import annotations

from typing import Any

from ..problems import TYPES
from .schemas import ref

Item = dict[str, Any]


def _problems(*names: str) -> dict[str, Item]:
    """Responses for these problems, grouped by status."""
    by_status: dict[int, list[str]] = {}
    for name in dict.fromkeys(names):
        by_status.setdefault(TYPES[name].status, []).append(name)
    made = {}
    for status, found in by_status.items():
        response: Item = {
            "description": " Or: ".join(f"{TYPES[name].title} (`{name}`)." for name in found),
            "content": {"application/problem+json": {"schema": ref("Problem")}},
        }
        header = {401: "WWW-Authenticate", 503: "Retry-After", 405: "Allow"}.get(status)
        if header is not None:
            response["headers"] = {header: ref(header, "headers")}
        made[str(status)] = response
    return made


def _json(schema: str, description: str, *headers: str) -> Item:
    response: Item = {"description": description, "content": {"application/json": {"schema": ref(schema)}}}
    if headers:
        response["headers"] = {name: ref(name, "headers") for name in headers}
    return response


def _empty(description: str) -> Item:
    return {"description": description}


def _call(id: str, summary: str, parameters: list[str], responses: dict[str, Item], **more: Any) -> Item:
    return {
        "operationId": id,
        "summary": summary,
        "tags": ["tasks"],
        "parameters": [ref(name, "parameters") for name in parameters],
        "responses": responses,
        **more,
    }


def _body(schema: str, description: str) -> Item:
    return {"description": description, "required": True, "content": {"application/json": {"schema": ref(schema)}}}


_READ = ("access-denied", "task-not-found", "task-expired", "store-unavailable")
_WRITE = ("task-not-found", "task-expired", "payload-too-large", "store-unavailable", "outcome-unknown")
_BODY = ("invalid-body", "not-storable", "unsupported-media-type", "payload-too-large")

_STREAM: Item = {
    "description": "Server-sent events (WHATWG HTML). `event:` is an event's type, `data:` its document, `id:` the "
    "position to resume from. The first line is `retry:`. A `ping` event every 15 s has no id. A `snapshot` event has "
    "the current state of the task, in place of events that are no longer kept. The stream ends after the terminal "
    "event, or when its time is over.",
    # The schema describes one event, like OpenAPI 3.2's itemSchema: a whole stream is not one value.
    "content": {
        "text/event-stream": {
            "schema": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("id", "event", "data", "retry")},
            }
        }
    },
}

STATUS = _call(
    "getTask",
    "The status of a task",
    ["request_id", "wait", "prefer", "if_none_match", "access_token"],
    {
        "200": _json("Task", "The task, also if it failed.", "ETag", "Retry-After", "Preference-Applied"),
        "304": {
            "description": "It is still the version that the client has.",
            "headers": {"ETag": ref("ETag", "headers")},
        },
        **_problems("invalid-parameter", *_READ),
    },
)

DELETE = _call(
    "deleteTask",
    "Erase a finished task: record, input, result, history",
    ["request_id"],
    {"204": _empty("The task is erased."), **_problems(*_WRITE, "transition-refused")},
)

PROGRESS = _call(
    "getProgress",
    "The progress of a task",
    ["request_id", "if_none_match", "access_token"],
    {
        "200": _json("Progress", "The newest progress.", "ETag", "Retry-After"),
        "304": _empty("It is still the version that the client has."),
        **_problems(*_READ),
    },
)

EVENTS = _call(
    "followTask",
    "The history of a task, then its new events, live",
    ["request_id", "starting_after", "last_event_id", "event_limit", "access_token"],
    {
        "200": {
            "description": _STREAM["description"] + " With `Accept: application/json`, the history as a page.",
            "content": {**_STREAM["content"], "application/json": {"schema": ref("EventPage")}},
        },
        "204": _empty("The task has ended and the client has all events: do not reconnect."),
        **_problems("invalid-cursor", "invalid-parameter", *_READ, "not-acceptable", "stream-limit-reached"),
    },
)

MANY_EVENTS = _call(
    "followTasks",
    "Many tasks in one stream",
    ["many_ids", "many_starting_after", "many_last_event_id", "many_access_token"],
    {
        "200": {
            **_STREAM,
            "description": _STREAM["description"]
            + " An event's `id:` begins with `<request_id>:<number>` and holds the "
            "client's position in every task. Ids that do not exist are listed in a `missing` event at the start.",
        },
        "204": _empty("All tasks have ended and the client has all events."),
        **_problems("invalid-cursor", "invalid-parameter", *_READ, "not-acceptable", "stream-limit-reached"),
    },
)

RESULT = _call(
    "getResult",
    "The view's own answer",
    ["request_id", "wait", "prefer", "access_token"],
    {
        "202": _json(
            "Accepted", "The task has not finished.", "Task-Id", "Retry-After", "Location", "Preference-Applied"
        ),
        "204": _empty("The task finished without a result."),
        **_problems("invalid-parameter", *_READ, "task-cancelled"),
        "default": {
            "description": "The stored answer, byte for byte: the view's own status, content type and body, `200` for "
            "a function's value. A task that failed before its view could answer is a `task-failed` problem, `500`.",
            "headers": {"Task-Id": ref("Task-Id", "headers")},
        },
    },
)

CANCEL = _call(
    "cancelTask",
    "Ask a task to stop",
    ["request_id"],
    {
        "200": _json("TaskBrief", "It had not begun and is cancelled, or it had already ended.", "Task-Id"),
        "202": _json("TaskBrief", "It is running, and stops at its next report.", "Task-Id"),
        **_problems(*_WRITE),
    },
)

RETRY = _call(
    "retryTask",
    "Run a failed or cancelled task again",
    ["request_id"],
    {
        "202": _json("TaskBrief", "It is waiting to run.", "Task-Id", "Location", "Retry-After"),
        **_problems(
            *_WRITE, "transition-refused", "shutting-down", "queue-full", "anonymous-queue-full", "owner-queue-full"
        ),
    },
)

SEEN = _call(
    "markSeen",
    "Mark the outcome as seen by the user",
    ["request_id"],
    {
        "204": _empty("Recorded. Only the first call counts."),
        **_problems("invalid-body", *_WRITE, "transition-refused"),
    },
    requestBody={
        "description": "How the outcome was received; `poll` without a body.",
        "content": {"application/json": {"schema": ref("Seen")}},
    },
)

MUTE = _call(
    "muteTask", "Mute the notification of a task", ["request_id"], {"204": _empty("It is muted."), **_problems(*_WRITE)}
)

UNMUTE = _call(
    "unmuteTask",
    "Unmute the notification of a task",
    ["request_id"],
    {"204": _empty("It is not muted."), **_problems(*_WRITE)},
)

START_ACTIVITY = _call(
    "registerLiveActivity",
    "Update a Live Activity (iOS) with a task's progress",
    ["request_id"],
    {"204": _empty("It gets the task's steps and end."), **_problems(*_BODY, *_WRITE, "transition-refused")},
    requestBody=_body("LiveActivity", "The activity's push token. A newer token of the same device replaces it."),
)

END_ACTIVITY = _call(
    "forgetLiveActivity",
    "Stop updating a Live Activity",
    ["request_id"],
    {"204": _empty("It is removed, or was not registered."), **_problems(*_BODY, *_WRITE)},
    requestBody={
        **_body("LiveActivityToken", "The activity to remove; without a body, all of the task."),
        "required": False,
    },
)

DEVICES = _call(
    "listDevices",
    "The owner's devices",
    [],
    {
        "200": _json("DeviceList", "The devices, without their addresses."),
        **_problems("owner-required", "store-unavailable"),
    },
)

REGISTER = _call(
    "registerDevice",
    "Register a device for the owner's notifications",
    ["accept_language"],
    {
        "200": _json("Device", "The address was known; the device belongs to the owner now.", "Location"),
        "201": _json("Device", "The device is registered.", "Location"),
        **_problems(*_BODY, "owner-required", "store-unavailable", "outcome-unknown"),
    },
    requestBody=_body("NewDevice", "The address, and optional information about the device."),
)

FORGET = _call(
    "forgetDevice",
    "Remove a device",
    ["device_id"],
    {
        "204": _empty("The device is removed."),
        **_problems("owner-required", "device-not-found", "payload-too-large", "store-unavailable", "outcome-unknown"),
    },
)

PREFERENCES = _call(
    "getPreferences",
    "The owner's notification preferences",
    [],
    {"200": _json("Preferences", "The current preferences."), **_problems("owner-required", "store-unavailable")},
)

PREFER = _call(
    "savePreferences",
    "Replace the owner's notification preferences",
    [],
    {
        "200": _json("Preferences", "The saved preferences."),
        **_problems(*_BODY, "owner-required", "store-unavailable", "outcome-unknown"),
    },
    requestBody=_body("NewPreferences", "Replaces the earlier preferences. What is left out gets its default."),
)

LIST = _call(
    "listTasks",
    "Many tasks at once, without results",
    ["ids", "status", "seen", "name", "idempotency_key", "limit", "cursor", "if_none_match"],
    {
        "200": _json("TaskList", "With `ids`, these tasks; else the owner's, newest first.", "ETag"),
        "304": _empty("It is still the version that the client has."),
        **_problems("invalid-parameter", "not-storable", "listing-refused", "store-unavailable"),
    },
)

STATS = _call(
    "getStats",
    "Totals over all tasks",
    [],
    {"200": _json("Stats", "The totals, at most one second old."), **_problems("listing-refused", "store-unavailable")},
)

HEALTH = _call(
    "getHealth",
    "Whether this process can accept and run tasks",
    [],
    {"200": _json("Health", "It can accept and run tasks."), **_problems("not-ready")},
)

DESCRIPTION = _call(
    "getDescription",
    "This description",
    [],
    {"200": {"description": "OpenAPI 3.1.", "content": {"application/json": {"schema": {"type": "object"}}}}},
)

PATHS: dict[str, Item] = {
    "": {"get": LIST},
    "/stats": {"get": STATS},
    "/health": {"get": HEALTH},
    "/openapi.json": {"get": DESCRIPTION},
    "/events": {"get": MANY_EVENTS},
    "/devices": {"get": DEVICES, "post": REGISTER},
    "/devices/{device_id}": {"delete": FORGET},
    "/preferences": {"get": PREFERENCES, "put": PREFER},
    "/{request_id}": {"get": STATUS, "delete": DELETE},
    "/{request_id}/progress": {"get": PROGRESS},
    "/{request_id}/events": {"get": EVENTS},
    "/{request_id}/result": {"get": RESULT},
    "/{request_id}/cancel": {"post": CANCEL},
    "/{request_id}/retry": {"post": RETRY},
    "/{request_id}/seen": {"post": SEEN},
    "/{request_id}/mute": {"post": MUTE, "delete": UNMUTE},
    "/{request_id}/live-activity": {"post": START_ACTIVITY, "delete": END_ACTIVITY},
}
