"""What processes tell each other: brought together, cut into messages, and read by those that know less or more."""

import json
import uuid

import pytest

from flask_bgtasks.announcements.announcement import MAX_MESSAGE_BYTES, MAX_PENDING, Announcement, Message, Pending


@pytest.fixture
def pending():
    return Pending()


def take(pending, now=0.0):
    return [Message.decode(text).announcement for text in pending.take(sender="me", process="host:1", now=now)]


def test_of_a_task_that_changes_often_only_the_newest_is_told(pending):
    for seq in (1, 3, 2):
        pending.add("a", seq)
    pending.add("b", 7)

    (said,) = take(pending)

    assert said == Announcement(tasks={"a": 3, "b": 7}, process="host:1")


def test_what_was_taken_is_pending_no_more(pending):
    pending.add("a", 1)
    pending.add_work()
    pending.add_deliveries()
    assert pending

    (said,) = take(pending)

    assert (said.work, said.deliveries) == (True, True)
    assert not pending


def test_a_task_that_waits_is_work_unless_it_was_begun_with_its_acceptance(pending):
    pending.add("begun", 1, waits=True)
    pending.add("begun", 2)
    assert not take(pending)[0].work

    pending.add("begun", 2)
    pending.add("begun", 1, waits=True)  # of two threads the later one came first
    assert not take(pending)[0].work

    pending.add("waits", 1, waits=True)
    assert take(pending)[0].work


def test_many_tasks_go_in_messages_that_the_server_takes_and_none_is_left_out(pending):
    ids = [str(uuid.uuid4()) for _ in range(MAX_PENDING)]
    for seq, request_id in enumerate(ids):
        pending.add(request_id, 10_000_000 + seq)
    pending.add_work()

    texts = pending.take(sender="0123456789ab", process="a-long-hostname.example:4194304:abcdef01.4026531836:12", now=0)

    assert max(len(text.encode()) for text in texts) <= MAX_MESSAGE_BYTES
    found = [Message.decode(text).announcement for text in texts]
    assert [request_id for said in found for request_id in said.tasks] == ids
    assert [said.work for said in found] == [True] + [False] * (len(found) - 1)


def test_more_than_is_remembered_is_told_as_anything(pending):
    for number in range(MAX_PENDING + 5):
        pending.add(str(number), 1)

    (said,) = take(pending)

    assert said.everything
    assert not said.tasks


def test_the_earliest_of_several_pauses_is_told_as_it_is_when_it_is_sent(pending):
    pending.add_work(30.0)
    pending.add_work(12.0)
    pending.add_work(20.0)

    (said,) = take(pending, now=10.0)

    assert said.due_in == 2.0
    assert not said.work


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[1, 2]",
        "null",
        '{"tasks": {}}',
        '{"from": "x", "tasks": [1]}',
        '{"from": "x", "tasks": {"a": "b"}}',
        '{"from": "x", "tasks": {"a": 1e999}}',
        "[" * 100_000,
    ],
)
def test_what_is_no_message_of_ours_is_passed_over(text):
    assert Message.decode(text) is None


def test_a_message_of_a_later_version_is_read_as_far_as_it_is_known():
    text = json.dumps({"from": "x", "tasks": {"a": 1}, "due_in": "nan", "weather": "fine"})

    assert Message.decode(text) == Message("x", Announcement(tasks={"a": 1}))
