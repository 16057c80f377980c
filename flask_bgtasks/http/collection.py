"""The views of many tasks and of the service itself: the list, figures, readiness."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from flask import Response, current_app, request

from ..documents import rfc3339
from ..errors import BackgroundTasksError
from ..model import Kind, Status, Task
from ..stores.base import TaskQuery
from . import idempotency, openapi, parameters
from .parts import Parts, parts_of
from .problems import Problem
from .representation import dumps

log = logging.getLogger("flask_bgtasks")

LISTED = 50  # tasks in a page where the client does not say


def listed() -> Response:
    """``GET /tasks``: many tasks at once, without results."""
    parts = parts_of(current_app)
    args = request.args
    statuses = parameters.statuses(args.get("status"))
    seen = parameters.flag("seen", args.get("seen"))
    name = args.get("name") or None
    limit = parameters.whole("limit", args.get("limit"), default=LISTED, most=parameters.MOST_LISTED)
    key = args.get("idempotency_key")

    if "ids" in args:
        ids = parameters.ids(args["ids"])
        found = _by_ids(parts, ids)
        briefs = [
            brief
            for task, brief in found.values()
            if (statuses is None or task.status in statuses)
            and (seen is None or (task.seen_at is not None) == seen)
            and (name is None or task.name == name)
        ]
        return _answer(briefs, missing=[i for i in ids if i not in found])
    owner = parts.state.owners.current()
    if key is not None:
        tasks = _by_key(parts, owner, key, name)
        return _answer([parts.answers.of(task, request.root_path).brief for task in tasks])
    if owner is None:
        raise Problem("listing-refused", "this request has no owner: name the tasks, ids=… or idempotency_key=…")
    query = TaskQuery(
        owner=owner, statuses=statuses, seen=seen, name=name, limit=limit, cursor=args.get("cursor") or None
    )
    try:
        page = parts.state.store.find(query)
    except ValueError:
        raise parameters.bad("cursor", args["cursor"], "the cursor of an earlier page is wanted") from None
    tasks = parts.state.access.visible(page.tasks)
    return _answer([parts.answers.of(task, request.root_path).brief for task in tasks], cursor=page.cursor)


def stats() -> Response:
    """``GET /tasks/stats``: totals over the store. No names, no owners, nothing of a single task."""
    parts = parts_of(current_app)
    if parts.state.owners.known and parts.state.owners.current() is None:
        raise Problem("listing-refused", "this app knows its users: figures are for those who are logged in")
    figures = parts.figures.now()
    oldest = figures.oldest_waiting
    document = {
        "tasks": {status.value: figures.by_status.get(status.value, 0) for status in Status},
        "oldest_waiting": rfc3339(oldest),
        "deliveries": {"owed": figures.deliveries_owed, "dead": figures.deliveries_dead},
        "process": {"waiting": parts.state.runner.waiting, "streams": _streams(parts)},
    }
    return _json(document)


def health() -> Response:
    """``GET /tasks/health``: whether this process can take and run tasks."""
    parts = parts_of(current_app)
    checks = {"store": "ok", "runner": "draining" if parts.state.runner.draining else "ok"}
    try:
        parts.state.store.check()
    except BackgroundTasksError as error:  # its message may name a host or a file: that is the log's
        log.warning("the store is not ready: %s", error)
        checks["store"] = "unavailable"
    if set(checks.values()) != {"ok"}:
        bad = ", ".join(f"{name} is {state}" for name, state in checks.items() if state != "ok")
        raise Problem("not-ready", bad, headers={"Retry-After": "5"}, checks=checks)
    return _json({"status": "ok", "checks": checks, "streams": _streams(parts)})


def description() -> Response:
    """``GET /tasks/openapi.json``."""
    parts = parts_of(current_app)
    return _json(openapi.document(parts.state.settings, root=request.root_path))


def _by_ids(parts: Parts, ids: list[str]) -> dict[str, tuple[Task, bytes]]:
    entries = parts.answers.many(ids, request.root_path)
    visible = parts.state.access.visible([entry.task for entry in entries.values()])
    return {task.request_id: (task, entries[task.request_id].brief) for task in visible}


def _by_key(parts: Parts, owner: str | None, key: str, name: str | None) -> list[Task]:
    """The tasks that were sent with a key: it counts per task name, of which an app has a few."""
    key = idempotency.parse(key) or ""
    registry = parts.state.registry
    names = [n for n, definition in registry.items() if definition.kind is Kind.VIEW and name in (None, n)]
    found: list[Task] = []
    for n in names:
        found += parts.state.store.find(TaskQuery(idempotency_scope=idempotency.scope(owner, n, key), limit=1)).tasks
    return parts.state.access.visible(found)


def _answer(briefs: list[bytes], *, missing: list[str] | None = None, cursor: str | None = None) -> Response:
    """A page, put together from tasks that are JSON already."""
    rest = dumps({"missing": missing or [], "cursor": cursor})
    body = b'{"tasks":[' + b",".join(briefs) + b"]," + rest[1:]
    response = Response(body, content_type="application/json")
    response.headers["Cache-Control"] = "private, no-cache"
    response.set_etag(hashlib.blake2b(body, digest_size=12).hexdigest())
    response.make_conditional(request)
    return response


def _streams(parts: Parts) -> dict[str, int | None]:
    return {"open": parts.slots.taken, "max": parts.slots.limit}


def _json(document: Any) -> Response:
    response = Response(dumps(document), content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
