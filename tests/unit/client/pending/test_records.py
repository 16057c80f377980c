"""The state machine of a submission, under sightings by any channel, in any order, doubled and late."""

import itertools
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_bgtasks.client.pending import records
from flask_bgtasks.client.pending.records import OVER, UNTOLD, Record, Sighting, State

NEW = Record(key="k", state=State.QUEUED, created_at=0.0, expires_at=100.0, path="/process", body=b"{}")
FOLLOWING = records.accepted(replace(NEW, state=State.SENDING), "id")


@st.composite
def histories(draw):
    """What may happen to a task at a server: attempts that end, and explicit retries."""
    history, seq, attempt = [], 0, 0
    for _ in range(draw(st.integers(1, 3))):
        attempt += 1
        for _ in range(draw(st.integers(1, 3))):
            seq += 1
            history.append(("processing", seq, attempt))
        seq += 1
        history.append((draw(st.sampled_from(["failed", "cancelled"])), seq, attempt))
        seq += 1
        history.append(("started", seq, attempt))  # reopened
    attempt += 1
    seq += 1
    history.append(("processing", seq, attempt))
    if draw(st.booleans()):
        history.append((draw(st.sampled_from(["completed", "failed", "cancelled", "unheard-of"])), seq + 1, attempt))
    return history


@st.composite
def sightings(draw):
    """A history, and what channels say of it: anything of it, in any order, some without a number."""
    history = draw(histories())
    seen = draw(st.lists(st.tuples(st.sampled_from(history), st.booleans(), st.floats(0, 100)), max_size=25))
    return history, [
        Sighting(
            status=status,
            seq=None if numberless else seq,
            attempt=attempt,
            via="poll",
            progress={"progress_percentage": percentage},
        )
        for (status, seq, attempt), numberless, percentage in seen
    ]


def taken_in(sighted, *, tell):
    """Take in sightings one by one; the record, and each outcome that was announced: (status, seq, attempt)."""
    record, announced, trail = FOLLOWING, [], [FOLLOWING]
    for number, sighting in enumerate(sighted):
        record = records.sighted(record, sighting)
        trail.append(record)
        if tell and record.state in UNTOLD:
            claim = records.claim_to_tell(record, holder="me", now=float(number))
            announced.append((claim.status, claim.settled_seq, claim.attempt))
            record = records.announced(claim, claim)
            trail.append(record)
    return record, announced, trail


@given(sightings())
def test_no_outcome_is_announced_twice(case):
    _, sighted = case

    _, announced, _ = taken_in(sighted, tell=True)

    numbered = [(seq, attempt) for _, seq, attempt in announced]
    assert len(numbered) == len(set(numbered))


@given(sightings())
def test_an_attempt_that_ended_without_a_number_is_not_announced_again_with_one(case):
    history, sighted = case
    ends_of = {}
    for status, seq, attempt in history:
        if status in ("completed", "failed", "cancelled"):
            ends_of.setdefault(attempt, []).append(seq)

    _, announced, _ = taken_in(sighted, tell=True)

    for attempt, ends in ends_of.items():
        assert len([a for _, _, a in announced if a == attempt]) <= len(ends)


@given(sightings())
def test_numbers_and_percentage_never_go_back(case):
    _, sighted = case

    _, _, trail = taken_in(sighted, tell=True)

    for before, after in itertools.pairwise(trail):
        assert after.seq >= before.seq
        assert after.attempt >= before.attempt
        assert after.percentage >= before.percentage
        assert after.settled_seq >= before.settled_seq


@given(sightings())
def test_the_newest_outcome_that_was_seen_is_announced(case):
    _, sighted = case
    numbered = [s for s in sighted if s.seq is not None]
    if not numbered:
        return
    newest = max(numbered, key=lambda s: s.seq)

    record, announced, _ = taken_in(sighted, tell=True)

    if newest.terminal:
        assert record.state is State.ANNOUNCED
        assert announced
    known = [s for s in sighted if s.terminal]
    if known and not announced:  # it was seen, and not announced: then it was known already that it runs again
        assert max(s.seq or 0 for s in known) < max(s.seq for s in numbered)


@given(sightings())
def test_what_was_told_before_a_crash_and_what_was_not_come_out_right_after_it(case):
    """Nobody tells while it goes; then the process starts again and tells what it finds."""
    _, sighted = case

    record, _, _ = taken_in(sighted, tell=False)

    claim = records.claim_to_tell(record, holder="me", now=0.0)
    told = records.announced(claim, claim)
    assert (told.state is State.ANNOUNCED) == (record.state is State.SETTLED)
    assert records.claim_to_tell(told, holder="me", now=1.0) is told


def test_every_state_lets_only_those_in_that_may_come():
    """Transitions that do not fit give back what they got: whoever comes too late changes nothing."""
    for state in State:
        record = replace(FOLLOWING, state=state)
        assert records.missed(record) is record or state is State.FOLLOWING
        assert records.acked(record) is record or state is State.ANNOUNCED
        assert records.blocked(record) is record or state in (State.QUEUED, State.SENDING, State.FOLLOWING)
        assert records.withdrawn(record) is record or state is State.QUEUED
        assert records.rejected(record, "no") is record  # it was accepted
        assert records.accepted(record, "other").request_id == "id"


def test_who_announces_an_outcome_does_not_announce_the_next_one_by_that():
    settled = records.sighted(FOLLOWING, Sighting(status="failed", seq=5, attempt=1, via="poll"))
    claim = records.claim_to_tell(settled, holder="me", now=1.0)
    reopened = records.sighted(claim, Sighting(status="started", seq=6, attempt=1, via="stream"))
    again = records.sighted(reopened, Sighting(status="failed", seq=9, attempt=2, via="stream"))

    assert records.announced(again, claim) is again
    assert again.state is State.SETTLED


def test_what_another_process_sends_is_left_to_it_while_it_lives(monkeypatch):
    alive = {"other": True, "dead": False, "elsewhere": None}
    monkeypatch.setattr(records.processes, "alive", alive.get)
    claim = partial(records.claim_to_send, holder="me", now=10.0)

    def sending(holder):
        return replace(NEW, state=State.SENDING, holder=holder, held_at=5.0)

    for holder, taken in (("other", False), ("dead", True), ("elsewhere", False)):
        record = sending(holder)
        assert (claim(record) is not record) is taken, holder
    late = sending("elsewhere")
    assert records.claim_to_send(late, holder="me", now=200.0).holder == "me"  # a claim does not hold for ever


def test_a_claim_that_was_made_while_another_one_waited_for_its_turn_holds(monkeypatch):
    monkeypatch.setattr(records.processes, "alive", lambda holder: True)
    settled = records.sighted(FOLLOWING, Sighting(status="failed", seq=5, attempt=1, via="poll"))
    claimed = records.claim_to_tell(settled, holder="one", now=10.001)

    assert records.claim_to_tell(claimed, holder="two", now=10.0) is claimed

    of_a_clock_that_was_set_back = replace(claimed, held_at=3610.0)
    assert records.claim_to_tell(of_a_clock_that_was_set_back, holder="two", now=10.0).holder == "two"


@pytest.mark.parametrize("state", [state for state in State if state not in OVER])
def test_what_was_removed_stays_removed_whatever_is_heard_of_it(state):
    removed = records.forgotten(replace(FOLLOWING, state=state))

    for status in ("processing", "completed"):
        assert records.sighted(removed, Sighting(status=status, seq=9, attempt=1, via="poll")) is removed


def test_a_clock_that_was_wrong_delays_nothing_for_ever():
    record = replace(NEW, next_try_at=1e12, not_before=0.0)

    assert record.due(1000.0, patience=3600.0, woken=False)
    assert not replace(NEW, next_try_at=1010.0).due(1000.0, patience=3600.0, woken=False)
    assert replace(NEW, next_try_at=1010.0).due(1000.0, patience=3600.0, woken=True)
    assert not replace(NEW, not_before=1010.0).due(1000.0, patience=3600.0, woken=True)
