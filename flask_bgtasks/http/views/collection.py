"""The views of many tasks and of the service itself: the list, figures, readiness."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flask import Response, current_app, request

from ...auth.owners import is_id
from ...core.documents import rfc3339
from ...core.model import Status, Task, TaskKind
from ...errors import BackgroundTasksError
from ...stores.types import Page, TaskQuery
from .. import openapi
from ..context import HttpContext, parts_of
from ..problems import Problem
from ..requests import query as parameters
from ..responses.representation import dumps, with_attention
from ..submission import idempotency

log = logging.getLogger("flask_bgtasks")

LISTED = 50  # tasks in a page where the client does not say

MAX_PAGE_BYTES = 2**20
"""Of the tasks in one page: one with more ends early, with a cursor. A hundred usual tasks are a tenth of it."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which tasks a client asks for; None means any."""

    statuses: frozenset[Status] | None
    seen: bool | None
    name: str | None
    key: str | None

    def admits(self, task: Task, owner: str | None) -> bool:
        """Whether this is one of them. ``owner`` is who asks."""
        return (
            (self.statuses is None or task.status in self.statuses)
            and (self.seen is None or (task.seen_at is not None) == self.seen)
            and (self.name is None or task.name == self.name)
            and (self.key is None or task.idempotency_scope == idempotency.scope(owner, task.name, self.key))
        )


def listed() -> Response:
    """``GET /tasks``: many tasks at once, without results."""
    parts = parts_of(current_app)
    args = request.args
    asked = _Asked(
        statuses=parameters.statuses(args.get("status")),
        seen=parameters.flag("seen", args.get("seen")),
        name=parameters.text("name", args.get("name")),
        key=idempotency.parse_parameter(args.get("idempotency_key")),
    )
    limit = parameters.whole("limit", args.get("limit"), default=LISTED, maximum=parameters.MAX_LISTED)
    if "ids" in args:
        return _by_ids(parts, parameters.ids(args["ids"]), asked, args.get("cursor"))
    owner = parts.state.owners.current()
    if asked.key is not None:
        if owner is None and len(asked.key) < idempotency.MIN_UNOWNED_LENGTH:
            raise Problem(
                "listing-refused",
                f"without an owner, idempotency_key= requires at least {idempotency.MIN_UNOWNED_LENGTH} characters, a "
                "UUID for instance: shorter keys can be guessed",
            )
        return _by_key(parts, asked, owner, asked.key)
    if owner is None:
        raise Problem(
            "listing-refused", "this request has no owner: log in, or name the tasks with ids=… or idempotency_key=…"
        )
    query = TaskQuery(
        owner=owner,
        statuses=asked.statuses,
        seen=asked.seen,
        name=asked.name,
        limit=limit,
        cursor=args.get("cursor") or None,
    )
    try:
        page = parts.state.store.find(query)
    except ValueError:
        raise parameters.bad("cursor", args["cursor"], "the cursor of an earlier page") from None
    briefs, cursor = _fitting(parts, query, page)
    return _answer(parts, owner, briefs, cursor=cursor)


def _fitting(parts: HttpContext, query: TaskQuery, page: Page) -> tuple[list[bytes], str | None]:
    """A page's visible tasks, as many as fit into an answer, and the cursor of the rest."""
    visible = parts.state.access.visible(page.tasks)
    briefs = _briefs(parts, visible)
    fit = _count_fitting(briefs)
    if fit == len(briefs):
        return briefs, page.cursor
    # What is shown ends before the first that does not fit: the store says how to go on from there.
    before = next(n for n, task in enumerate(page.tasks) if task.request_id == visible[fit].request_id)
    return briefs[:fit], parts.state.store.find(replace(query, limit=before)).cursor


def _count_fitting(briefs: Sequence[bytes]) -> int:
    """How many of them fit into an answer; one always does."""
    size = 0
    for count, made in enumerate(briefs):
        size += len(made)
        if size > MAX_PAGE_BYTES and count > 0:
            return count
    return len(briefs)


def stats() -> Response:
    """``GET /tasks/stats``: totals over the store. No names, no owners, nothing of a single task."""
    parts = parts_of(current_app)
    if parts.state.owners.known and parts.state.owners.current() is None:
        raise Problem("listing-refused", "log in: this app shows its statistics to logged-in users only")
    figures = parts.figures.now()
    oldest = figures.oldest_waiting
    document = {
        "tasks": {status.value: figures.by_status.get(status.value, 0) for status in Status},
        "rejected": figures.rejected,
        "oldest_waiting": rfc3339(oldest),
        "seen": figures.seen,
        "mean_seconds_to_seen": figures.mean_seconds_to_seen,
        "deliveries": {"pending": figures.deliveries_pending, "dead": figures.deliveries_dead},
        "process": {"waiting": parts.state.runner.waiting, "streams": _streams(parts)},
    }
    return _json(document)


def health() -> Response:
    """``GET /tasks/health``: whether this process can take and run tasks."""
    parts = parts_of(current_app)
    checks = {"store": "ok", "runner": "draining" if parts.state.runner.draining else "ok"}
    stuck = ""
    try:
        parts.state.store.check()
    except BackgroundTasksError as error:  # its message may name a host or a file: that is the log's
        log.warning("the store is not ready: %s", error)
        brief = getattr(error, "brief", None)
        checks["store"] = "unavailable" if brief is None else f"unavailable ({brief})"
    else:
        stuck = parts.figures.stuck()
    missing = parts.state.lifecycle.mend()  # said once: what could be begun again is there for the next look
    checks["threads"] = "missing (" + ", ".join(missing) + ")" if missing else "ok"
    problems = parts.state.completion.problems
    if problems:
        checks["setup"] = "wrong (" + ", ".join(problem.brief for problem in problems) + ")"
    if set(checks.values()) != {"ok"}:
        bad = ", ".join(f"{name} is {state}" for name, state in checks.items() if state != "ok")
        raise Problem("not-ready", bad, headers={"Retry-After": "5"}, checks=checks)
    if stuck:  # no reason to take this process away from its clients: it can take and run all others
        checks["tasks"] = f"stuck: {stuck}"
    return _json({"status": "degraded" if stuck else "ok", "checks": checks, "streams": _streams(parts)})


def description() -> Response:
    """``GET /tasks/openapi.json``."""
    parts = parts_of(current_app)
    return _json(openapi.document(parts.state.settings, root=request.root_path))


def _by_ids(parts: HttpContext, ids: list[str], asked: _Asked, cursor: str | None) -> Response:
    """What a client asks when it wakes, and then every second: from memory, as the status of one task is.

    Where that is asked from the store, it says who has seen what too: no event of a task, and memory does not know.

    :param cursor: how many of the ids earlier pages have answered, where they were too much for one.
    """
    begin = 0 if not cursor else parameters.whole("cursor", cursor, default=0, maximum=len(ids))
    ids = ids[begin:]
    access, owner = parts.state.access, parts.state.owners.current()
    if asked.seen is None:
        entries = parts.answers.many(ids, request.root_path)
        known = {task.request_id: task for task in access.visible(entry.task for entry in entries.values())}
        found = [i for i, task in known.items() if asked.admits(task, owner)]
        briefs = [entries[i].brief for i in found]
    else:
        page = parts.state.store.find(TaskQuery(ids=list(filter(is_id, ids)), limit=parameters.MAX_IDS))
        known = {task.request_id: task for task in access.visible(page.tasks)}
        found = [i for i in ids if i in known and asked.admits(known[i], owner)]
        briefs = _briefs(parts, [known[i] for i in found])
    fit = _count_fitting(briefs)
    answered = len(ids) if fit == len(briefs) else ids.index(found[fit])
    following = None if answered == len(ids) else str(begin + answered)
    missing = [i for i in ids[:answered] if i not in known]
    return _answer(parts, owner, briefs[:fit], missing=missing, cursor=following)


def _by_key(parts: HttpContext, asked: _Asked, owner: str | None, key: str) -> Response:
    """The tasks that were sent with a key: it counts per task name, of which an app has a few."""
    found: list[Task] = []
    for name, definition in parts.state.registry.items():
        if definition.kind is TaskKind.VIEW and asked.name in (None, name):
            scope = idempotency.scope(owner, name, key)
            found += parts.state.store.find(TaskQuery(idempotency_scope=scope, limit=1)).tasks
    return _answer(
        parts, owner, _briefs(parts, [t for t in parts.state.access.visible(found) if asked.admits(t, owner)])
    )


def _briefs(parts: HttpContext, tasks: Iterable[Task]) -> list[bytes]:
    """Tasks that were read from the store just now: they say whether they were seen, and are muted."""
    return [with_attention(parts.answers.of(task, request.root_path).brief, task) for task in tasks]


def _answer(
    parts: HttpContext,
    owner: str | None,
    briefs: list[bytes],
    *,
    missing: list[str] | None = None,
    cursor: str | None = None,
) -> Response:
    """A page, put together from tasks that are JSON already.

    It says whether nobody is logged in where somebody should be: then a missing task may be there all the same.
    """
    anonymous = parts.state.owners.known and owner is None
    rest = dumps({"missing": missing or [], "cursor": cursor, "anonymous": anonymous})
    body = b'{"tasks":[' + b",".join(briefs) + b"]," + rest[1:]
    response = Response(body, content_type="application/json")
    response.headers["Cache-Control"] = "private, no-cache"
    response.set_etag(hashlib.blake2b(body, digest_size=12).hexdigest())
    response.make_conditional(request)
    return response


def _streams(parts: HttpContext) -> dict[str, int | None]:
    return {"open": parts.slots.taken, "max": parts.slots.limit}


def _json(document: Any) -> Response:
    response = Response(dumps(document), content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
