"""A Firestore database from before tasks belonged to an app: the first app that uses it adopts what is there."""

from datetime import timedelta

import pytest

from flask_bgtasks import TaskNotFound
from flask_bgtasks.core.devices import FCM_TOKEN, make_device
from flask_bgtasks.core.model import Checkpoint, Progress
from flask_bgtasks.stores.firestore import apps as apps_module
from flask_bgtasks.stores.types import NewDelivery, TaskQuery
from tests.support.stored_input import stored_input
from tests.support.stores import Bench, FakeClock, firestore_store

LEASE = timedelta(seconds=60)

pytest.importorskip("google.cloud.firestore")


@pytest.fixture
def open_bench(firestore_project):
    clock, opened = FakeClock(), []

    def make(app_id):
        opened.append(firestore_store(firestore_project, clock, app_id))
        return Bench(opened[-1], clock, None, make)

    yield make
    for store in opened:
        store.close()


def without_apps(client):
    """Make documents what they were before they had an app."""
    from google.cloud import firestore

    for collection in client.collections():
        if collection.id == "bgtasks_apps":
            for snapshot in collection.stream():
                snapshot.reference.delete()
            continue
        name = "app_id" if collection.id == "bgtasks_devices" else "app"
        for snapshot in collection.stream():
            if name in snapshot.to_dict():
                snapshot.reference.update({name: firestore.DELETE_FIELD})
            for below in snapshot.reference.collections():
                for one in below.stream():
                    one.reference.update({"app": firestore.DELETE_FIELD})


def test_what_has_no_app_yet_is_adopted_by_the_first_app_that_opens_the_database(open_bench, monkeypatch):
    monkeypatch.setattr(apps_module, "MAX_WRITES", 2)  # several pages
    before = open_bench("")
    task = before.running(
        owner="7", idempotency_scope="k", fingerprint="f", input={"n": 1}, deliveries=[NewDelivery("phone")]
    )
    others = [before.create().request_id for _ in range(4)]
    progress = Progress(before.store.now(), 1)
    before.store.save_checkpoint(task.request_id, attempt=1, checkpoint=Checkpoint("k", {}, b"1"), progress=progress)
    phone = before.store.save_device(make_device(FCM_TOKEN, "token", owner="7"), max_devices=5)
    before.store.save_preferences("7", {"kinds": ["push"]})
    without_apps(before.store._firestore.client)

    shop, blog = open_bench("shop"), open_bench("blog")

    assert shop.store.get(task.request_id).app == "shop"
    assert stored_input(shop.store, task.request_id) == {"n": 1}
    assert shop.history(task.request_id)[:2] == [(1, "accepted"), (2, "started")]
    assert list(shop.store.load_checkpoints(task.request_id)) == ["k"]
    assert {one.request_id for one in shop.store.find(TaskQuery()).tasks} == {task.request_id, *others}
    assert shop.store.create(shop.new(idempotency_scope="k", fingerprint="f"), input={}).replayed
    assert len(shop.store.due_deliveries("phone", worker="w", lease=LEASE)) == 1
    assert shop.store.devices(owner="7") == [phone]
    assert shop.store.load_preferences("7") == {"kinds": ["push"]}
    assert shop.store.apps() == {"shop": 5}
    with pytest.raises(TaskNotFound):
        stored_input(blog.store, task.request_id)
    assert blog.store.find(TaskQuery()).tasks == []
    assert blog.store.apps() == {"blog": 0, "shop": 5}
