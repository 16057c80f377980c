"""Events are encoded once for all streams that tell them."""

from datetime import datetime, timezone

from flask_bgtasks.core.model import Event, EventType
from flask_bgtasks.http.streaming import frame_cache, sse
from flask_bgtasks.http.streaming.frame_cache import FrameCache
from tests.support.sse_reader import read

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def event(seq, text="x"):
    return Event(seq, EventType.OUTPUT, NOW, 1, {"chunks": [text]})


def test_an_event_that_many_ask_for_is_encoded_once(monkeypatch):
    encoded = []
    monkeypatch.setattr(frame_cache, "event_document", lambda task, event: encoded.append((task, event.seq)) or {})
    frames = FrameCache()

    for _ in range(3):
        frames.frame("a", event(1))
        frames.frame("a", event(2))
        frames.frame("b", event(1))

    assert encoded == [("a", 1), ("a", 2), ("b", 1)]


def test_each_stream_names_the_event_in_its_own_way():
    frame = FrameCache().frame("a", event(7))

    assert [(seen.last_id, seen.type, seen.document["seq"]) for seen in read(sse.with_id("a:7;0.7", frame))] == [
        ("a:7;0.7", "output", 7)
    ]


def test_what_is_kept_is_bounded():
    frames = FrameCache(max_bytes=10_000)

    made = [frames.frame("a", event(seq, "x" * 1000)) for seq in range(1, 100)]

    assert sum(map(len, frames._frames.values())) <= 10_000
    assert frames.frame("a", event(1, "x" * 1000)) == made[0]
