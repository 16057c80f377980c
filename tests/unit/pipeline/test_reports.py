"""How what a run reported is divided into writes."""

import itertools
from datetime import datetime, timezone

import pytest

from flask_bgtasks.core.model import Entry, EventType
from flask_bgtasks.pipeline.reports import MAX_BYTES, MAX_ENTRIES, MAX_EVENT_BYTES, divided

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def output(chunks, offset=0):
    return Entry(EventType.OUTPUT, NOW, {"offset": offset, "chunks": chunks})


def step(name):
    return Entry(EventType.STEP_STARTED, NOW, {"step": name})


def writes(entries):
    """All writes until nothing is left."""
    made, rest = [], list(entries)
    while rest:
        taken, rest = divided(rest)
        assert taken
        made.append(taken)
    return made


def chunks(entries):
    return [chunk for entry in entries for chunk in entry.data["chunks"]]


def test_little_is_one_write_as_it_is():
    entries = [step("a"), output(["x", {"y": 1}]), step("b")]

    assert divided(entries) == (tuple(entries), [])
    assert divided([]) == ((), [])


def test_many_entries_are_several_writes_in_order():
    entries = [step(str(n)) for n in range(2 * MAX_ENTRIES + 1)]

    made = writes(entries)

    assert [len(write) for write in made] == [MAX_ENTRIES, MAX_ENTRIES, 1]
    assert list(itertools.chain(*made)) == entries


@pytest.mark.parametrize("chunk", ["x" * 1000, "é" * 200, {"text": "x" * 1000}, ["x"] * 300], ids=type)
def test_much_output_becomes_events_of_a_bounded_size_with_their_offsets(chunk):
    given = [chunk] * 3000

    made = writes([output(given, offset=7)])
    events = list(itertools.chain(*made))

    assert len(made) > 1
    assert chunks(events) == given
    assert [e.data["offset"] for e in events] == [
        7 + sum(len(before.data["chunks"]) for before in events[:n]) for n in range(len(events))
    ]
    assert all(len(e.data["chunks"]) * 1200 <= MAX_EVENT_BYTES + 100_000 for e in events)


def test_a_chunk_larger_than_a_write_is_an_event_and_a_write_of_its_own():
    made = writes([output(["a", "x" * (2 * MAX_BYTES), "b"])])

    assert [chunks(write) for write in made] == [["a"], ["x" * (2 * MAX_BYTES)], ["b"]]


def test_what_cannot_be_written_is_left_to_the_store_to_refuse():
    odd = output([object()])

    assert divided([odd]) == ((odd,), [])
