"""Who is left alone: for how long, and who finds out whether it is over."""

import pytest

from flask_bgtasks import Backoff, RetryLater
from flask_bgtasks.sinks import cooldown as resting_module
from flask_bgtasks.sinks.cooldown import REMEMBERED, TURN_SECONDS, Cooldowns


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(resting_module, "time", made)
    return made


@pytest.fixture
def rests(clock):
    return Cooldowns(Backoff(8, 64))


def left(rests, who="anna"):
    """Seconds for which someone is left alone, None if not."""
    try:
        rests.begin(who, "")
    except RetryLater as error:
        return error.after
    return None


def test_who_does_not_answer_is_left_alone_for_ever_longer_and_nobody_else(rests, clock):
    waits = []
    for _ in range(6):
        waits.append(rests.begin("anna", "").refused())
        assert left(rests) == pytest.approx(waits[-1])
        assert left(rests, "bert") is None
        clock.now += waits[-1]

    for wait, ceiling in zip(waits, (8, 16, 32, 64, 64, 64), strict=True):
        assert ceiling / 2 <= wait <= ceiling


def test_what_is_said_names_it_and_that_nothing_was_tried(rests):
    rests.begin("anna", "").refused(60)

    with pytest.raises(RetryLater, match=r"^https://anna\.example is left alone for now$") as refused:
        rests.begin("anna", "https://anna.example")

    assert (refused.value.after, refused.value.tried) == (60, False)


def test_after_the_pause_one_alone_finds_out_whether_it_is_over(rests, clock):
    clock.now += rests.begin("anna", "").refused()

    turn = rests.begin("anna", "")

    assert 0 < left(rests) <= TURN_SECONDS
    turn.answered()
    assert left(rests) is None


def test_a_turn_that_is_never_ended_ends_by_itself(rests, clock):
    clock.now += rests.begin("anna", "").refused()
    rests.begin("anna", "")
    clock.now += TURN_SECONDS

    assert left(rests) is None


def test_those_that_were_under_way_together_are_one_refusal(rests, clock):
    turns = [rests.begin("anna", "") for _ in range(8)]
    for turn in turns:
        clock.now += 0.01
        turn.refused()

    assert left(rests) <= 8


def test_an_answer_from_before_takes_nothing_off_a_pause(rests, clock):
    early, refused = rests.begin("anna", ""), rests.begin("anna", "")
    clock.now += 1
    refused.refused(3600)

    early.answered()
    early.refused(5)

    assert left(rests) == pytest.approx(3600)


def test_after_an_answer_the_pauses_are_short_again(rests, clock):
    for _ in range(5):
        clock.now += rests.begin("anna", "").refused()
    rests.begin("anna", "").answered()
    clock.now += 1

    assert rests.begin("anna", "").refused() <= 8


def test_not_more_than_so_many_are_remembered(rests):
    for number in range(REMEMBERED + 1):
        rests.begin(str(number), "").refused(3600)

    assert left(rests, "0") is None
    assert left(rests, "1") == pytest.approx(3600)
