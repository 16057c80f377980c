"""Any sequence of changes, allowed and refused, held against an oracle that knows nothing of the model's code."""

import itertools
import uuid
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from flask_bgtasks import AlreadyClaimed, LeaseLost, TaskFinished, TaskNotFound, TransitionRefused
from flask_bgtasks.core.model import Checkpoint, Entry, EventType, OnInterrupt, Progress, Result, TaskKind
from flask_bgtasks.core.transitions.attempt import Cancel, Claim, Complete, Expire, Fail, Release, Renew, Report, Retry
from flask_bgtasks.core.transitions.outside import MarkSeen, Reopen, RequestCancel
from flask_bgtasks.stores.memory.store import MemoryStore
from flask_bgtasks.stores.sql import SqlStore
from flask_bgtasks.stores.types import NewDelivery
from tests.support.stores import FakeClock, firestore_store
from tests.support.tasks import new_task

LEASE = 30
MAX_ATTEMPTS = 2
TERMINAL = ("completed", "failed", "cancelled")


class Oracle:
    """What DESIGN's promises say of one task, in the plainest way."""

    def __init__(self, on_interrupt=OnInterrupt.RETRY):
        self.on_interrupt = on_interrupt
        self.held = False  # whether an attempt has it, as far as anyone knows
        self.crashes = 0
        self.checkpoints = {}
        self.status = "started"
        self.attempt = 0
        self.history = ["accepted"]
        self.shown = 0.0
        self.lease_until = None
        self.asked_to_stop = False
        self.seen = False
        self.result = None
        self.owed = ["accepted"]

    def tell(self, type, *, owed=True):
        self.history.append(type)
        if owed:
            self.owed.append(type)

    def begin(self, now):
        self.status, self.attempt, self.held = "processing", self.attempt + 1, True
        self.lease_until = now + timedelta(seconds=LEASE)
        self.tell("started")

    def holds(self, attempt):
        return self.status == "processing" and self.held and self.attempt == attempt

    def end(self, status, result=None):
        self.status, self.result, self.held = status, result, False
        self.tell(status)

    def let_go(self, how, until):
        self.held, self.lease_until = False, until
        self.tell(how)

    def crash(self):
        """What becomes of it when its lease is found to have run out; whether it runs again."""
        self.crashes += 1
        if self.asked_to_stop:
            self.end("cancelled")
        elif self.on_interrupt is OnInterrupt.FAIL or self.crashes >= MAX_ATTEMPTS:
            self.end("failed")
        return self.status == "processing"


class StoreMachine(RuleBasedStateMachine):
    """Drives a store and the oracle side by side."""

    make_store = None  # a function of a clock

    def __init__(self):
        super().__init__()
        self.clock = FakeClock()
        self.store = type(self).make_store(self.clock)
        self.oracles = {}
        self.workers = itertools.count()  # each task runs in a process of its own
        self.seen = {}  # the tasks as they were after each change, by id: what a caller may know of them
        self.old = 0

    ids = Bundle("ids")

    def teardown(self):
        self.store.close()

    @rule(target=ids, on_interrupt=st.sampled_from(OnInterrupt), at_once=st.booleans())
    def create(self, on_interrupt, at_once):
        policy = {"max_attempts": MAX_ATTEMPTS, "on_interrupt": on_interrupt}
        task = new_task(kind=TaskKind.VIEW, **policy)
        claim = Claim(f"w{next(self.workers)}", timedelta(seconds=LEASE)) if at_once else None
        self.store.create(task, input={}, deliveries=[NewDelivery("sink")], claim=claim)
        self.oracles[task.request_id] = Oracle(on_interrupt)
        if at_once:
            self.oracles[task.request_id].begin(self.clock.now)
        return task.request_id

    @rule(old=st.integers(0, 4))
    def callers_know(self, old):
        """From now on they know the task as it is (1), as it was some changes ago, or nothing of it (0)."""
        self.old = old

    @rule(seconds=st.integers(-20, 60))
    def time_passes_or_jumps_back(self, seconds):
        self.clock.advance(seconds)

    @rule(id=ids)
    def claim(self, id):
        oracle = self.oracles[id]
        if oracle.status in TERMINAL:
            expected = TaskFinished
        elif oracle.status == "processing" and oracle.lease_until > self.clock.now:
            expected = AlreadyClaimed
        else:
            expected = None
            if not oracle.held or oracle.crash():
                oracle.begin(self.clock.now)
        self.expect(
            expected,
            lambda: self.store.claim(
                id, worker=f"w{next(self.workers)}", lease=timedelta(seconds=LEASE), deliveries=[NewDelivery("sink")]
            ),
        )

    @rule(id=ids, attempt=st.integers(0, 3))
    def renew(self, id, attempt):
        oracle = self.oracles[id]
        if holds := oracle.holds(attempt):
            oracle.lease_until = self.clock.now + timedelta(seconds=LEASE)
        self.change(id, Renew(attempt, timedelta(seconds=LEASE)), None if holds else LeaseLost)

    @rule(id=ids, attempt=st.integers(0, 3), percentage=st.floats(0, 100), chunks=st.integers(0, 2))
    def report(self, id, attempt, percentage, chunks):
        oracle = self.oracles[id]
        if holds := oracle.holds(attempt):
            for _ in range(chunks):
                oracle.tell("output", owed=False)
            oracle.tell("progress", owed=False)
            oracle.shown = max(oracle.shown, percentage)
        entries = tuple(Entry(EventType.OUTPUT, self.clock.now, {"chunks": [str(n)]}) for n in range(chunks))
        progress = Progress(self.clock.now, attempt, percentage)
        self.change(id, Report(attempt, entries, progress), None if holds else LeaseLost)

    @rule(id=ids, attempt=st.integers(0, 3), key=st.sampled_from("ab"), value=st.integers(0, 9))
    def checkpoint(self, id, attempt, key, value):
        oracle = self.oracles[id]
        made = Checkpoint(key, {"n": value}, str(value).encode())
        if holds := oracle.holds(attempt):
            oracle.checkpoints[key] = made
            oracle.crashes = 0
        self.expect(
            None if holds else LeaseLost,
            lambda: self.store.save_checkpoint(
                id, attempt=attempt, checkpoint=made, progress=None, known=self.known(id)
            ),
        )

    @rule(id=ids, attempt=st.integers(0, 3), seconds=st.integers(0, 60))
    def fail_and_try_again(self, id, attempt, seconds):
        oracle = self.oracles[id]
        if holds := oracle.holds(attempt):
            if oracle.asked_to_stop:
                oracle.end("cancelled")
            else:
                oracle.let_go("retrying", self.clock.now + timedelta(seconds=seconds))
        self.change(id, Retry(attempt, "no", timedelta(seconds=seconds), 9), None if holds else LeaseLost)

    @rule(id=ids, attempt=st.integers(0, 3))
    def give_back(self, id, attempt):
        oracle = self.oracles[id]
        if holds := oracle.holds(attempt):
            oracle.let_go("released", self.clock.now)
        self.change(id, Release(attempt), None if holds else LeaseLost)

    @rule(id=ids, attempt=st.integers(0, 3), known=st.booleans())
    def die(self, id, attempt, known):
        oracle = self.oracles[id]
        holds = oracle.holds(attempt)
        if known:
            if holds:
                oracle.lease_until = self.clock.now
            self.change(id, Expire(attempt), None if holds else LeaseLost)
        elif holds:
            self.store.expire_leases(self.store.get(id).worker)
            oracle.lease_until = min(oracle.lease_until, self.clock.now)

    @rule(id=ids, attempt=st.integers(0, 3), how=st.sampled_from(["completed", "failed", "cancelled"]))
    def end(self, id, attempt, how):
        oracle, body = self.oracles[id], b"result"
        change = {
            "completed": Complete(attempt, Result(body), drop_checkpoints=True),
            "failed": Fail(attempt, "no"),
            "cancelled": Cancel(attempt),
        }[how]
        if holds := oracle.holds(attempt):
            oracle.end(how, body if how == "completed" else None)
            if how == "completed":
                oracle.shown, oracle.checkpoints = 100.0, {}
        self.change(id, change, None if holds else LeaseLost)

    @rule(id=ids)
    def request_cancel(self, id):
        oracle = self.oracles[id]
        if oracle.status in TERMINAL:
            pass
        elif not oracle.held or oracle.lease_until <= self.clock.now:
            oracle.end("cancelled")
        elif not oracle.asked_to_stop:
            oracle.asked_to_stop = True
            oracle.tell("cancel_requested")
        self.change(id, RequestCancel(), None)

    @rule(id=ids)
    def retry(self, id):
        oracle = self.oracles[id]
        if allowed := oracle.status in ("failed", "cancelled"):
            oracle.status, oracle.asked_to_stop, oracle.seen, oracle.result = "started", False, False, None
            oracle.crashes = 0
            oracle.tell("reopened")
        self.change(id, Reopen(), None if allowed else TransitionRefused)

    @rule(id=ids)
    def see(self, id):
        oracle = self.oracles[id]
        if ended := oracle.status in TERMINAL:
            oracle.seen = True
        self.change(id, MarkSeen("poll"), None if ended else TransitionRefused)

    @precondition(lambda self: any(o.status in TERMINAL for o in self.oracles.values()))
    @rule(target=ids, id=consumes(ids))
    def delete(self, id):
        if self.oracles[id].status not in TERMINAL:
            self.expect(TransitionRefused, lambda: self.store.delete(id))
            return id
        self.store.delete(id)
        del self.oracles[id]
        with pytest.raises(TaskNotFound):
            self.store.get(id)
        return multiple()

    def change(self, id, change, expected):
        told = {"deliveries": [NewDelivery("sink")], "known": self.known(id)}
        self.expect(expected, lambda: self.store.transition(id, change, **told))

    def known(self, id):
        return self.seen[id][-self.old :][0] if self.old else None

    def expect(self, expected, call):
        if expected is None:
            call()
            return
        with pytest.raises(expected) as refused:
            call()
        assert type(refused.value) is expected

    @invariant()
    def the_store_says_what_the_oracle_says(self):
        for id, oracle in self.oracles.items():
            task, events = self.store.get(id), self.store.events(id)
            if self.seen.setdefault(id, [])[-1:] != [task]:
                self.seen[id].append(task)
            assert task.status.value == oracle.status
            assert task.attempt == oracle.attempt
            assert [e.type.value for e in events] == oracle.history
            assert [e.seq for e in events] == list(range(1, task.seq + 1))
            assert (task.seen_at is not None) == oracle.seen
            assert (task.progress.percentage if task.progress else 0.0) == oracle.shown
            result = self.store.load_result(id)
            assert (result.body if result else None) == oracle.result
            assert (task.expire_at is not None) == (oracle.status in TERMINAL)
            assert self.store.load_checkpoints(id) == oracle.checkpoints
            assert task.held == oracle.held
        runnable = {
            id
            for id, oracle in self.oracles.items()
            if oracle.status == "started" or (oracle.status == "processing" and oracle.lease_until <= self.clock.now)
        }
        assert {task.request_id for task in self.store.runnable(limit=1000)} == runnable
        assert self.store.stats().deliveries_pending == sum(len(o.owed) for o in self.oracles.values())


@pytest.fixture(params=["memory", "sqlite", pytest.param("firestore", marks=pytest.mark.slow)])
def machine(request, tmp_path):
    if request.param == "firestore":
        pytest.importorskip("google.cloud.firestore")
        project = request.getfixturevalue("firestore_project")
        numbers = itertools.count()

    def make_store(clock):
        if request.param == "firestore":
            return firestore_store(f"{project}-{next(numbers)}", clock)
        if request.param == "memory":
            return MemoryStore(clock=clock)
        return SqlStore(f"sqlite:///{tmp_path / uuid.uuid4().hex}.sqlite3", clock=clock, synchronous="NORMAL")

    return type("Machine", (StoreMachine,), {"make_store": staticmethod(make_store)})


LIMITS = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_any_sequence_of_changes_leaves_what_the_promises_say(machine, request):
    fewer = settings(LIMITS, max_examples=6) if "firestore" in request.node.name else LIMITS  # each step is many calls
    run_state_machine_as_test(machine, settings=fewer)


@pytest.mark.soak
def test_any_long_sequence_of_changes_leaves_what_the_promises_say(machine, request):
    """The long form, for `make soak`."""
    examples = 40 if "firestore" in request.node.name else 1500
    run_state_machine_as_test(machine, settings=settings(LIMITS, max_examples=examples, stateful_step_count=80))


class Careless(MemoryStore):
    """A store with a planted fault: it does not look who holds the task."""

    def transition(self, request_id, change, **kwargs):
        if hasattr(change, "attempt"):
            object.__setattr__(change, "attempt", self.get(request_id).attempt)
        return super().transition(request_id, change, **kwargs)


class Forgetful(MemoryStore):
    """A store with a planted fault: it records no deliveries."""

    def transition(self, request_id, change, **kwargs):
        return super().transition(request_id, change)


@pytest.mark.parametrize("faulty", [Careless, Forgetful])
def test_the_machine_finds_a_planted_fault(faulty):
    broken = type("Broken", (StoreMachine,), {"make_store": staticmethod(lambda clock: faulty(clock=clock))})

    with pytest.raises(BaseException) as found:
        run_state_machine_as_test(broken, settings=settings(LIMITS, database=None, print_blob=False))
    assert not isinstance(found.value, KeyboardInterrupt)
