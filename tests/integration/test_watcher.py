"""One watcher for everyone who follows a task in this process."""

import threading
from datetime import timedelta

import pytest

from flask_bgtasks import TaskNotFound
from flask_bgtasks.app.watcher import Watcher
from flask_bgtasks.core.model import Entry, EventType
from flask_bgtasks.core.transitions.attempt import Claim, Complete, Report
from flask_bgtasks.stores.memory.store import MemoryStore
from tests.support.tasks import T0, new_task
from tests.support.waiting import PATIENCE

LEASE = timedelta(seconds=60)


class CountingStore(MemoryStore):
    """Counts the queries that a follower could cause."""

    def __init__(self):
        super().__init__()
        self.reads = 0

    def get(self, request_id):
        self.reads += 1
        return super().get(request_id)

    def events(self, request_id, **kwargs):
        self.reads += 1
        return super().events(request_id, **kwargs)

    def versions(self, request_ids):
        self.reads += 1
        return super().versions(request_ids)


class ForeignStore(CountingStore):
    """What another process changes in a shared store: no listener hears of it."""

    def _committed(self, outcome):
        pass


class TokenlessStore(ForeignStore):
    def change_token(self):
        return None


def created(store):
    return store.create(new_task(), input={}).task.request_id


def emit(store, request_id, text):
    store.transition(request_id, Report(1, (Entry(EventType.OUTPUT, T0, {"chunks": [text]}),)))


def until(following, condition, timeout=PATIENCE):
    while not condition():
        assert following.wait(timeout), "no change in time"


@pytest.mark.parametrize("store_class", [CountingStore, ForeignStore, TokenlessStore])
def test_a_follower_sees_every_event_once_and_in_order(store_class):
    store = store_class()
    request_id = created(store)
    seen = []
    with Watcher(store).follow([request_id]) as following:
        store.transition(request_id, Claim("w", LEASE))
        for n in range(20):
            emit(store, request_id, str(n))
        store.transition(request_id, Complete(1))

        def all_there():
            seen.extend(following.events(request_id, seen[-1].seq if seen else 0))
            return seen and seen[-1].type is EventType.COMPLETED

        until(following, all_there)

    assert [event.seq for event in seen] == list(range(1, 24))
    assert following.request_ids == (request_id,)


def test_many_followers_cost_no_query_each_for_what_happens_here():
    store = CountingStore()
    request_id = created(store)
    watcher = Watcher(store)
    followers = [watcher.follow([request_id]) for _ in range(50)]
    store.transition(request_id, Claim("w", LEASE))
    before = store.reads
    for n in range(10):
        emit(store, request_id, str(n))
    writes = store.reads - before  # a transition of this store reads its task

    for following in followers:
        until(following, lambda following=following: following.task(request_id).seq == 12)
        assert len(following.events(request_id, 2)) == 10
    assert store.reads - before - writes <= 10  # the shared look of the watcher's thread, not one per follower
    for following in followers:
        following.close()


def test_a_wait_without_a_change_times_out():
    store = CountingStore()
    with Watcher(store).follow([created(store)]) as following:
        following.wait(0.01)  # what joining may have woken

        assert following.wait(0.01) is False


def test_following_what_is_not_there_is_refused_and_leaves_nothing_behind():
    store = CountingStore()
    watcher, known = Watcher(store), created(store)

    with pytest.raises(TaskNotFound):
        watcher.follow([known, "missing"])
    assert watcher._topics == {}


def test_a_deleted_task_wakes_its_followers():
    store = ForeignStore()
    request_id = created(store)
    store.transition(request_id, Claim("w", LEASE))
    store.transition(request_id, Complete(1))
    with Watcher(store).follow([request_id]) as following:
        store.delete(request_id)

        with pytest.raises(TaskNotFound):
            until(following, lambda: following.task(request_id) is None)


def test_what_happens_while_someone_joins_is_not_missed():
    for _ in range(50):
        store = CountingStore()
        request_id = created(store)
        thread = threading.Thread(target=store.transition, args=(request_id, Claim("w", LEASE)))
        thread.start()
        with Watcher(store).follow([request_id]) as following:
            until(following, lambda f=following, i=request_id: f.task(i).seq == 2)
        thread.join()


def test_older_events_than_memory_holds_come_from_the_store():
    store = CountingStore()
    request_id = created(store)
    store.transition(request_id, Claim("w", LEASE))
    with Watcher(store).follow([request_id]) as following:
        for n in range(600):
            emit(store, request_id, str(n))

        found = [0]
        while events := following.events(request_id, found[-1]):
            found += [event.seq for event in events]

        assert found == list(range(603))


def test_a_history_is_read_once_for_all_who_follow_from_its_beginning(monkeypatch):
    store = MemoryStore()
    request_id = created(store)
    store.transition(request_id, Claim("w", LEASE))
    for number in range(5):
        emit(store, request_id, str(number))
    watcher = Watcher(store)
    with watcher.follow([request_id]) as first, watcher.follow([request_id]) as second:
        whole = first.events(request_id, 0)
        monkeypatch.setattr(store, "events", None)

        assert second.events(request_id, 0) == whole
        assert second.events(request_id, 3) == whole[3:]
        emit(store, request_id, "last")
        assert [event.seq for event in second.events(request_id, 0)] == list(range(1, len(whole) + 2))
    watcher.close()
