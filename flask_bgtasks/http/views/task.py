"""The views of one task: status, progress, result, and what is done to it. Thin: they read the request and answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Response, current_app, request
from werkzeug.http import parse_etags

from ...core import documents
from ...core.model import Task
from ...core.transitions.outside import MarkSeen, Mute
from ...errors import TaskExpired
from ...runtime.connection import cut_short
from ..context import HttpContext, parts_of
from ..problems import Problem
from ..requests import json_body, query
from ..responses import result as stored
from ..responses.accepted import accepted
from ..responses.representation import dumps, retry_after
from ..responses.status_cache import CachedStatus
from ..streaming.long_poll import wait_until
from ..submission import prefer

SEEN_VIA = ("poll", "stream", "push", "firestore")


def status(request_id: str) -> Response:
    """``GET /tasks/{id}``. The hot path: what is not asked for is not looked at."""
    parts = parts_of(current_app)
    environ = request.environ
    answers, root = parts.answers, environ.get("SCRIPT_NAME", "")
    headers: list[tuple[str, str]] = []
    if environ.get("QUERY_STRING") or "HTTP_PREFER" in environ:
        parts.readable(request_id)
        entry = answers.get(request_id, root)
        seconds = _wait_asked(parts, headers)
        if seconds and _wait(parts, entry.task, seconds, reached=_worth_waiting_for(entry), headers=headers):
            answers.look_again()
            entry = answers.get(request_id, root)
    else:
        entry = answers.get(request_id, root)
        owner = entry.task.owner
        if owner is not None:
            parts.state.access.check(request_id, owner)
    _check_time(parts, entry)
    known = environ.get("HTTP_IF_NONE_MATCH")
    if known is not None and _matches(known, entry.etag):
        return Response(None, 304, entry.headers + headers)
    return Response(entry.whole or answers.whole(entry), 200, entry.headers + headers)


def progress(request_id: str) -> Response:
    """``GET /tasks/{id}/progress``."""
    parts = parts_of(current_app)
    task = parts.readable(request_id)
    response = _json(documents.progress_document(task))
    response.set_etag(str(task.seq))
    after = retry_after(task)
    if after is not None:
        response.headers["Retry-After"] = after
    response.headers["Cache-Control"] = "private, no-cache"
    response.make_conditional(request)
    return response


def result(request_id: str) -> Response:
    """``GET /tasks/{id}/result``: the view's own answer."""
    parts = parts_of(current_app)
    task = parts.readable(request_id)
    headers: list[tuple[str, str]] = []
    seconds = _wait_asked(parts, headers)
    if seconds:
        task = _wait(parts, task, seconds, reached=_done, headers=headers) or task
    if task.done:
        response = stored.sandboxed(stored.answer(parts.state, task))
        response.headers.setdefault("Cache-Control", "private, no-cache")
    else:
        # Who reads by a token gets no fresh one for it, or it would never end.
        response = accepted(task, parts.base(), token=None if "access_token" in request.args else parts.token(task))
    response.headers["Task-Id"] = request_id
    response.headers.extend(headers)
    return response


def cancel(request_id: str) -> Response:
    """``POST /tasks/{id}/cancel``."""
    parts = parts_of(current_app)
    state = parts.state
    state.access.task(request_id)
    task = state.cancel(request_id).task
    return _brief(parts, task, 200 if task.done else 202)


def retry(request_id: str) -> Response:
    """``POST /tasks/{id}/retry``."""
    parts = parts_of(current_app)
    state = parts.state
    task = state.access.task(request_id)
    # The login of the first request was erased with the task's end. What belongs to nobody is not run as whoever asks.
    private = state.credentials.of(request) if task.owner is not None else None
    task = state.retry(request_id, private=private).task
    response = _brief(parts, task, 202)
    response.headers["Location"] = f"{parts.base()}/{request_id}"
    return response


def seen(request_id: str) -> Response:
    """``POST /tasks/{id}/seen``: a client showed the outcome."""
    parts = parts_of(current_app)
    state = parts.state
    state.access.task(request_id)
    state.store.transition(request_id, MarkSeen(_seen_via()))
    return Response(status=204)


def mute(request_id: str) -> Response:
    """``POST /tasks/{id}/mute``: its owner wants no notification of it."""
    return _muted(request_id, Mute(True))


def unmute(request_id: str) -> Response:
    """``DELETE /tasks/{id}/mute``."""
    return _muted(request_id, Mute(False))


def delete(request_id: str) -> Response:
    """``DELETE /tasks/{id}``."""
    parts = parts_of(current_app)
    state = parts.state
    state.access.task(request_id, expired=True)
    state.store.delete(request_id, deliveries=state.deliveries.erasure(request_id))
    state.deliveries.wake()
    parts.answers.forget(request_id, request.root_path)
    return Response(status=204)


def _muted(request_id: str, change: Mute) -> Response:
    state = parts_of(current_app).state
    state.access.task(request_id)
    state.store.transition(request_id, change)
    return Response(status=204)


def _check_time(parts: HttpContext, entry: CachedStatus) -> None:
    task = entry.task
    if task.expire_at is not None and task.expired(parts.state.store.now()):
        raise TaskExpired(task.request_id, task.expire_at)


def _matches(if_none_match: str, etag: str) -> bool:
    """Whether ``If-None-Match`` names this version: ``*``, or a list; compared weakly (RFC 9110, section 13.1.2)."""
    return if_none_match == etag or parse_etags(if_none_match).contains_weak(etag.strip('"'))


def _wait_asked(parts: HttpContext, headers: list[tuple[str, str]]) -> float:
    """The seconds that the client asked to wait, cut to what is granted; 0 for none."""
    maximum = parts.state.settings.max_wait
    text = request.args.get("wait")
    if text is not None:
        return query.seconds("wait", text, maximum=maximum)
    wish = prefer.parse(request.headers.get("Prefer"))
    if wish.wait is None:
        return 0
    seconds = min(wish.wait, maximum)
    headers.append(("Preference-Applied", f"wait={seconds:g}"))
    return seconds


def _worth_waiting_for(entry: CachedStatus) -> Callable[[Task], bool]:
    """What ends a long poll of the status: a change of the version that the client has.

    A client that names none waits for the one change that it cannot know yet: the end.
    """
    known = request.headers.get("If-None-Match")
    if known is None:
        return _done
    if not _matches(known, entry.etag):
        return lambda task: True
    return lambda task: task.seq > entry.task.seq


def _wait(
    parts: HttpContext, task: Task, seconds: float, *, reached: Callable[[Task], bool], headers: list[tuple[str, str]]
) -> Task | None:
    """Hold the answer back until the task is as wanted; the task then, None where there was no wait.

    Where all places are taken the answer is given at once, and the preference was not applied.
    """
    if reached(task):
        return None
    slot = parts.take_slot()
    if slot is None:
        headers.clear()
        return None
    with slot:
        return wait_until(parts.state, task.request_id, reached, seconds=seconds, cut_short=cut_short(request.environ))


def _done(task: Task) -> bool:
    return task.done


def _seen_via() -> str:
    """Where the client saw it. Sent by ``navigator.sendBeacon`` too, hence whatever the content type says."""
    if not json_body.data(request):
        return "poll"
    body = json_body.parsed(json_body.data(request))
    via = body.get("via") if isinstance(body, dict) else None
    if via not in SEEN_VIA:
        raise Problem("invalid-body", f'expected {{"via": …}} with one of {", ".join(SEEN_VIA)}')
    return str(via)


def _brief(parts: HttpContext, task: Task, status: int) -> Response:
    entry = parts.answers.of(task, request.root_path)
    response = Response(entry.brief, status, entry.headers)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Task-Id"] = task.request_id
    return response


def _json(document: Any, status: int = 200) -> Response:
    return Response(dumps(document), status, content_type="application/json")
