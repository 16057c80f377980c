"""Decides where an answer comes from: the backend, or something in between (a proxy, a firewall, a captive portal).

Only an answer of the backend ends a submission or a task. ``browser/client/provenance.js`` is the same in JavaScript;
both are tested with the table ``tests/data/answers.json``. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..io.effects import Answer
from ..pending.ids import is_request_id

PROBLEMS = "https://flask-bgtasks.readthedocs.io/problems/#"  # what the ``type`` of our problem documents begins with

DOUBTED_SECONDS = 24 * 3600.0
"""How long a submission is tried again that is answered by something that does not look like the backend: longer than
a deploy, than a wrong rule of a firewall is left standing, and than a night behind a hotel's login page."""

LATER = frozenset({408, 425, 429})  # and every 5xx, whoever says it

TO_ANOTHER_PAGE = frozenset({301, 302, 303})  # of the app: to its login

OF_THE_WAY = frozenset({403, 404, 405, 407, 421, 451})
"""Refusals of the way to the view, rather than of the request: gateways and firewalls give them too, also as JSON. They
need a mark of the backend."""


class Verdict(str, Enum):
    """What an answer to a submission means."""

    ACCEPTED = "accepted"  # the backend has the task, whatever the status
    BLOCKED = "blocked"  # 401, or the app's redirect to its login: somebody has to log in again
    LATER = "later"  # for now there is no answer: 408, 409 with Retry-After, 425, 429, 5xx
    REJECTED = "rejected"  # the backend, or the app, says no
    DOUBTED = "doubted"  # nothing shows that the backend said this: tried again, for DOUBTED_SECONDS


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, with the id of an accepted task, or the reason of one that is not."""

    verdict: Verdict
    request_id: str | None = None
    reason: str = ""


def judge(answer: Answer) -> Judgement:
    """What an answer to a submission means.

    Marks of the backend: ``Task-Id``; ``Vary: Prefer``, which the app's answer to any request with ``Prefer`` has; a
    problem document of ours. Beside them JSON counts as the app's own answer, if its status judges what was sent and
    not the way there.
    """
    status, headers = answer.status, answer.headers
    accepted = task_id(answer)
    if accepted is not None:
        return Judgement(Verdict.ACCEPTED, accepted)
    if wants_login(answer):
        return Judgement(Verdict.BLOCKED)
    if status in LATER or status >= 500 or (status == 409 and "retry-after" in headers):
        return Judgement(Verdict.LATER, reason=answer.complaint())
    is_json, document = _json(answer)
    if status == 202 and is_json and isinstance(document, dict) and is_request_id(document.get("request_id")):
        return Judgement(Verdict.ACCEPTED, document["request_id"])
    marked = _varies(answer) or is_ours(answer)
    apps_own = is_json and not 300 <= status < 400 and status not in OF_THE_WAY
    if not (marked or apps_own):
        return Judgement(Verdict.DOUBTED, reason=unlike(answer))
    if answer.ok:
        said = f"the server answered {status} without a Task-Id"
        return Judgement(Verdict.REJECTED, reason=f"{said}: this URL runs no background task")
    to = f", submit to {headers['location']}" if 300 <= status < 400 and "location" in headers else ""
    return Judgement(Verdict.REJECTED, reason=answer.complaint() + to)


def wants_login(answer: Answer) -> bool:
    """Whether it asks for other credentials: not the 401 that a task's own view has answered."""
    if task_id(answer) is not None:
        return False
    return answer.status == 401 or (answer.status in TO_ANOTHER_PAGE and _varies(answer))


def task_id(answer: Answer) -> str | None:
    """The task that an answer is of, by its ``Task-Id``."""
    found = answer.headers.get("task-id")
    return found if is_request_id(found) else None


def is_ours(answer: Answer) -> bool:
    """Whether this is a problem of the library: the only kind of error that may end a task that is known."""
    return str(_problem(answer).get("type", "")).startswith(PROBLEMS)


def is_refusal(answer: Answer) -> bool:
    """Whether an answer under the blueprint's prefix is the backend's refusal.

    A problem of ours, or one without a type of its own (``about:blank``), as which any other error there is answered.
    """
    problem = _problem(answer)
    blank = problem.get("type") == "about:blank" and problem.get("status") == answer.status
    return blank or is_ours(answer)


def unlike(answer: Answer) -> str:
    """What is said of an answer that does not look like the backend's."""
    said = f"{answer.status} ({answer.headers.get('content-type') or 'no content type'})"
    to = answer.headers.get("location")
    return (
        f"the answer was {said}{f', to {to}' if to else ''} and does not look like the backend's: it has no Task-Id "
        "and no 'Vary: Prefer', and is neither a problem document nor JSON of the app. Something on the way gave it, "
        "a proxy or a login page, or the address is wrong"
    )


def _json(answer: Answer) -> tuple[bool, Any]:
    """Whether an answer says that it is JSON and is; and its value."""
    type = _media_type(answer)
    if not type.endswith(("/json", "+json")):
        return False, None
    try:
        return True, json.loads(answer.body)
    except (ValueError, RecursionError):
        return False, None


def _problem(answer: Answer) -> Mapping[str, Any]:
    return answer.document() if _media_type(answer) == "application/problem+json" else {}


def _media_type(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def _varies(answer: Answer) -> bool:
    """Whether it carries ``Vary: Prefer``."""
    return "prefer" in answer.headers.get("vary", "").replace(" ", "").lower().split(",")
