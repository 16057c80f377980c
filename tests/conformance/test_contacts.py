"""Devices, preferences and marks: what every store promises about whom to tell."""

import threading
from datetime import timedelta

import pytest

from flask_bgtasks.core.devices import FCM_TOKEN, FID, LIVE_ACTIVITY, PROOF, WEBPUSH, make_device, proof_of
from flask_bgtasks.core.model import Result
from flask_bgtasks.core.transitions.attempt import Complete, Fail
from flask_bgtasks.core.transitions.outside import MarkSeen, Reopen
from flask_bgtasks.stores.types import NewDelivery, Settlement
from tests.support.waiting import until

INSTALLATION = "cXyZ0123456789abcdefGH"
TOKEN = f"{INSTALLATION}:APA91b-secret"
MINUTE = timedelta(minutes=1)


def save(store, value, *, owner="anna", kind=FCM_TOKEN, max_devices=20, replaces=None, **fields):
    return store.save_device(
        make_device(kind, value, owner=owner, **fields), max_devices=max_devices, replaces=replaces
    )


def values(found):
    return [device.value for device in found]


# -- devices -----------------------------------------------------------------------------------------------------------


def test_a_device_comes_back_as_it_was_saved(store):
    keys = {"keys": {"p256dh": "B" * 87, "auth": "a" * 22}}
    saved = save(
        store, "https://push.example/1", kind=WEBPUSH, platform="web", app="studio", lang="pt-BR", details=keys
    )

    (found,) = store.devices(owner="anna")

    assert found == saved == store.find_device(saved.id)
    assert (found.platform, found.app, found.lang, found.details) == ("web", "studio", "pt-BR", keys)
    assert found.created_at == found.seen_at is not None


def test_an_address_is_kept_once_and_belongs_to_who_registered_it_last(store):
    first = save(store, "one", owner="anna")
    again = save(store, "one", owner="bert", lang="de")

    assert store.devices(owner="anna") == []
    (found,) = store.devices(owner="bert")
    assert found.id == first.id == again.id
    assert found.lang == "de"
    assert found.created_at == first.created_at


def test_the_last_seen_device_comes_first(bench, store):
    if bench.clock is None:
        pytest.skip("needs a clock that the test moves")
    for value in ("one", "two", "three", "one"):
        bench.clock.advance(1)
        save(store, value)

    assert values(store.devices(owner="anna")) == ["one", "three", "two"]


def test_beyond_its_limit_an_owner_loses_what_was_unseen_for_longest(bench, store):
    if bench.clock is None:
        pytest.skip("needs a clock that the test moves")
    save(store, "someone else's", owner="bert")
    for number in range(5):
        bench.clock.advance(1)
        save(store, f"device-{number}", max_devices=3)

    assert values(store.devices(owner="anna")) == ["device-4", "device-3", "device-2"]
    assert values(store.devices(owner="bert")) == ["someone else's"]


def save_fid(store, *, token=None, **fields):
    return save(store, INSTALLATION, kind=FID, details={} if token is None else {PROOF: proof_of(token)}, **fields)


@pytest.mark.parametrize("owner", ["anna", "bert"])
def test_a_fid_with_the_token_of_its_installation_replaces_that_whoever_had_it(store, owner):
    save(store, TOKEN, owner=owner)
    save(store, "another", owner=owner)

    save_fid(store, token=TOKEN, owner="anna")

    left = [*values(store.devices(owner="anna")), *values(store.devices(owner="bert"))]
    assert sorted(left) == sorted([INSTALLATION, "another"])


def test_a_fid_replaces_the_token_that_its_owner_had_before(store):
    save(store, f"{INSTALLATION}:APA91b-old")

    save_fid(store)

    assert values(store.devices(owner="anna")) == [INSTALLATION]


REGISTERED = {
    "a FID": lambda store: save_fid(store),
    "a FID with its token": lambda store: save_fid(store, token=TOKEN),
    "a token": lambda store: save(store, TOKEN),
}
FROM_KNOWING_THE_FID = {
    "the FID": lambda store: save_fid(store, owner="bert"),
    "a made-up token": lambda store: save(store, f"{INSTALLATION}:xyz", owner="bert"),
    "the FID with a made-up token": lambda store: save_fid(store, owner="bert", token=f"{INSTALLATION}:xyz"),
    "the FID as a token": lambda store: save(store, INSTALLATION, owner="bert"),
    "the FID and a colon": lambda store: save(store, f"{INSTALLATION}:", owner="bert"),
}


@pytest.mark.parametrize("guess", FROM_KNOWING_THE_FID)
@pytest.mark.parametrize("registered", REGISTERED)
def test_who_knows_somebodys_fid_does_not_disconnect_them(store, registered, guess):
    annas = REGISTERED[registered](store)

    berts = FROM_KNOWING_THE_FID[guess](store)

    assert store.devices(owner="anna") == [annas]
    assert store.devices(owner="bert") == [berts]
    assert store.forget_device(berts.id)
    assert store.find_device(annas.id) == annas


WITH_ITS_TOKEN = {
    "the FID with its token": lambda store: save_fid(store, owner="bert", token=TOKEN),
    "the token": lambda store: save(store, TOKEN, owner="bert"),
}


@pytest.mark.parametrize("shown", WITH_ITS_TOKEN)
@pytest.mark.parametrize("registered", ["a FID with its token", "a token"])
def test_who_has_the_token_of_an_installation_takes_it_over(store, registered, shown):
    REGISTERED[registered](store)

    berts = WITH_ITS_TOKEN[shown](store)

    assert store.devices(owner="anna") == []
    assert store.devices(owner="bert") == [berts]


@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_fid_that_its_owner_registers_again_is_the_same_device(store, token):
    first, strangers = save_fid(store, token=token), save_fid(store, owner="bert")

    again = save_fid(store, token=token, lang="de")

    assert (again.id, again.created_at) == (first.id, first.created_at)
    assert [device.lang for device in store.devices(owner="anna")] == ["de"]
    assert store.devices(owner="bert") == [strangers]


def test_fids_that_others_know_count_for_each_owner_on_their_own(bench, store):
    if bench.clock is None:
        pytest.skip("needs a clock that the test moves")
    save_fid(store, token=TOKEN, max_devices=1)
    for number in range(3):
        bench.clock.advance(1)
        save(store, f"tablet-{number}", owner="bert", max_devices=2)
    bench.clock.advance(1)
    save_fid(store, owner="bert", max_devices=2)

    assert values(store.devices(owner="anna")) == [INSTALLATION]
    assert values(store.devices(owner="bert")) == [INSTALLATION, "tablet-2"]


def test_a_new_token_replaces_the_old_one_that_it_names_and_nobody_elses(store):
    mine, other = save(store, "old"), save(store, "someone else's", owner="bert")

    save(store, "new", replaces=mine.id)
    save(store, "newer", replaces=other.id)

    assert set(values(store.devices(owner="anna"))) == {"new", "newer"}
    assert values(store.devices(owner="bert")) == ["someone else's"]


def together(*calls):
    """Make these calls at the same moment."""
    start = threading.Barrier(len(calls))

    def run(call):
        start.wait(10)
        call()

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_an_installation_that_registers_twice_at_once_is_kept_once(store, known):
    for number in range(8):
        installation = f"{number}{INSTALLATION[1:]}"
        token = f"{installation}:APA91b"
        if known:
            save(store, f"{installation}:APA91b-old", owner="anna")

        together(
            lambda token=token: save(store, token, owner="anna"),
            lambda name=installation, token=token: save(
                store, name, kind=FID, owner="bert", details={PROOF: proof_of(token)}
            ),
        )

        left = [*store.devices(owner="anna"), *store.devices(owner="bert")]
        assert len([device for device in left if device.installation == installation]) == 1


def test_what_somebody_has_just_taken_over_is_not_forgotten_with_its_old_owners(store):
    for number in range(8):
        save(store, f"phone-{number}", owner="anna")

        together(
            lambda: save(store, "tablet", owner="anna", max_devices=1),  # leaves no room for the phone
            lambda name=f"phone-{number}": save(store, name, owner="bert"),
        )

        assert values(store.devices(owner="anna")) == ["tablet"]
        assert f"phone-{number}" in values(store.devices(owner="bert"))


@pytest.mark.parametrize("one", ["token-of-nobody", f"{INSTALLATION}:APA91b"])
def test_an_address_that_two_register_at_once_is_one_of_theirs(store, one):
    together(*[lambda owner=owner: save(store, one, owner=owner) for owner in ("anna", "bert", "cleo", "dora")])

    found = [device.owner for owner in ("anna", "bert", "cleo", "dora") for device in store.devices(owner=owner)]
    assert len(found) == 1


def test_a_device_is_forgotten_by_one(store):
    device, forgotten = save(store, "one"), []

    together(*[lambda: forgotten.append(store.forget_device(device.id)) for _ in range(6)])

    assert sorted(forgotten) == [False] * 5 + [True]


def test_a_device_is_forgotten_once(store):
    device = save(store, "one")

    assert store.forget_device(device.id) is True
    assert store.forget_device(device.id) is False
    assert store.find_device(device.id) is None


def test_devices_that_nobody_has_seen_for_long_are_pruned(bench, store):
    if bench.clock is None:
        pytest.skip("needs a clock that the test moves")
    for number in range(3):
        save(store, f"old-{number}")
    bench.clock.now += timedelta(days=200)
    save(store, "young")
    bench.clock.now += timedelta(days=71)

    assert store.prune_devices(unseen_for=timedelta(days=270), limit=2) == 2
    assert store.prune_devices(unseen_for=timedelta(days=270)) == 1
    assert store.prune_devices(unseen_for=timedelta(days=270)) == 0
    assert values(store.devices(owner="anna")) == ["young"]


def activity(store, request_id, token, *, phone="fid-1"):
    return save(store, token, kind=LIVE_ACTIVITY, request_id=request_id, details={"device": phone})


def test_a_tasks_own_devices_are_apart_from_its_owners(bench, store):
    task = bench.create(owner="anna")
    save(store, "phone", max_devices=1)
    activity(store, task.request_id, "activity", phone="fid-1")
    activity(store, task.request_id, "activity on a second phone", phone="fid-2")
    save(store, "phone", max_devices=1)

    assert values(store.devices(owner="anna")) == ["phone"]
    assert set(values(store.devices(request_id=task.request_id))) == {"activity", "activity on a second phone"}


def test_the_token_of_a_live_activity_rotates(bench, store):
    task, other = bench.create(), bench.create()
    activity(store, task.request_id, "first")
    activity(store, other.request_id, "another task's")

    activity(store, task.request_id, "second")

    assert values(store.devices(request_id=task.request_id)) == ["second"]
    assert values(store.devices(request_id=other.request_id)) == ["another task's"]


def test_a_tasks_devices_go_with_it(bench, store):
    task = bench.running()
    activity(store, task.request_id, "activity")
    store.transition(task.request_id, Complete(1))

    store.delete(task.request_id)

    assert store.devices(request_id=task.request_id) == []


def test_a_purged_tasks_devices_go_with_it(bench, store):
    task = bench.running(expires_after=timedelta(hours=1))
    device = activity(store, task.request_id, "activity")
    store.transition(task.request_id, Complete(1))

    bench.pass_time([task.request_id], timedelta(hours=3))

    assert store.purge() == 1
    assert store.find_device(device.id) is None


# -- preferences -------------------------------------------------------------------------------------------------------


def test_preferences_are_an_owners(store):
    assert store.load_preferences("anna") is None
    store.save_preferences("anna", {"kinds": ["failed"], "muted": ["Übung"]})
    store.save_preferences("bert", {"kinds": []})
    store.save_preferences("anna", {"kinds": ["completed"], "muted": ["Übung"]})

    assert store.load_preferences("anna") == {"kinds": ["completed"], "muted": ["Übung"]}
    assert store.load_preferences("bert") == {"kinds": []}


# -- marks -------------------------------------------------------------------------------------------------------------


def test_a_mark_is_taken_by_one(store):
    taken, start = [], threading.Barrier(8)

    def take():
        start.wait(10)
        if store.take_mark("alert", MINUTE):
            taken.append(1)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(taken) == 1
    assert store.take_mark("another", MINUTE)


def test_a_mark_can_be_had_again_after_its_time(bench, store):
    if bench.clock is None:
        pytest.skip("needs a clock that the test moves")
    assert store.take_mark("alert", MINUTE)
    bench.clock.advance(59)
    assert not store.take_mark("alert", MINUTE)
    bench.clock.advance(2)
    assert store.take_mark("alert", MINUTE)


def test_a_mark_is_prolonged_and_given_back(store):
    assert store.take_mark("alert", timedelta(microseconds=1))
    store.set_mark("alert", MINUTE)
    assert not store.take_mark("alert", MINUTE)

    store.set_mark("alert", timedelta(0))

    assert store.take_mark("alert", MINUTE)


# -- failures ----------------------------------------------------------------------------------------------------------


def failed(bench, name="process"):
    task = bench.running(name=name)
    bench.store.transition(task.request_id, Fail(1, "no paper"))
    return task.request_id


def test_failures_are_counted_by_name_and_time(bench, store):
    before = store.now() - MINUTE
    opened = failed(bench)
    failed(bench)
    failed(bench, "another")
    store.transition(bench.running().request_id, Complete(1))
    store.transition(opened, Reopen())

    assert store.count_failed("process", since=before) == 1
    assert store.count_failed("process", since=store.now() + MINUTE) == 0
    assert store.count_failed("nothing", since=before) == 0


def test_how_long_outcomes_waited_to_be_seen_is_known(bench, store):
    if bench.clock is None:
        pytest.skip("needs a clock that the test moves")
    assert store.stats().mean_seconds_to_seen is None
    for seconds in (10, 20):
        request_id = bench.running().request_id
        store.transition(request_id, Complete(1))
        bench.clock.advance(seconds)
        store.transition(request_id, MarkSeen("poll"))

    assert store.stats().seen == 2
    assert store.stats().mean_seconds_to_seen == pytest.approx(15)


# -- the outbox's channels ---------------------------------------------------------------------------------------------


def due(store, *, worker="worker", sink="phone", limit=100):
    return store.due_deliveries(sink, worker=worker, lease=MINUTE, limit=limit)


def with_deliveries(bench, *deliveries):
    task = bench.create(deliveries=deliveries)
    return task.request_id


def test_channels_of_a_task_know_nothing_of_each_other(bench, store):
    request_id = with_deliveries(
        bench, *(NewDelivery("phone", payload={"n": n}, channel=channel) for n, channel in enumerate("abab"))
    )

    first = due(store)
    assert [(one.channel, one.payload["n"]) for one in first] == [("a", 0), ("b", 1)]
    store.settle_delivery(first[0], Settlement())
    second = due(store)

    assert [(one.channel, one.payload["n"], one.request_id) for one in second] == [("a", 2, request_id)]


def test_what_waits_for_an_older_one_holds_up_no_other_task(bench, store):
    """After an outage: the oldest of many tasks are put off, and what comes after them is due."""
    later = store.now() + timedelta(hours=1)
    for _ in range(30):
        with_deliveries(bench, *[NewDelivery("phone", payload={"n": n}) for n in range(3)])
    for delivery in due(store):
        store.settle_delivery(delivery, Settlement(due_at=later, error="out of reach"))
    last = with_deliveries(bench, NewDelivery("phone", payload={"n": "last"}))

    (found,) = due(store, limit=1)

    assert found.request_id == last


def test_a_delivery_with_a_delay_is_not_due_before(bench, store):
    if bench.clock is None:
        pytest.skip("needs a clock that the test moves")
    with_deliveries(bench, NewDelivery("phone", delay=MINUTE))

    assert due(store) == []
    bench.clock.advance(61)
    assert len(due(store)) == 1


def test_what_replaces_a_delivery_is_of_the_same_event(bench, store):
    request_id = with_deliveries(bench, NewDelivery("phone", "notification", channel="notification"))
    (notification,) = due(store)

    parts = [NewDelivery("phone", "push", {"to": n}, channel=f"device-{n}") for n in range(3)]
    store.settle_delivery(notification, Settlement(replaced_by=parts))

    found = due(store)
    assert [one.payload["to"] for one in found] == [0, 1, 2]
    assert {(one.request_id, one.seq, one.kind) for one in found} == {(request_id, notification.seq, "push")}
    assert store.stats().deliveries_pending == 3


def test_what_replaces_a_delivery_may_be_more_than_one_commit_holds(bench, store, monkeypatch):
    monkeypatch.setattr("flask_bgtasks.stores.firestore.outbox.MAX_WRITES", 2)
    with_deliveries(bench, NewDelivery("phone", "notification"))
    (notification,) = due(store)
    parts = [NewDelivery("phone", "push", {"to": n}, channel=f"device-{n}") for n in range(5)]

    store.settle_delivery(notification, Settlement(replaced_by=parts))

    assert sorted(one.payload["to"] for one in due(store)) == [0, 1, 2, 3, 4]
    assert store.stats().deliveries_pending == 5


def test_who_settles_second_adds_nothing(bench, store):
    with_deliveries(bench, NewDelivery("phone", "notification"))
    (delivery,) = due(store)
    parts = [NewDelivery("phone", "push", {"to": "one"}, channel="one")]

    store.settle_delivery(delivery, Settlement(replaced_by=parts))
    store.settle_delivery(delivery, Settlement(replaced_by=parts))

    assert store.stats().deliveries_pending == 1


def test_what_is_held_was_not_tried(bench, store):
    with_deliveries(bench, NewDelivery("phone"))
    (delivery,) = due(store)

    store.settle_delivery(delivery, Settlement(due_at=store.now()))
    (held,) = until(lambda: due(store))
    store.settle_delivery(held, Settlement(due_at=store.now(), error="refused"))
    (tried,) = until(lambda: due(store))
    store.settle_delivery(tried, Settlement(due_at=store.now()))
    (held_again,) = until(lambda: due(store))

    assert (held.tries, tried.tries, held_again.tries) == (0, 1, 1)
    assert tried.error == held_again.error == "refused"


def test_what_waits_longest_is_due_first_whatever_was_recorded_before(bench, store):
    if bench.clock is None:
        pytest.skip("needs a clock that the test moves")
    with_deliveries(bench, NewDelivery("phone", payload={"n": 0}, delay=timedelta(minutes=5)))
    with_deliveries(bench, NewDelivery("phone", payload={"n": 1}))
    bench.clock.advance(600)

    assert [one.payload["n"] for one in due(store)] == [1, 0]


@pytest.mark.parametrize(
    ("code", "is_failure"), [(400, False), (404, False), (422, False), (408, True), (429, True), (500, True)]
)
def test_a_refusal_is_counted_apart_from_failures(bench, store, code, is_failure):
    before = store.now() - MINUTE
    request_id = bench.running().request_id
    store.transition(request_id, Fail(1, "no", result=Result(b"{}", code)))

    assert store.count_failed("process", since=before) == is_failure
    assert store.stats().by_status == {"failed": 1}
    assert store.stats().rejected == (not is_failure)
    assert store.get(request_id).rejected is not is_failure
