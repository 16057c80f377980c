"""Frames are what an EventSource reads back, by the rules of the WHATWG parser."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_bgtasks.http.streaming import sse
from tests.support.sse_reader import read


def test_an_event_has_id_type_and_data():
    assert sse.event("progress", '{"a":1}', id="17") == b'id: 17\nevent: progress\ndata: {"a":1}\n\n'


def test_an_event_without_id_keeps_the_clients_last_one():
    [event] = read(sse.event("missing", "{}"), last_id="4")

    assert (event.type, event.last_id) == ("missing", "4")


def test_a_ping_is_seen_by_an_event_source_and_moves_no_cursor():
    [event] = read(sse.PING, last_id="4")

    assert (event.type, event.data, event.last_id) == ("ping", "{}", "4")


@pytest.mark.parametrize("newline", ["\n", "\r", "\r\n"])
def test_every_line_of_data_arrives(newline):
    [event] = read(sse.event("x", f"a{newline}b{newline}"))

    assert event.data == "a\nb\n"


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=5))
def test_any_json_arrives_as_it_was(values):
    stream = b"".join(sse.event("x", json.dumps(v, ensure_ascii=False), id=str(n)) for n, v in enumerate(values))

    events = read(stream)

    assert [json.loads(event.data) for event in events] == values
    assert [event.last_id for event in events] == [str(n) for n in range(len(values))]


def test_retry_comes_as_digits():
    assert sse.retry(1250) == b"retry: 1250\n\n"
