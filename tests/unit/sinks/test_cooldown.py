"""Who is left alone: for how long, and who finds out whether it is over."""

import pytest

from flask_bgtasks import Backoff, RetryLater
from flask_bgtasks.sinks import cooldown as cooldown_module
from flask_bgtasks.sinks.cooldown import PROBE_SECONDS, REMEMBERED, Cooldowns


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(cooldown_module, "time", made)
    return made


@pytest.fixture
def cooldowns(clock):
    return Cooldowns(Backoff(8, 64))


def left(cooldowns, who="anna"):
    """Seconds for which someone is left alone, None if not."""
    try:
        cooldowns.begin(who, "")
    except RetryLater as error:
        return error.after
    return None


def test_who_does_not_answer_is_left_alone_for_ever_longer_and_nobody_else(cooldowns, clock):
    waits = []
    for _ in range(6):
        waits.append(cooldowns.begin("anna", "").refused())
        assert left(cooldowns) == pytest.approx(waits[-1])
        assert left(cooldowns, "bert") is None
        clock.now += waits[-1]

    for wait, ceiling in zip(waits, (8, 16, 32, 64, 64, 64), strict=True):
        assert ceiling / 2 <= wait <= ceiling


def test_what_is_said_names_it_and_that_nothing_was_tried(cooldowns):
    cooldowns.begin("anna", "").refused(60)

    with pytest.raises(RetryLater, match=r"^https://anna\.example is left alone for now$") as refused:
        cooldowns.begin("anna", "https://anna.example")

    assert (refused.value.after, refused.value.tried) == (60, False)


def test_after_the_pause_one_alone_finds_out_whether_it_is_over(cooldowns, clock):
    clock.now += cooldowns.begin("anna", "").refused()

    turn = cooldowns.begin("anna", "")

    assert 0 < left(cooldowns) <= PROBE_SECONDS
    turn.answered()
    assert left(cooldowns) is None


def test_a_turn_that_is_never_ended_ends_by_itself(cooldowns, clock):
    clock.now += cooldowns.begin("anna", "").refused()
    cooldowns.begin("anna", "")
    clock.now += PROBE_SECONDS

    assert left(cooldowns) is None


def test_those_that_were_under_way_together_are_one_refusal(cooldowns, clock):
    turns = [cooldowns.begin("anna", "") for _ in range(8)]
    for turn in turns:
        clock.now += 0.01
        turn.refused()

    assert left(cooldowns) <= 8


def test_an_answer_from_before_takes_nothing_off_a_pause(cooldowns, clock):
    early, refused = cooldowns.begin("anna", ""), cooldowns.begin("anna", "")
    clock.now += 1
    refused.refused(3600)

    early.answered()
    early.refused(5)

    assert left(cooldowns) == pytest.approx(3600)


def test_after_an_answer_the_pauses_are_short_again(cooldowns, clock):
    for _ in range(5):
        clock.now += cooldowns.begin("anna", "").refused()
    cooldowns.begin("anna", "").answered()
    clock.now += 1

    assert cooldowns.begin("anna", "").refused() <= 8


def test_not_more_than_so_many_are_remembered(cooldowns):
    for number in range(REMEMBERED + 1):
        cooldowns.begin(str(number), "").refused(3600)

    assert left(cooldowns, "0") is None
    assert left(cooldowns, "1") == pytest.approx(3600)


def test_looking_how_long_somebody_is_left_alone_keeps_nobody_from_finding_out(cooldowns, clock):
    assert cooldowns.left("anna") == 0
    cooldowns.begin("anna", "").refused(60)
    assert cooldowns.left("anna") == 60
    clock.now += 60
    assert cooldowns.left("anna") == cooldowns.left("anna") == 0

    probe = cooldowns.begin("anna", "")

    assert cooldowns.left("anna") == PROBE_SECONDS
    probe.answered()
    assert cooldowns.left("anna") == 0
