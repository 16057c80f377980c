"""The views of events: one task's stream, the same as a JSON page, and one stream for many tasks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from flask import Response, current_app, request
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from ...app.state import AppState
from ...core.documents import event_document
from ...core.model import Event, Task
from ...core.transitions.outside import MarkTold
from ...delivery.notifier import UNSEEN
from ...errors import AccessDenied, BackgroundTasksError, TaskNotFound
from ...runtime.connection import arrives, cut_short, limit_writes, takes
from ...wording import counted
from ..context import HttpContext, parts_of
from ..problems import Problem
from ..requests import query
from ..responses.representation import dumps
from ..streaming import cursors, sse
from ..streaming.stream import EventStream, Subscription, Teller, Told, page

log = logging.getLogger("flask_bgtasks")

PAGE_EVENTS = 1000  # most in one page, and the default

MAX_PAGE_BYTES = 2**20
"""Of the events in one page: one with more ends early, and `next` says where to go on."""

MAX_ACCEPT = 1000  # characters of the header that are read; a browser's have about 150

EVENTS_PER_READ = 100  # from the store, so that what does not fit is not all read

HEADERS = {
    # no-transform keeps compressing proxies away; they would hold events back until a block is full.
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",  # nginx: do not buffer this answer
}


def of_one(request_id: str) -> Response:
    """``GET /tasks/{id}/events``."""
    parts = parts_of(current_app)
    task = parts.readable(request_id)
    text = _cursor_text()
    place = cursors.parse_one(text, request_id) if text else 0
    if _wanted(("text/event-stream", "application/json")) == "application/json":
        return _page(parts, task, place)
    if task.done and place == task.seq:
        _told_already(parts, [task])
        return Response(status=204)  # tells an EventSource to stop coming back
    ahead = frozenset([request_id] if place > task.seq else [])
    return _stream(
        parts,
        Subscription(
            places={request_id: place},
            ahead=ahead,
            name=lambda _, places: str(places[request_id]),
            seconds=parts.state.settings.stream_seconds,
            base=parts.base(),
        ),
    )


def of_many() -> Response:
    """``GET /tasks/events?ids=a,b``: a browser has six HTTP/1.1 connections per origin, over all its tabs."""
    parts = parts_of(current_app)
    ids = query.ids(request.args.get("ids", ""))
    if not ids:
        raise query.bad("ids", "", "the ids of one or more tasks, separated by commas")
    _wanted(("text/event-stream",))
    tasks = _readable(parts, ids)
    if not tasks:
        raise (
            TaskNotFound(ids[0])
            if len(ids) == 1
            else Problem("task-not-found", "none of these tasks exists, or all belong to other owners")
        )
    text = _cursor_text()
    places = cursors.parse_many(text, ids) if text else dict.fromkeys(ids, 0)
    if all(task.done and places[request_id] == task.seq for request_id, task in tasks.items()):
        _told_already(parts, tasks.values())
        return Response(status=204)
    return _stream(
        parts,
        Subscription(
            places=places,
            ahead=frozenset(i for i, task in tasks.items() if places[i] > task.seq),
            missing=tuple(i for i in ids if i not in tasks),
            name=cursors.write_many,
            seconds=parts.state.settings.stream_seconds,
            base=parts.base(),
        ),
    )


def _readable(parts: HttpContext, ids: list[str]) -> dict[str, Task]:
    """Those of the tasks that this request may read: its owner's, or by one token each, in the order of the ids."""
    tokens = [t for t in request.args.get("access_token", "").split(",") if t]
    if not tokens:
        found = parts.answers.many(ids, request.root_path).values()
        return {task.request_id: task for task in parts.state.access.visible(entry.task for entry in found)}
    if len(tokens) != len(ids):
        named, given = counted(len(ids), "id"), counted(len(tokens), "access token")
        raise AccessDenied(f"{named} and {given}: expected a token for each id, in their order")
    tasks = {}
    for request_id, token in zip(ids, tokens, strict=True):
        try:
            tasks[request_id] = parts.readable(request_id, token)
        except TaskNotFound:
            continue
    return tasks


def _page(parts: HttpContext, task: Task, after: int) -> Response:
    limit = query.whole("limit", request.args.get("limit"), default=PAGE_EVENTS, maximum=PAGE_EVENTS)
    events, documents = _fitting(parts, task.request_id, after, limit)
    if events and events[-1].seq > task.seq:  # it went on meanwhile: an end in this page is to be one of its task too
        task = parts.state.store.get(task.request_id)
    document = dumps(page(task.request_id, events, after=after, task=task))
    body = b"".join((document[:-1], b',"events":[', b",".join(documents), b"]}"))
    return Response(body, content_type="application/json", headers={"Cache-Control": "no-store"})


def _fitting(parts: HttpContext, request_id: str, after: int, limit: int) -> tuple[list[Event], list[bytes]]:
    """The events above ``after``, at most ``limit`` of them and as many as fit into an answer; and as JSON."""
    events: list[Event] = []
    documents: list[bytes] = []
    size = 0
    while len(events) < limit:
        wanted = min(EVENTS_PER_READ, limit - len(events))
        found = parts.state.store.events(request_id, after=events[-1].seq if events else after, limit=wanted)
        for event in found:
            made = dumps(event_document(request_id, event))
            size += len(made)
            if size > MAX_PAGE_BYTES and events:
                return events, documents
            events.append(event)
            documents.append(made)
        if len(found) < wanted:
            break
    return events, documents


def _stream(parts: HttpContext, subscription: Subscription) -> Response:
    response = Response(content_type=sse.CONTENT_TYPE, headers=HEADERS)
    if request.method != "HEAD":
        slot = parts.stream_slot()
        runner, is_cut_short = parts.state.runner, cut_short(request.environ)

        def ended() -> bool:
            return runner.draining or is_cut_short()

        teller = Teller(
            parts.state.watcher,
            parts.frames,
            subscription,
            ended=ended,
            told=_told(parts.state, arrives(request.environ)),
        )
        response.response = EventStream(
            teller.tell(), slot, takes=takes(request.environ, ended), on_close=limit_writes(request.environ)
        )
    return response


def _told(state: AppState, has_arrived: Callable[[], bool]) -> Told | None:
    """What takes note that a client was told how a task ended; None where nobody asks whether it was."""
    if state.settings.notify != UNSEEN:
        return None
    store = state.store

    def told(request_id: str, seq: int) -> None:
        if not has_arrived():
            return
        try:
            store.transition(request_id, MarkTold(seq))
        except BackgroundTasksError as error:  # then there is a push for what was seen
            log.warning("cannot record that a client received the end of task %s: %s", request_id, error)

    return told


def _told_already(parts: HttpContext, tasks: Iterable[Task]) -> None:
    """The client names the last event of each of these tasks: it has come back to hear that there is no more."""
    told = _told(parts.state, lambda: True)
    if told is not None and request.method != "HEAD":
        for task in tasks:
            told(task.request_id, task.seq)


def _cursor_text() -> str:
    """Where the client is. A browser that reconnects sends the header and the old address: the header is newer."""
    return request.headers.get("Last-Event-ID", "").strip() or request.args.get("starting_after", "").strip()


def _wanted(offered: tuple[str, ...]) -> str:
    """The representation that the client wants of those there are; the first, where it does not say.

    :raises Problem: it wants none of them.
    """
    header = " ".join(request.headers.get("Accept", "").split())  # a run of blanks costs Werkzeug its length squared
    if not 0 < len(header) <= MAX_ACCEPT:
        return offered[0]
    accept = parse_accept_header(header, MIMEAccept)
    best = accept.best_match(offered)
    if best is None:
        raise Problem("not-acceptable", f"available here: {' and '.join(offered)}")
    return best
