"""Who waits for what another process stores is woken: polls are made so rare that they explain nothing."""

from datetime import timedelta

from flask_bgtasks import Status
from flask_bgtasks.announcements import exchange as exchange_module
from flask_bgtasks.announcements.announcement import Announcement
from flask_bgtasks.core.transitions.attempt import Complete, Retry
from tests.support.announcing import held, stream, submit
from tests.support.waiting import until


def test_a_stream_ends_with_what_another_process_stored_and_nobody_polls(two, rare_polls):
    web, _ = two()

    text = stream(web, submit(web, 3))

    assert text.count("event: output") >= 1
    assert "event: completed" in text


def test_a_full_process_takes_what_was_announced_when_a_thread_is_free(two, rare_polls):
    web, other = two(workers=1)
    handles = [submit(web, n) for n in range(1, 6)]

    for n, handle in enumerate(handles, 1):
        assert stream(web, handle).count("event: completed") == 1, n

    assert sorted(other.ran) == [(n, 1) for n in range(1, 6)]


def test_what_pauses_in_a_process_that_runs_nothing_is_begun_elsewhere_when_it_is_due(two, rare_polls):
    web, other = two(workers=1)
    # Held for the web process before anybody can begin it, and then failed: the next attempt is anybody's.
    task = held(web, 2)

    web.state.store.transition(task.request_id, Retry(1, "no", timedelta(seconds=0.3), 3))

    until(lambda: other.ran)
    assert other.ran == [(2, 2)]


def test_the_next_of_a_name_with_a_limit_begins_when_one_ends_elsewhere(two, rare_polls, monkeypatch):
    monkeypatch.setattr(exchange_module, "WORK_SECONDS", 0.0)
    web, other = two(workers=1)
    heard, runner = [], other.state.runner
    other.state.exchange.hear(heard.append)
    first = held(web, 1, task="narrow")
    second = submit(web, 2, task="narrow")
    behind = submit(web, 0)
    assert "event: completed" in stream(web, behind)  # the other one stands before it, and may not begin
    until(lambda: any(behind.request_id in said.tasks for said in heard))
    until(lambda: not (runner._more or runner._fetching))
    assert other.ran == [(0, 1)]

    web.state.store.transition(first.request_id, Complete(1))

    until(lambda: len(other.ran) == 2)

    assert other.ran == [(0, 1), 2]
    assert "event: completed" in stream(web, second)


def test_what_a_process_stores_itself_is_not_announced_to_it(two):
    web, other = two()
    heard = []
    web.state.exchange.hear(heard.append)

    mine, others = submit(web, 1), submit(other, 1)
    until(lambda: any(others.request_id in said.tasks for said in heard))

    other.state.exchange.hear(heard.append)  # whatever comes from now on
    assert all(said.tasks.get(mine.request_id) != 1 for said in heard)  # 1: its acceptance, by the web process


def test_an_app_of_another_name_hears_nothing(carrier, make):
    mine = make(carrier.store, carrier.announcements, app_id="mine")
    theirs = make(carrier.store, carrier.announcements, app_id="theirs")
    same = make(carrier.store, carrier.announcements, app_id="mine", runner="external")
    until(lambda: all(app.state.exchange.holds() for app in (mine, theirs, same)))
    heard, heard_by_same = [], []
    theirs.state.exchange.hear(heard.append)
    same.state.exchange.hear(heard_by_same.append)

    handle = submit(mine, 1)
    until(lambda: any(handle.request_id in said.tasks for said in heard_by_same))

    assert not [said for said in heard if said.tasks]


def test_what_is_said_is_heard_in_the_order_of_the_commits(two):
    web, other = two()
    heard = []
    web.state.exchange.hear(heard.append)

    handle = submit(other, 3)
    until(lambda: handle.status is Status.COMPLETED)
    newest = other.state.store.get(handle.request_id).seq
    until(lambda: any(said.tasks.get(handle.request_id) == newest for said in heard))

    seqs = [said.tasks[handle.request_id] for said in heard if handle.request_id in said.tasks]
    assert seqs == sorted(seqs)


def test_a_listener_that_raises_silences_no_other(two, caplog):
    web, other = two()
    heard = []
    web.state.exchange.hear(lambda said: 1 / 0)
    web.state.exchange.hear(heard.append)

    handle = submit(other, 1)
    until(lambda: any(handle.request_id in said.tasks for said in heard))

    assert "a listener of announcements failed" in caplog.text
    assert isinstance(heard[0], Announcement)
