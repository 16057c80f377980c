"""Places in histories: what an event's ``id:`` says, and what ``Last-Event-ID`` and ``starting_after`` mean. Pure.

One task: the event's number, ``17``. Several tasks in one stream: ``<request_id>:17;<check>.17.4.256``. Before the
semicolon is the event itself; after it, the client's position in *every* task of the stream, in the order of ``ids=``,
because a browser sends back only one id, and all tasks have to resume from there. ``check`` ties the
numbers to that list of ids, so that a cursor of another list is refused and not misread.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from ..problems import Problem

_NUMBER = re.compile(r"[0-9]{1,15}")  # fits a JavaScript number


def parse_one(text: str, request_id: str) -> int:
    """The place in one task's history: ``17``, or that task's part of a stream of several, ``<request_id>:17;…``.

    :raises Problem: neither.
    """
    place = text.strip()
    task, colon, rest = place.partition(":")
    if colon:
        if task != request_id:
            raise _bad(text, "this is a position in another task's history")
        place = rest.partition(";")[0]
    if not _NUMBER.fullmatch(place):
        raise _bad(text, "expected a number, 0 or more")
    return int(place)


def parse_many(text: str, request_ids: Sequence[str]) -> dict[str, int]:
    """Where a client is in several tasks: an id that :func:`write_many` made, or ``<request_id>:17,<request_id>:4``.

    Tasks that are not named start from 0.

    :raises Problem: it is neither, or for other tasks.
    """
    text = text.strip()
    first, semicolon, vector = text.partition(";")
    if semicolon:
        check, *places = vector.split(".")
        if check != _check(request_ids) or len(places) != len(request_ids):
            raise _bad(
                text,
                "it belongs to another list of ids; send starting_after=<request_id>:<number>,… where lists change",
            )
        if not all(_NUMBER.fullmatch(place) for place in places):
            raise _bad(text, "expected a number for each task")
        return dict(zip(request_ids, map(int, places), strict=True))
    places_of = dict.fromkeys(request_ids, 0)
    for part in filter(None, map(str.strip, first.split(","))):
        task, colon, place = part.partition(":")
        if not colon or not _NUMBER.fullmatch(place):
            raise _bad(part, "expected <request_id>:<number>")
        if task not in places_of:
            raise _bad(part, "ids= does not name this task")
        places_of[task] = int(place)
    return places_of


def write_many(request_id: str, places: Mapping[str, int]) -> str:
    """The id of an event of ``request_id`` in a stream of several tasks.

    :param places: where the client is in each task with this event, in the order of ``ids=``.
    """
    vector = ".".join(map(str, places.values()))
    return f"{request_id}:{places[request_id]};{_check(tuple(places))}.{vector}"


def _check(request_ids: Sequence[str]) -> str:
    return hashlib.sha256(",".join(request_ids).encode()).hexdigest()[:8]


def _bad(text: str, why: str) -> Problem:
    return Problem("invalid-cursor", f"Last-Event-ID or starting_after {text[:80]!r}: {why}")
