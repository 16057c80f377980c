"""Every store is opened again after it was closed, and is used by many threads."""

from flask_bgtasks.core.model import Result
from flask_bgtasks.core.transitions.attempt import Complete
from flask_bgtasks.stores.types import TaskQuery
from tests.support.threads import together


def test_a_closed_store_opens_again(bench, store):
    task = bench.create()
    store.close()
    store.check()

    assert store.get(task.request_id) == task


def test_threads_write_side_by_side_and_nothing_is_lost(bench, store):
    def work(n):
        for _ in range(10):
            task = bench.create(owner=str(n))
            bench.claim(task.request_id)
            store.save_progress(task.request_id, attempt=1, progress=None, entries=[bench.output("x")])
            store.transition(task.request_id, Complete(1, Result(str(n).encode())))

    assert together(8, work) == [None] * 8
    assert store.stats().by_status == {"completed": 80}
    for task in store.find(TaskQuery(limit=100)).tasks:
        assert [seq for seq, _ in bench.history(task.request_id)] == [1, 2, 3, 4]
        assert store.load_result(task.request_id).body == task.owner.encode()
