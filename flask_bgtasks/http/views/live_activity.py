"""The views of a task's Live Activities (iOS): each has a token of its own, for one task, which rotates."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, request

from ...core.devices import FCM_TOKEN, FID, LIVE_ACTIVITY, device_id, make_device, of_user_token
from ...core.model import Task
from ...errors import TaskFinished
from ..context import HttpContext, parts_of
from ..problems import Problem
from ..requests import json_body

EXPECTED = f"1 to {json_body.MAX_ADDRESS} visible ASCII characters"


def register(request_id: str) -> Response:
    """``POST /tasks/{id}/live-activity``: the token of an activity, and the device that it is on.

    A device's newer token replaces its older one; the oldest beyond ``BGTASKS_MAX_DEVICES_PER_OWNER`` are forgotten.
    """
    parts = parts_of(current_app)
    store, max_devices = parts.state.store, parts.state.settings.max_devices_per_owner
    task = parts.state.access.task(request_id)
    body = json_body.json_object(request, known=("token", "device"))
    token = json_body.text(body, "token", json_body.ADDRESS, EXPECTED)
    activity = make_device(
        LIVE_ACTIVITY, token, request_id=request_id, owner=task.owner, details={"device": _device(body.get("device"))}
    )
    _refuse_ended(task)
    store.save_device(activity, max_devices=max_devices)
    for other in store.devices(request_id=request_id)[max_devices:]:
        store.forget_device(other.id)
    try:
        _refuse_ended(store.get(request_id))  # it may have ended meanwhile, and have told those that it knew of
    except TaskFinished:
        store.forget_device(activity.id)
        raise
    return Response(status=204)


def forget(request_id: str) -> Response:
    """``DELETE /tasks/{id}/live-activity``: the one whose token the body names, or all of the task's."""
    parts = parts_of(current_app)
    parts.state.access.task(request_id)
    for gone in _named(parts, request_id):
        parts.state.store.forget_device(gone)
    return Response(status=204)


def _named(parts: HttpContext, request_id: str) -> list[str]:
    if not json_body.data(request):
        return [device.id for device in parts.state.store.devices(request_id=request_id)]
    body = json_body.json_object(request, known=("token",))
    token = json_body.text(body, "token", json_body.ADDRESS, EXPECTED)
    return [device_id(LIVE_ACTIVITY, token, request_id=request_id)]


def _device(found: Any) -> dict[str, str]:
    """Where FCM finds the device: its address as ``{kind, value}``, or as a text, which tells its kind by its looks."""
    if isinstance(found, str) and json_body.ADDRESS.fullmatch(found):
        given = of_user_token(found)
        return {"kind": given.kind, "value": given.value}
    if not isinstance(found, dict):
        raise Problem("invalid-body", 'device: expected its FCM address, such as {"kind": "fid", "value": …}')
    json_body.refuse_unknown(found, ("kind", "value"))
    kind = found.get("kind")
    if kind not in (FID, FCM_TOKEN):
        raise Problem("invalid-body", f"device.kind: expected {FID} or {FCM_TOKEN}")
    return {"kind": kind, "value": json_body.text(found, "value", json_body.ADDRESS, EXPECTED)}


def _refuse_ended(task: Task) -> None:
    if task.done:
        raise TaskFinished(task.request_id, status=task.status.value, change="live-activity")
