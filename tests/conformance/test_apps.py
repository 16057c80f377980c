"""Two apps on one store: each sees, counts, runs, delivers and notifies its own only."""

from datetime import timedelta

import pytest

from flask_bgtasks.core.devices import FCM_TOKEN, FID, PROOF, make_device
from flask_bgtasks.core.model import Checkpoint, Progress, Result, Status
from flask_bgtasks.core.transitions.attempt import Complete, Fail
from flask_bgtasks.core.transitions.outside import MarkSeen, RequestCancel
from flask_bgtasks.errors import AtCapacity, OwnerQueueFull, QueueFull, TaskNotFound
from flask_bgtasks.stores.types import Limits, NewDelivery, Settlement, TaskQuery
from tests.support.stored_input import stored_input

LEASE = timedelta(seconds=60)
MINUTE = timedelta(minutes=1)


# In memory each app has a store of its own.
pytestmark = pytest.mark.parametrize("bench", ["sqlite", "postgresql", "firestore"], indirect=True)

ASKED = (
    lambda store, i: store.get(i),
    lambda store, i: store.claim(i, worker="w", lease=LEASE),
    lambda store, i: store.transition(i, RequestCancel()),
    lambda store, i: store.renew(i, attempt=1, lease=LEASE),
    lambda store, i: store.save_progress(i, attempt=1, progress=None),
    stored_input,
    lambda store, i: store.load_result(i),
    lambda store, i: store.events(i),
    lambda store, i: store.events(i, after=100),
    lambda store, i: store.delete(i),
)
"""Everything that is asked of one task."""


@pytest.fixture
def shop(bench):
    return bench


@pytest.fixture
def blog(bench):
    return bench.other_app("blog")


def ids(tasks):
    return [task.request_id for task in tasks]


@pytest.mark.parametrize("done", [False, True], ids=["running", "done"])
def test_another_apps_task_is_one_that_does_not_exist(shop, blog, done):
    task = shop.running(input={"text": "secret"})
    if done:
        shop.store.transition(task.request_id, Complete(1, Result(b"{}")))

    for ask in ASKED:
        with pytest.raises(TaskNotFound):
            ask(blog.store, task.request_id)

    assert shop.store.get(task.request_id).status is (Status.COMPLETED if done else Status.PROCESSING)


def test_another_apps_checkpoints_are_not_there(shop, blog):
    task = shop.running()
    progress = Progress(shop.store.now(), 1)
    shop.store.save_checkpoint(task.request_id, attempt=1, checkpoint=Checkpoint("k", {}, b"1"), progress=progress)

    assert blog.store.load_checkpoints(task.request_id) == {}
    assert list(shop.store.load_checkpoints(task.request_id)) == ["k"]


def test_nobody_finds_another_apps_tasks(shop, blog):
    mine = shop.create(owner="7", idempotency_scope="7:/process:key", fingerprint="f")
    theirs = blog.create(owner="7", idempotency_scope="7:/process:key", fingerprint="g")

    for query in (
        TaskQuery(),
        TaskQuery(owner="7"),
        TaskQuery(ids=[mine.request_id, theirs.request_id]),
        TaskQuery(statuses=[Status.STARTED]),
        TaskQuery(name="process"),
        TaskQuery(idempotency_scope="7:/process:key"),
        TaskQuery(seen=False),
    ):
        assert ids(shop.store.find(query).tasks) == [mine.request_id]
        assert ids(blog.store.find(query).tasks) == [theirs.request_id]


def test_pages_hold_no_gaps_where_another_apps_tasks_stand(shop, blog):
    mine = []
    for _ in range(5):
        mine.append(shop.create(owner="7").request_id)
        blog.create(owner="7")

    first = shop.store.find(TaskQuery(owner="7", limit=3))
    rest = shop.store.find(TaskQuery(owner="7", limit=3, cursor=first.cursor))

    assert len(first.tasks) == 3
    assert sorted(ids(first.tasks) + ids(rest.tasks)) == sorted(mine)


def test_the_same_idempotency_key_in_two_apps_is_two_tasks(shop, blog):
    first = shop.store.create(shop.new(idempotency_scope="k", fingerprint="f"), input={})
    second = blog.store.create(blog.new(idempotency_scope="k", fingerprint="other"), input={})
    again = shop.store.create(shop.new(idempotency_scope="k", fingerprint="f"), input={})

    assert not second.replayed
    assert again.replayed
    assert again.task.request_id == first.task.request_id != second.task.request_id


@pytest.mark.parametrize("names", [None, ["process"]], ids=["any", "by name"])
def test_each_is_given_its_own_tasks_to_run(shop, blog, names):
    waiting, of_blog = shop.create(), blog.create()
    begun = shop.running()
    shop.expire_lease(begun.request_id)

    assert ids(shop.store.runnable(limit=9, names=names)) == [begun.request_id, waiting.request_id]
    assert ids(blog.store.runnable(limit=9, names=names)) == [of_blog.request_id]


def test_a_thousand_of_anothers_tasks_do_not_hold_up_ones_own(shop, blog):
    for _ in range(30):
        blog.create()
    mine = shop.create()

    assert ids(shop.store.runnable(limit=1)) == [mine.request_id]


def test_a_dead_process_is_found_by_its_own_app_only(shop, blog):
    task = shop.running(deliveries=[NewDelivery("phone")])
    shop.store.due_deliveries("phone", worker="courier", lease=LEASE)

    assert blog.store.workers() == []
    assert blog.store.expire_leases("worker") == 0
    assert blog.store.expire_leases("courier") == 0
    assert shop.store.workers() == ["courier", "worker"]
    assert shop.store.expire_leases("worker") == 1
    assert ids(shop.store.runnable(limit=9)) == [task.request_id]


def test_the_running_tasks_of_a_name_are_counted_for_each_app(shop, blog):
    blog.running()
    blog.running()
    first, second = shop.create(), shop.create()

    shop.store.claim(first.request_id, worker="w", lease=LEASE, most_running={"process": 1})
    with pytest.raises(AtCapacity):
        shop.store.claim(second.request_id, worker="w", lease=LEASE, most_running={"process": 1})

    assert shop.store.runnable(limit=9, most_running={"process": 2}) == [second]
    assert shop.store.runnable(limit=9, most_running={"process": 1}) == []


def test_the_limits_of_the_queue_are_each_apps_own(shop, blog):
    limits = Limits(max_queued=2, max_queued_per_owner=1)
    blog.create(owner="7")
    blog.create(owner="7")
    shop.create(owner="7", limits=limits)

    with pytest.raises(OwnerQueueFull):
        shop.create(owner="7", limits=limits)
    shop.create(owner="8", limits=limits)
    with pytest.raises(QueueFull):
        shop.create(owner="9", limits=limits)


def test_deliveries_are_made_by_the_app_that_owes_them(shop, blog):
    task = shop.create(deliveries=[NewDelivery("phone")])
    shop.store.add_delivery(NewDelivery("phone", kind="message"))

    assert blog.store.due_deliveries("phone", worker="w", lease=LEASE) == []
    due = shop.store.due_deliveries("phone", worker="w", lease=LEASE)
    assert {one.request_id for one in due} == {task.request_id, None}
    for one in due:
        shop.store.settle_delivery(one, Settlement(dead=True, error="gone"))
    assert blog.store.dead_deliveries() == []
    assert blog.store.replay_deliveries([one.id for one in due]) == 0
    assert len(shop.store.dead_deliveries(sink="phone")) == 2
    assert shop.store.replay_deliveries([one.id for one in due]) == 2


def test_what_follows_a_delivery_and_an_erased_task_is_owed_by_the_same_app(shop, blog):
    task = shop.running(deliveries=[NewDelivery("phone")])
    (due,) = shop.store.due_deliveries("phone", worker="w", lease=LEASE)
    shop.store.settle_delivery(due, Settlement(replaced_by=[NewDelivery("phone", kind="message")]))
    (message,) = shop.store.due_deliveries("phone", worker="w", lease=LEASE)
    assert (message.kind, message.request_id) == ("message", task.request_id)
    shop.store.transition(task.request_id, Complete(1))
    shop.store.delete(task.request_id, deliveries=[NewDelivery("mirror", kind="erased")])

    assert blog.store.due_deliveries("mirror", worker="w", lease=LEASE) == []
    assert len(shop.store.due_deliveries("mirror", worker="w", lease=LEASE)) == 1


def test_figures_are_of_ones_own_tasks(shop, blog):
    task = shop.running(deliveries=[NewDelivery("phone")])
    shop.store.transition(task.request_id, Fail(1, "no"))
    shop.store.transition(task.request_id, MarkSeen("poll"))
    blog.create()
    before = shop.store.now() - MINUTE

    assert shop.store.stats().by_status == {"failed": 1}
    assert shop.store.stats().oldest_waiting is None
    assert (shop.store.stats().deliveries_pending, shop.store.stats().seen) == (1, 1)
    assert blog.store.stats().by_status == {"started": 1}
    assert (blog.store.stats().deliveries_pending, blog.store.stats().seen) == (0, 0)
    assert shop.store.count_failed("process", since=before) == 1
    assert blog.store.count_failed("process", since=before) == 0
    assert shop.store.apps() == blog.store.apps() == {"blog": 1, "shop": 1}


def test_the_newest_numbers_are_told_of_ones_own_tasks(shop, blog):
    task, of_blog = shop.create(), blog.create()

    assert shop.store.versions(ids([task, of_blog])) == {task.request_id: 1}


def test_durations_are_learnt_by_each_app_for_itself(shop, blog):
    shop.store.save_durations("process", {"Write": 2.0})
    blog.store.save_durations("process", {"Write": 8.0, "Draw": 1.0})
    shop.store.save_durations("process", {"Write": 2.0})

    assert {name: step.seconds for name, step in shop.store.load_durations("process").items()} == {"Write": 2.0}
    assert {name: step.seconds for name, step in blog.store.load_durations("process").items()} == {
        "Write": 8.0,
        "Draw": 1.0,
    }


def test_owner_7_of_the_shop_is_not_owner_7_of_the_blog(shop, blog):
    shop.store.save_preferences("7", {"kinds": ["push"]})
    blog.store.save_preferences("7", {"kinds": []})
    phone = shop.store.save_device(make_device(FCM_TOKEN, "token", owner="7"), max_devices=1)

    assert shop.store.load_preferences("7") == {"kinds": ["push"]}
    assert blog.store.load_preferences("7") == {"kinds": []}
    assert blog.store.devices(owner="7") == []
    assert blog.store.find_device(phone.id) is None
    assert not blog.store.forget_device(phone.id)
    assert shop.store.devices(owner="7") == [phone]


def test_one_device_may_be_registered_with_two_apps(shop, blog):
    installation = "cXyZ0123456789abcdefGH"
    token = make_device(FCM_TOKEN, f"{installation}:APA91b", owner="7")
    of_shop = shop.store.save_device(token, max_devices=1)
    of_blog = blog.store.save_device(token, max_devices=1)
    fid = make_device(FID, installation, owner="8", details={PROOF: token.proof})
    fid = blog.store.save_device(fid, max_devices=1)

    assert shop.store.devices(owner="7") == [of_shop]
    assert blog.store.devices(owner="7") == []
    assert blog.store.devices(owner="8") == [fid]
    assert of_blog.id == of_shop.id


def test_the_devices_of_a_task_are_its_apps(shop, blog):
    task = shop.create()
    device = shop.store.save_device(make_device("live_activity", "t", request_id=task.request_id), max_devices=5)

    assert shop.store.devices(request_id=task.request_id) == [device]
    assert blog.store.devices(request_id=task.request_id) == []


def test_a_mark_that_one_app_took_is_free_for_the_other(shop, blog):
    assert shop.store.take_mark("alert:process", MINUTE)
    assert blog.store.take_mark("alert:process", MINUTE)
    assert not shop.store.take_mark("alert:process", MINUTE)
    shop.store.set_mark("alert:process", timedelta(0))

    assert shop.store.take_mark("alert:process", MINUTE)
    assert not blog.store.take_mark("alert:process", MINUTE)


def test_what_is_over_is_erased_whosever_it_was(shop, blog):
    task = shop.running(expires_after=MINUTE, idempotency_scope="k", fingerprint="f")
    shop.store.transition(task.request_id, Complete(1))
    shop.pass_time([task.request_id], 3 * MINUTE)
    old = shop.store.save_device(make_device(FCM_TOKEN, "token", owner="7"), max_devices=1)

    assert blog.store.purge() == 1
    with pytest.raises(TaskNotFound):
        shop.store.get(task.request_id)
    assert not shop.store.create(shop.new(idempotency_scope="k", fingerprint="g"), input={}).replayed
    if shop.clock is not None:
        shop.clock.advance(3600)
        assert blog.store.prune_devices(unseen_for=MINUTE) == 1
        assert shop.store.find_device(old.id) is None


def test_an_app_that_got_another_name_takes_over_what_it_had(shop, blog):
    task = blog.running(
        owner="7", idempotency_scope="k", fingerprint="f", input={"n": 1}, deliveries=[NewDelivery("phone")]
    )
    both = blog.create(idempotency_scope="both", fingerprint="theirs")
    mine = shop.create(idempotency_scope="both", fingerprint="mine")
    phone = blog.store.save_device(make_device(FCM_TOKEN, "token", owner="7"), max_devices=5)
    blog.store.save_preferences("7", {"kinds": ["theirs"]})
    blog.store.save_preferences("8", {"kinds": ["eight"]})
    shop.store.save_preferences("7", {"kinds": ["mine"]})
    blog.store.save_durations("process", {"Write": 8.0})
    progress = Progress(blog.store.now(), 1)
    blog.store.save_checkpoint(task.request_id, attempt=1, checkpoint=Checkpoint("k", {}, b"1"), progress=progress)

    assert shop.store.adopt("blog") == 2

    assert shop.store.get(task.request_id).app == "shop"
    assert stored_input(shop.store, task.request_id) == {"n": 1}
    assert shop.history(task.request_id)[:2] == [(1, "accepted"), (2, "started")]
    assert list(shop.store.load_checkpoints(task.request_id)) == ["k"]
    assert shop.store.create(shop.new(idempotency_scope="k", fingerprint="f"), input={}).replayed
    again = shop.store.create(shop.new(idempotency_scope="both", fingerprint="mine"), input={})
    assert again.task.request_id == mine.request_id
    assert both.request_id in ids(shop.store.find(TaskQuery()).tasks)
    assert len(shop.store.due_deliveries("phone", worker="w", lease=LEASE)) == 1
    assert shop.store.devices(owner="7") == [phone]
    assert shop.store.load_preferences("7") == {"kinds": ["mine"]}
    assert shop.store.load_preferences("8") == {"kinds": ["eight"]}
    assert shop.store.load_durations("process")["Write"].seconds == 8.0
    assert shop.store.apps() == {"shop": 3}
    assert blog.store.find(TaskQuery()).tasks == []
    shop.store.transition(task.request_id, Complete(1))


def test_an_id_may_hold_any_printable_text(shop):
    for app_id in ("wiki 'o''clock' \"100%\"", "café – ñ", "a" * 100, "%(name)s :app ?", "a/b\\c"):
        odd = shop.other_app(app_id)
        task = odd.create(owner="7", idempotency_scope="k", fingerprint="f")

        assert odd.store.get(task.request_id).app == app_id
        assert ids(odd.store.runnable(limit=9)) == [task.request_id]
        assert odd.store.apps()[app_id] == 1
        assert shop.store.adopt(app_id) == 1


def test_a_change_of_another_app_is_no_news_for_ones_own_listeners(shop, blog):
    told = []
    shop.store.on_commit(lambda task, events: told.append(task.request_id))
    of_blog = blog.running(expires_after=MINUTE)
    blog.store.transition(of_blog.request_id, Complete(1))
    task = shop.create()

    assert told == [task.request_id]
