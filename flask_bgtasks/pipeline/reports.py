"""How many of a run's reports go into one write. Pure.

A pipeline may report faster than a store can write. Waiting reports are written in order, in parts of limited size: a
Firestore commit holds 10 MiB and a document 1 MiB, and no store should hold its locks for sixteen megabytes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

from ..core.model import Entry, EventType

MAX_ENTRIES = 400  # in one write; a Firestore commit holds some hundred documents within its deadline
MAX_BYTES = 2**20  # in one write, about
MAX_EVENT_BYTES = 256 * 1024  # of output in one event, about; a single larger chunk is an event of its own


def divided(entries: Sequence[Entry]) -> tuple[tuple[Entry, ...], list[Entry]]:
    """What goes into the next write, at least one entry where there is one, and what has to wait for another.

    Output that was given between two writes is one entry; where it is too large for one event it becomes several.
    """
    taken: list[Entry] = []
    room = MAX_BYTES
    for number, entry in enumerate(entries):
        for part in _events(entry):
            size = sum(map(_size, part.data["chunks"])) if part.type is EventType.OUTPUT else _size(part.data)
            if taken and (size > room or len(taken) >= MAX_ENTRIES):
                return tuple(taken), [_from(entry, part), *entries[number + 1 :]]
            taken.append(part)
            room -= size
    return tuple(taken), []


def _events(entry: Entry) -> list[Entry]:
    """An entry as events of a bounded size."""
    if entry.type is not EventType.OUTPUT:
        return [entry]
    chunks: Sequence[Any] = entry.data["chunks"]
    sizes = list(map(_size, chunks))
    if sum(sizes) <= MAX_EVENT_BYTES or len(chunks) < 2:
        return [entry]
    ends, room = [0], MAX_EVENT_BYTES
    for number, size in enumerate(sizes):
        if size > room and number > ends[-1]:
            ends.append(number)
            room = MAX_EVENT_BYTES
        room -= size
    ends.append(len(chunks))
    return [_output(entry, begin, end) for begin, end in itertools.pairwise(ends)]


def _from(entry: Entry, part: Entry) -> Entry:
    """The rest of an entry, from one of its parts on."""
    if part is entry:
        return entry
    return _output(entry, part.data["offset"] - entry.data["offset"], len(entry.data["chunks"]))


def _output(entry: Entry, begin: int, end: int) -> Entry:
    data = {"offset": entry.data["offset"] + begin, "chunks": entry.data["chunks"][begin:end]}
    return Entry(entry.type, entry.at, data)


def _size(value: Any) -> int:
    """About how many bytes a value takes as JSON: of a text without encoding it, which is reported most."""
    if isinstance(value, str):
        return len(value) if value.isascii() else 6 * len(value)
    try:
        return len(json.dumps(value))
    except Exception:  # the store will say so
        return 0
