"""The ladder in virtual time: what the client does when the network, the server or the mirror fail, and when."""

import contextlib
import itertools
from dataclasses import replace

import pytest

from flask_bgtasks.client import CredentialsRefused, Kind, TaskGone, TaskRejected, WaitTimeout
from flask_bgtasks.client.flows import operations
from flask_bgtasks.client.flows.ladder import Channel, Rung, Timing
from flask_bgtasks.client.io.effects import Answer
from flask_bgtasks.client.pending.records import State
from tests.support.client.world import World


@pytest.fixture
def make_world():
    """Makes worlds, and closes what they keep."""
    with contextlib.ExitStack() as stack:

        def make(**options):
            world = World(**options)
            stack.callback(world.registry.close)
            return world

        yield make


def submitted(world):
    """A submission that the server has; its record and the server's task."""
    record = world.run(operations.submit(world.session, "/process", json={"n": 1}))
    assert record.state is State.FOLLOWING
    return record, world.tasks[record.request_id]


def followed(world, record, **options):
    """Everything that a consumer is given, to the end."""
    world.run(operations.events(world.session, [record.key], **options))
    return world.given


def test_a_stream_tells_everything_in_order_and_the_outcome_is_told_once(make_world):
    world = make_world()
    record, task = submitted(world)
    world.at(1, lambda: task.add("output", offset=0, chunks=["a"]))
    world.at(2, lambda: task.add("progress", progress_percentage=40))
    world.at(3, lambda: task.add("completed", progress_percentage=100))

    events = followed(world, record)

    assert [event.type for event in events] == ["accepted", "started", "output", "progress", "completed"]
    assert [event.percentage for event in events] == [0, 0, 0, 40, 100]
    assert [(outcome.status, outcome.via) for outcome in world.told] == [("completed", "stream")]
    assert world.registry.get(record.key).state is State.ACKED
    assert len(world.asked("STREAM")) == 1


def test_a_stream_that_is_cut_goes_on_where_it_broke(make_world):
    world = make_world()
    record, task = submitted(world)
    for second in range(1, 60):
        world.at(second, lambda: task.add("output", chunks=["x"]))
        world.at(second + 0.5, world.cut)
    world.at(70, lambda: task.add("completed"))

    events = followed(world, record)

    assert [event.seq for event in events if event.kind is Kind.OUTPUT] == list(range(3, 62))
    assert len(world.resumed) > 10
    assert world.resumed[:2] == [None, f"{task.request_id}:3"]


def test_silence_is_noticed_by_the_watchdog_and_the_stream_is_opened_again(make_world):
    world = make_world()
    record, task = submitted(world)
    world.at(5, lambda: setattr(world, "silent", True))
    world.at(30, lambda: task.add("completed"))
    world.at(44, lambda: setattr(world, "silent", False))

    followed(world, record)

    first, second = world.asked("STREAM")
    assert (first, second) == (0, pytest.approx(40, abs=2))  # 2.5 pings of silence after the first events


def test_pings_keep_a_quiet_stream(make_world):
    world = make_world()
    record, task = submitted(world)
    world.at(300, lambda: task.add("completed"))

    followed(world, record)

    assert len(world.asked("STREAM")) == 1


def test_without_streams_it_polls_every_second_and_tries_a_stream_every_thirty(make_world):
    world = make_world()
    record, task = submitted(world)
    world.streams = False
    world.at(100, lambda: task.add("completed"))

    followed(world, record)

    polls, streams = world.asked("GET /tasks"), world.asked("STREAM")
    early = [b - a for a, b in itertools.pairwise(polls) if b < 55]
    assert all(0.79 <= gap <= 1.21 for gap in early)
    late = [b - a for a, b in itertools.pairwise(polls) if a > 75]
    assert max(late) > 3  # nothing changes for a minute: slower, up to 5 s
    assert all(gap <= 6.1 for gap in late)
    assert [round(at / 30) for at in streams] == [0, 1, 2, 3]
    assert world.told[0].via == "poll"


def test_what_polling_passed_over_is_given_before_the_end(make_world):
    world = make_world()
    record, task = submitted(world)
    world.streams = False
    for n in range(5):
        world.at(2 + n / 10, lambda n=n: task.add("output", chunks=[n]))
    world.at(3, lambda: task.add("completed"))

    events = followed(world, record)

    assert [event.chunks[0] for event in events if event.kind is Kind.OUTPUT] == [0, 1, 2, 3, 4]
    assert events[-1].kind is Kind.TERMINAL


def test_a_backend_that_is_away_is_probed_while_the_mirror_is_read_every_thirty_seconds(make_world):
    world = make_world(mirror=True)
    record, task = submitted(world)
    world.at(3, lambda: setattr(world, "backend", False))
    world.at(100, lambda: task.add("completed"))

    followed(world, record)

    reads = world.asked("MIRROR")
    assert reads[0] < 10
    assert all(26.9 <= b - a <= 33.1 for a, b in itertools.pairwise(reads))
    probes = [at for at in world.asked("GET /tasks") if at > 10]
    assert len(probes) >= 3
    assert [(outcome.via, outcome.result) for outcome in world.told] == [("firestore", {"mirrored": task.request_id})]
    assert world.registry.get(record.key).state is State.ANNOUNCED  # that it was seen is still to be said

    world.backend = True
    world.run(operations.check_pending(world.session))

    assert world.registry.get(record.key).state is State.ACKED
    assert len(world.told) == 1


def test_a_backend_that_comes_back_is_asked_first_and_then_streams_again(make_world):
    world = make_world(mirror=True)
    record, task = submitted(world)
    world.at(3, lambda: setattr(world, "backend", False))
    world.at(60, lambda: setattr(world, "backend", True))
    world.at(100, lambda: task.add("completed"))

    followed(world, record)

    back = next(at for at in world.asked("STREAM") if at > 20)
    assert 60 <= back <= 91  # the probe's backoff ends at 30 s
    assert world.told[0].via == "stream"


def test_without_network_at_all_the_mirror_is_asked_ever_more_rarely(make_world):
    world = make_world(mirror=True)
    record, task = submitted(world)
    world.backend = world.mirror_up = False
    world.at(1000, lambda: task.add("completed"))
    world.at(1001, lambda: setattr(world, "mirror_up", True))

    followed(world, record)

    gaps = [b - a for a, b in itertools.pairwise(world.asked("MIRROR"))]
    assert gaps[0] < 75
    assert 95 <= max(gaps) <= 145  # backoff to 120 s
    assert world.told[0].status == "completed"


def test_the_percentage_never_falls_whoever_tells_it(make_world):
    world = make_world(mirror=True)
    record, task = submitted(world)
    world.at(1, lambda: task.add("progress", progress_percentage=60))
    world.at(2, lambda: setattr(task, "percentage", 20))
    world.at(2, lambda: setattr(world, "backend", False))
    world.at(40, lambda: setattr(world, "backend", True))
    world.at(41, lambda: task.add("progress", progress_percentage=30))
    world.at(80, lambda: task.add("completed"))

    events = followed(world, record)

    shown = [event.percentage for event in events]
    assert shown == sorted(shown)
    assert len(shown) > 4


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_stream_tells_of_every_kind_of_end_at_once(make_world, end):
    world = make_world()
    record, task = submitted(world)
    world.at(5, lambda: task.add(end))

    followed(world, record)

    assert [(outcome.status, outcome.via) for outcome in world.told] == [(end, "stream")]
    assert world.now - 1000 < 5.2
    assert len(world.asked("STREAM")) == 1


def test_an_end_in_the_history_that_a_retry_followed_is_no_outcome(make_world):
    world = make_world()
    task = world.accept()
    task.add("failed")
    task.add("reopened")
    record = world.run(operations.follow(world.session, task.request_id))
    world.at(5, lambda: task.add("completed"))

    events = followed(world, record)

    assert [outcome.status for outcome in world.told] == ["completed"]
    assert [event.type for event in events if event.kind is Kind.TERMINAL] == ["completed"]


def test_a_retry_makes_a_second_outcome_of_the_same_task(make_world):
    world = make_world()
    record, task = submitted(world)
    task.add("failed")
    followed(world, record)

    world.run(operations.retry(world.session, record.key))
    world.at(world.now - 1000 + 5, lambda: task.add("completed"))
    followed(world, record)

    assert [outcome.status for outcome in world.told] == ["failed", "completed"]


def test_a_task_that_the_backend_does_not_know_is_gone_the_second_time_it_says_so(make_world):
    world = make_world()
    world.streams = False
    record, task = submitted(world)
    del world.tasks[task.request_id]

    with pytest.raises(TaskGone):
        world.run(operations.wait(world.session, record.key))

    assert len(world.asked("GET /tasks")) == 2
    assert [outcome.status for outcome in world.told] == ["gone"]


def test_one_missing_answer_is_not_believed(make_world):
    world = make_world()
    world.streams = False
    record, task = submitted(world)
    del world.tasks[task.request_id]
    world.at(0.5, lambda: world.tasks.__setitem__(task.request_id, task))
    world.at(3, lambda: task.add("completed"))

    assert world.run(operations.wait(world.session, record.key)) == {"n": task.request_id}


def test_a_mirror_that_has_no_document_says_nothing(make_world):
    world = make_world(mirror=True)
    record, task = submitted(world)
    world.backend = False
    hidden = world.tasks.pop(task.request_id)
    world.at(200, lambda: world.tasks.__setitem__(task.request_id, hidden))
    world.at(210, lambda: task.add("completed"))

    followed(world, record)

    assert [outcome.status for outcome in world.told] == ["completed"]


def test_wait_gives_up_in_time_on_every_rung(make_world):
    for state in ({}, {"streams": False}, {"backend": False}, {"silent": True}):
        world = make_world()
        record, _ = submitted(world)
        vars(world).update(state)

        with pytest.raises(WaitTimeout):
            world.run(operations.wait(world.session, record.key, timeout=7))

        assert world.now - 1000 == pytest.approx(7, abs=0.2), state
        assert world.registry.get(record.key).state is State.FOLLOWING


def test_a_timer_that_is_very_late_means_that_the_machine_slept_and_everything_is_tried_anew(make_world):
    world = make_world()
    record, task = submitted(world)
    world.streams = False
    world.at(10, lambda: setattr(world, "streams", True))
    world.at(10, lambda: world._to(world.now + 8 * 3600))  # asleep in the middle of a sleep of a second
    world.at(8 * 3600 + 12, lambda: task.add("completed"))

    followed(world, record)

    assert world.asked("STREAM")[1] - 8 * 3600 < 12  # not 30 s after the first try
    assert world.told[0].via == "stream"


# -- sending ---------------------------------------------------------------------------------------------------------


def test_a_submission_without_network_waits_and_becomes_one_task(make_world):
    world = make_world()
    world.backend = False
    record = world.run(operations.submit(world.session, "/process", json={}))
    assert record.state is State.QUEUED
    world.at(100, lambda: setattr(world, "backend", True))
    world.at(140, lambda: next(iter(world.tasks.values())).add("completed"))

    world.run(operations.wait(world.session, record.key))

    tries = world.asked("POST /process")
    gaps = [b - a for a, b in itertools.pairwise(tries)]
    assert max(gaps) <= 31
    assert len(world.tasks) == 1


def test_an_answer_that_was_lost_makes_no_second_task(make_world):
    world = make_world()
    world.lose_answers = 3
    record = world.run(operations.submit(world.session, "/process", json={}))
    world.at(30, lambda: next(iter(world.tasks.values())).add("completed"))

    world.run(operations.wait(world.session, record.key))

    assert len(world.asked("POST /process")) == 4
    assert len(world.tasks) == 1


def test_what_could_not_be_sent_for_a_week_is_rejected_and_told(make_world):
    world = make_world()
    world.backend = False
    record = world.run(operations.submit(world.session, "/process", json={}))
    world._to(world.now + 8 * 24 * 3600)

    (outcome,) = world.run(operations.check_pending(world.session))

    assert (outcome.status, outcome.key) == ("rejected", record.key)
    assert "7 days" in outcome.error_message
    with pytest.raises(TaskRejected, match="expired"):
        world.run(operations.wait(world.session, record.key))


def test_refused_credentials_block_until_there_are_others(make_world):
    world = make_world(headers={"Authorization": "old"})
    world.unauthorised = {"old"}
    record = world.run(operations.submit(world.session, "/process", json={}))
    assert record.state is State.BLOCKED

    with pytest.raises(CredentialsRefused):
        world.run(operations.wait(world.session, record.key))
    world.run(operations.check_pending(world.session))
    assert len(world.asked("POST /process")) == 1  # not again with what was refused
    world.session.headers = {"Authorization": "new"}
    world.run(operations.check_pending(world.session))

    assert world.registry.get(record.key).state is State.FOLLOWING


def test_a_function_is_asked_for_fresh_headers_when_the_first_are_refused(make_world):
    tokens = iter(["old", "new", "new", "new", "new"])
    world = make_world(headers=lambda: {"Authorization": next(tokens)})
    world.unauthorised = {"old"}

    record = world.run(operations.submit(world.session, "/process", json={}))

    assert record.state is State.FOLLOWING


def test_credentials_that_are_refused_while_following_keep_the_task(make_world):
    world = make_world(headers={"Authorization": "old"})
    record, task = submitted(world)
    world.streams = False
    world.at(5, lambda: world.unauthorised.add("old"))

    with pytest.raises(CredentialsRefused):
        world.run(operations.wait(world.session, record.key))
    assert world.registry.get(record.key).state is State.BLOCKED
    world.session.headers = {"Authorization": "new"}
    task.add("completed")

    assert world.run(operations.wait(world.session, record.key)) == {"n": task.request_id}


def test_cancelling_what_was_never_sent_withdraws_it(make_world):
    world = make_world()
    world.backend = False
    record = world.run(operations.submit(world.session, "/process", json={}))
    world.registry.change(record.key, lambda kept: replace(kept, tries=0))  # as if killed before the first try

    status = world.run(operations.cancel(world.session, record.key))
    world.backend = True
    world.run(operations.check_pending(world.session))

    assert status == "cancelled"
    assert world.tasks == {}
    assert [outcome.status for outcome in world.told] == ["cancelled"]


def test_many_are_followed_in_one_stream_and_those_that_come_meanwhile_too(make_world):
    world = make_world()
    records = [submitted(world)[0] for _ in range(3)]
    late = world.accept()
    world.at(5, lambda: world.run(operations.follow(world.session, late.request_id)))
    for n, record in enumerate(records):
        world.at(40 + n, lambda record=record: world.tasks[record.request_id].add("completed"))
    world.at(50, lambda: late.add("completed"))

    world.run(operations.events(world.session, None))

    ends = [event.request_id for event in world.given if event.kind is Kind.TERMINAL]
    assert ends == [*(record.request_id for record in records), late.request_id]
    assert len(world.told) == 4
    assert len(world.asked("STREAM")) <= 3


def test_more_than_go_into_one_request_are_polled_in_several_and_nobody_waits_for_others(make_world):
    world = make_world()
    records = [submitted(world)[0] for _ in range(60)]
    last = world.tasks[records[-1].request_id]
    world.at(3, lambda: last.add("completed"))
    for record in records[:-1]:
        world.at(20, lambda record=record: world.tasks[record.request_id].add("completed"))

    world.run(operations.events(world.session, None))

    assert world.told[0].request_id == last.request_id
    assert len(world.told) == 60


# -- the callback ----------------------------------------------------------------------------------------------------


def test_a_callback_that_fails_is_called_again_and_who_waits_gets_the_result(make_world):
    world = make_world()
    record, task = submitted(world)
    task.add("completed")
    calls = []

    def fails_once(outcome):
        calls.append(outcome.status)
        if len(calls) == 1:
            raise RuntimeError("the screen broke")

    world.session.on_outcome = fails_once

    assert world.run(operations.wait(world.session, record.key)) == {"n": task.request_id}
    assert world.registry.get(record.key).state is State.SETTLED
    world.run(operations.check_pending(world.session))
    world.run(operations.check_pending(world.session))

    assert calls == ["completed", "completed"]


def test_an_outcome_waits_for_its_result(make_world):
    world = make_world()
    record, task = submitted(world)
    task.add("completed")
    world.unreachable = "/result"

    assert world.run(operations.check_pending(world.session)) == []
    assert world.registry.get(record.key).state is State.SETTLED
    world.unreachable = None

    assert [o.result for o in world.run(operations.check_pending(world.session))] == [{"n": task.request_id}]


def test_a_result_in_json_lines_is_told_as_its_bytes(make_world):
    world = make_world()
    record, task = submitted(world)
    task.add("completed")
    answer = Answer(200, {"content-type": "application/jsonl", "task-id": task.request_id}, b"1\n")
    others = world._answer
    world._answer = lambda effect, path, query: answer if path.endswith("/result") else others(effect, path, query)

    assert world.run(operations.wait(world.session, record.key)) == b"1\n"


# -- the rungs by themselves -----------------------------------------------------------------------------------------


class _Most:
    """Dice that always throw the most."""

    def uniform(self, low, high):
        return high


def test_three_failures_in_a_row_give_the_stream_up_and_an_event_forgives_them():
    channel = Channel(Timing(), mirrored=False, random=_Most())

    assert [channel.stream_broke(0.0), channel.stream_broke(1.0)] == [0.5, 1.0]
    channel.stream_told()
    assert [channel.stream_broke(2.0), channel.stream_broke(3.0)] == [0.5, 1.0]
    assert channel.choose(3.0) is Rung.STREAM
    channel.stream_broke(4.0)

    assert channel.choose(4.0) is Rung.POLL
    assert channel.choose(33.9) is Rung.POLL
    assert channel.choose(34.0) is Rung.STREAM


def test_the_server_names_the_first_wait():
    channel = Channel(Timing(), mirrored=False, random=_Most())

    assert channel.stream_broke(0.0, retry=2.0) == 2.0


def test_a_retry_after_wins_but_not_for_days():
    channel = Channel(Timing(poll_jitter=0), mirrored=False, random=_Most())

    assert channel.polled(0.0, changed=True, wish=None, demand=20.0) == 20.0
    assert channel.polled(0.0, changed=True, wish=None, demand=1e9) == 3600.0
    assert channel.polled(0.0, changed=True, wish=2.5, demand=None) == 2.5
