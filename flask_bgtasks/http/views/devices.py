"""The views of an owner's devices: where their notifications go. No answer contains an address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flask import Response, current_app, request

from ...app.state import AppState
from ...core.devices import FCM_TOKEN, FID, LIVE_ACTIVITY, PROOF, WEBPUSH, Device, make_device, proof_of
from ...core.documents import device_document
from ..context import parts_of
from ..problems import Problem
from ..requests import json_body
from ..responses.representation import dumps

FIELDS = ("kind", "value", "token", "platform", "app", "lang", "replaces")

PLATFORM = re.compile(r"[A-Za-z0-9._-]{1,32}")
DEVICE_ID = re.compile(r"[0-9a-f]{32}")  # as devices.device_id makes them
ENDPOINT = re.compile(r"https://[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:[0-9]{1,5})?/[!-~]*")
"""A push service's address: what leads into the server's own network is refused where it is called."""

KEYS = {
    "p256dh": ("65", re.compile(r"B[A-P][A-Za-z0-9_-]{85}=?")),
    "auth": ("16", re.compile(r"[A-Za-z0-9_-]{22}(==)?")),
}
"""The keys of a subscription: how many bytes, and those in base64url. An uncompressed point of the curve P-256, whose
first byte is 4 (``B``, and the first half of what follows), and a secret (RFC 8291, sections 2.1 and 3.2)."""


def listed() -> Response:
    """``GET /tasks/devices``: the owner's, the last seen first, and the key that a browser subscribes with."""
    parts = parts_of(current_app)
    owner = parts.owner()
    webpush = parts.state.plugins.get("webpush")
    return _json(
        {
            "devices": [device_document(device) for device in parts.state.store.devices(owner=owner)],
            "application_server_key": getattr(webpush, "application_server_key", None),
        }
    )


def register() -> Response:
    """``POST /tasks/devices``: this device is the owner's; whoever's it was before, if the client shows that it has it.

    It does so by the address itself, which is a secret, or, since a Firebase Installation ID is none, by the
    registration token of the installation.
    """
    parts = parts_of(current_app)
    owner = parts.owner()
    body = json_body.json_object(request, known=FIELDS)
    device = _device(body, owner, kinds(parts.state))
    replaces = json_body.optional_text(body, "replaces", DEVICE_ID, "the id of another device")
    stored, known = parts.state.device_registry.register(device, replaces=replaces, spoken=json_body.spoken(request))
    response = _json(device_document(stored), 200 if known else 201)
    response.headers["Location"] = f"{parts.base()}/devices/{stored.id}"
    return response


def forget(device_id: str) -> Response:
    """``DELETE /tasks/devices/{id}``."""
    parts = parts_of(current_app)
    owner = parts.owner()
    device = parts.state.store.find_device(device_id) if DEVICE_ID.fullmatch(device_id) else None
    if device is None or device.owner != owner or device.request_id is not None:
        raise Problem(
            "device-not-found", f"device {device_id[:80]!r} does not exist, belongs to another owner, or was forgotten"
        )
    parts.state.device_registry.forget(device)
    return Response(status=204)


def kinds(state: AppState) -> list[str]:
    """The kinds of addresses that devices of this app may have: the library's, and those that its sinks serve."""
    found = [FID, FCM_TOKEN, WEBPUSH]
    for name in state.plugins.implementing("bgtasks_send_notification"):
        found += getattr(state.plugins.get(name), "device_kinds", ())
    return [kind for kind in dict.fromkeys(found) if kind != LIVE_ACTIVITY]  # those are for one task


def _device(body: Mapping[str, Any], owner: str, known: list[str]) -> Device:
    kind = body.get("kind")
    if kind not in known:
        raise Problem("invalid-body", f"kind: expected one of {', '.join(known)}")
    value, details = _address(kind, body)
    return make_device(
        kind,
        value,
        owner=owner,
        platform=json_body.optional_text(body, "platform", PLATFORM, "a word of at most 32 characters, such as ios"),
        app=json_body.optional_text(body, "app", json_body.NAME, "1 to 255 visible ASCII characters"),
        lang=json_body.language(body),
        details=details,
    )


def _address(kind: str, body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The address, and what else belongs to it."""
    if kind != FID and body.get("token") is not None:
        raise Problem("invalid-body", f"token: only a device of kind {FID} has one beside its value")
    if kind == WEBPUSH:
        return _subscription(body.get("value"))
    expected = f"1 to {json_body.MAX_ADDRESS} visible ASCII characters"
    value = json_body.text(body, "value", json_body.ADDRESS, expected)
    token = json_body.optional_text(body, "token", json_body.ADDRESS, expected)
    return value, {} if token is None else {PROOF: proof_of(token)}


def _subscription(found: Any) -> tuple[str, Mapping[str, Any]]:
    """A browser's ``PushSubscription`` as its ``toJSON`` gives it (W3C Push API, section 8)."""
    if not isinstance(found, dict):
        form = '{"endpoint": …, "keys": {"p256dh": …, "auth": …}}'
        raise Problem("invalid-body", f"value: expected a PushSubscription, {form}")
    endpoint, keys = found.get("endpoint"), found.get("keys")
    if not isinstance(endpoint, str) or len(endpoint) > json_body.MAX_ADDRESS or not ENDPOINT.fullmatch(endpoint):
        raise Problem(
            "invalid-body", f"value.endpoint: expected an https URL of at most {json_body.MAX_ADDRESS} characters"
        )
    if not isinstance(keys, dict):
        raise Problem("invalid-body", "value.keys: expected an object with p256dh and auth")
    return endpoint, {"keys": {name: _key(keys, name) for name in KEYS}}


def _key(keys: Mapping[str, Any], name: str) -> str:
    found, (size, pattern) = keys.get(name), KEYS[name]
    if not isinstance(found, str) or not pattern.fullmatch(found):
        raise Problem(
            "invalid-body", f"value.keys.{name}: expected {size} bytes in base64url, as the browser gives them"
        )
    return found.rstrip("=")


def _json(document: Any, status: int = 200) -> Response:
    response = Response(dumps(document), status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
