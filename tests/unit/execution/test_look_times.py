"""When the look-out asks the store."""

import subprocess
import sys

import pytest

from flask_bgtasks.announcements.announcement import Announcement
from flask_bgtasks.execution.finding import look_times
from flask_bgtasks.execution.finding.look_times import LookTimes
from flask_bgtasks.runtime import processes


@pytest.fixture
def times(monkeypatch):
    """Of a process that hears the others, and has looked; the next look is far away, however slow this machine is."""
    monkeypatch.setattr(look_times, "NET_SECONDS", 3600.0)
    times = LookTimes(lambda: True)
    assert times.is_time()
    return times


def test_while_nothing_is_heard_it_is_always_time():
    times = LookTimes(lambda: False)
    times.looked([], lambda: pytest.fail("a query for nothing"))

    assert times.is_time()
    assert times.is_time()


def test_while_others_are_heard_it_is_seldom_time(times):
    assert not times.is_time()


@pytest.mark.parametrize("said", [Announcement(everything=True), Announcement(due_in=0.0)])
def test_what_is_announced_is_looked_for(times, said):
    times.heard(said)

    assert times.is_time()
    assert not times.is_time()


def test_what_is_known_to_begin_later_is_looked_for_then(times):
    times.looked([], lambda: 1000.0)
    assert not times.is_time()

    times.looked([], lambda: 0.0)
    assert times.is_time()


def test_what_is_announced_during_a_look_is_looked_for_after_it(times):
    times.heard(Announcement(due_in=0.0))
    times.looked([], lambda: None)

    assert times.is_time()


@pytest.mark.parametrize("how", ["heard", "looked"])
def test_a_process_of_this_host_that_dies_is_noticed_once(times, how):
    code = "from flask_bgtasks.runtime import processes; print(processes.me(), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as process:
        name = process.stdout.readline().strip()
        if how == "heard":
            times.heard(Announcement(process=name))
        else:
            times.looked([name], lambda: None)
        assert not times.is_time()

        process.kill()
        process.wait()

        assert times.is_time()
    assert not times.is_time()

    times.looked([name], lambda: None)  # it held something when that look began
    assert not times.is_time()


def test_processes_that_cannot_be_seen_from_here_and_this_one_are_not_remembered(times):
    times.heard(Announcement(process="elsewhere:1:abc:2"))
    times.heard(Announcement(process="by hand"))
    times.heard(Announcement(process=processes.me()))

    assert not times._neighbours


def test_so_many_processes_are_remembered_and_no_more(times, monkeypatch):
    monkeypatch.setattr(look_times, "MAX_NEIGHBOURS", 2)
    monkeypatch.setattr(look_times.processes, "alive", lambda worker: True)
    node, _, mark, _ = processes.me().rsplit(":", 3)
    for number in range(4):
        times.heard(Announcement(process=f"{node}:{number}:{mark}:1"))

    assert list(times._neighbours) == [f"{node}:{number}:{mark}:1" for number in (2, 3)]
