"""The reader of event streams: WHATWG's examples, and every way to cut a stream into pieces."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_bgtasks.client.io import sse as eventstream
from flask_bgtasks.client.io.sse import EventStreamParser, NotAnEventStream
from flask_bgtasks.http.streaming import sse
from tests.support.sse_reader import read


def parsed(*chunks):
    parser = EventStreamParser()
    return [(e.type, e.data, e.id) for chunk in chunks for e in parser.feed(chunk)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        # The examples of WHATWG HTML, section 9.2.6.
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("message", "YHOO\n+2\n10", "")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            [("message", "first event", "1"), ("message", "second event", ""), ("message", " third event", "")],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [("message", "", ""), ("message", "\n", "")]),
        (b"data:test\n\ndata: test\n\n", [("message", "test", "")] * 2),
        # What else its rules say.
        (b"\xef\xbb\xbfdata: bom\n\n", [("message", "bom", "")]),
        (b"id: a\0b\ndata: x\n\n", [("message", "x", "")]),
        (b"event: ping\n\ndata: x\n\n", [("message", "x", "")]),
        (b"data: a\r\rdata: b\r\n\r\n", [("message", "a", ""), ("message", "b", "")]),
        (b"data: cut off\n", []),
        ("data: ü€😀\n\n".encode(), [("message", "ü€😀", "")]),
    ],
)
def test_a_stream_is_read_as_the_standard_says_however_it_is_cut(stream, events):
    assert parsed(stream) == events
    assert parsed(*(bytes([byte]) for byte in stream)) == events


@given(
    st.lists(
        st.tuples(st.sampled_from(["output", "progress"]), st.text(st.characters(codec="utf-8")), st.integers(0, 99)),
        max_size=5,
    ),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_what_the_server_frames_is_what_the_client_reads(events, cuts):
    stream = b"".join(sse.event(type, data, id=str(number)) for type, data, number in events)
    at = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]

    found = parsed(*(stream[a:b] for a, b in itertools.pairwise(at)))

    assert found == [(e.type, e.data, e.last_id) for e in read(stream)]


def test_the_server_may_ask_for_a_pause():
    parser = EventStreamParser()

    list(parser.feed(b"retry: 1500\n\nretry: soon\n\n"))

    assert parser.retry == 1.5


def test_an_event_that_does_not_end_is_not_kept_for_ever(monkeypatch):
    monkeypatch.setattr(eventstream, "MAX_CHARACTERS", 1000)
    parser = EventStreamParser()

    with pytest.raises(NotAnEventStream):
        for _ in range(20):
            list(parser.feed(b"data: " + b"x" * 100 + b"\n"))
