"""What a stream tells when the watcher knows less than the store, or has a hole in what it kept."""

from datetime import datetime, timezone

import pytest

from flask_bgtasks.core.model import Event, EventType, Status
from flask_bgtasks.http.streaming.frame_cache import FrameCache
from flask_bgtasks.http.streaming.stream import Subscription, Teller, page
from tests.support.sse_reader import read
from tests.support.tasks import new_task

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def task(seq, *, done=False, request_id="t"):
    return new_task(request_id, "story", status=Status.COMPLETED if done else Status.PROCESSING, seq=seq)


def event(seq, type=EventType.OUTPUT):
    return Event(seq, type, NOW, 1)


class Script:
    """A watcher whose every look is written down: the task, and the events that are kept, one pair for each wait."""

    def __init__(self, *looks):
        self.looks = list(looks)

    def follow(self, request_ids):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def wait(self, timeout):
        if len(self.looks) > 1:
            self.looks.pop(0)
        return True

    def task(self, request_id):
        return self.looks[0][0]

    def events(self, request_id, after):
        return [e for e in self.looks[0][1] if e.seq > after]


def told(script, *, after=0, ahead=()):
    """What a stream tells, as (type, id), until it ends or the script does."""
    asked = Subscription(
        places={"t": after}, ahead=frozenset(ahead), name=lambda _, places: str(places["t"]), seconds=60, base="/tasks"
    )
    teller = Teller(script, FrameCache(), asked, ended=lambda: len(script.looks) == 1)
    return [(e.type, int(e.last_id)) for e in read(b"".join(teller.tell()))]


END = event(4, EventType.COMPLETED)


def test_events_are_told_as_they_come_and_the_end_ends_it():
    script = Script(
        (task(2), [event(1), event(2)]), (task(3), [event(3)]), (task(4, done=True), [END]), (task(4, done=True), [END])
    )

    assert told(script) == [("output", 1), ("output", 2), ("output", 3), ("completed", 4)]


def test_a_hole_in_what_is_kept_is_told_and_not_passed_over():
    script = Script((task(4, done=True), [event(1), event(2), END]))

    assert told(script) == [("output", 1), ("output", 2), ("snapshot", 3), ("completed", 4)]


def test_a_history_that_begins_later_is_told_of_by_one_snapshot():
    script = Script((task(3), [event(3)]), (task(4, done=True), [event(3), END]))

    assert told(script) == [("snapshot", 3), ("completed", 4)]


def test_a_history_of_which_nothing_is_kept_ends_all_the_same():
    assert told(Script((task(4, done=True), []))) == [("snapshot", 4)]


def test_a_client_that_is_ahead_of_what_the_watcher_knows_waits_for_it():
    """The request read the store, where the task was retried; the watcher's task is the one before that."""
    before = (task(4, done=True), [END])
    script = Script(before, (task(6), [END, event(5), event(6)]), (task(6), []))

    assert told(script, after=5) == [("output", 6)]


@pytest.mark.parametrize(
    ("done", "expected"), [(False, [("snapshot", 4)]), (True, [("snapshot", 3), ("completed", 4)])]
)
def test_a_client_that_is_ahead_of_the_task_itself_gets_a_snapshot(done, expected):
    assert told(Script((task(4, done=done), [END] if done else [])), after=9, ahead=["t"]) == expected


@pytest.mark.parametrize(
    ("after", "events", "next_", "trimmed"),
    [(0, [1, 2], 2, False), (0, [3, 4], 4, True), (4, [], 4, False), (9, [], 4, False), (2, [], 2, True)],
)
def test_a_page_says_where_to_go_on_and_whether_something_is_missing(after, events, next_, trimmed):
    made = page("t", [event(n) for n in events], after=after, task=task(4))

    assert (made["after"], made["next"], made["trimmed"]) == (after, next_, trimmed)
