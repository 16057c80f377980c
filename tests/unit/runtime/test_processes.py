"""Whether a process of this host lives: asked of the kernel, with real processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flask_bgtasks.runtime import processes
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")

CHILD = "from flask_bgtasks.runtime import processes; import sys; print(processes.me(), flush=True); sys.stdin.read()"


@pytest.fixture
def child():
    process = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.name = process.stdout.readline().strip()
    yield process
    process.kill()
    process.communicate()


def test_this_process_is_alive_and_has_one_name():
    assert processes.me() == processes.me()
    assert processes.alive(processes.me()) is True
    assert f":{os.getpid()}:" in processes.me()


def test_another_process_has_another_name_and_is_alive_until_it_is_killed(child):
    assert child.name != processes.me()
    assert processes.alive(child.name) is True

    child.kill()
    until(lambda: processes.alive(child.name) is False)  # though nobody has waited for it: it is a zombie
    child.wait()

    assert processes.alive(child.name) is False


def test_a_process_that_was_stopped_may_live_or_not(child):
    child.send_signal(signal.SIGSTOP)
    until(lambda: processes.alive(child.name) is None)

    child.send_signal(signal.SIGCONT)
    until(lambda: processes.alive(child.name) is True)


def test_a_forked_child_has_a_name_of_its_own():
    processes.me()
    read, write = os.pipe()
    if os.fork() == 0:  # pragma: no cover
        os.write(write, processes.me().encode())
        os._exit(0)
    os.wait()

    assert os.read(read, 1000).decode() != processes.me()


def test_the_same_id_with_another_start_is_another_process():
    name, _, start = processes.me().rpartition(":")

    assert processes.alive(f"{name}:{int(start) - 1}") is False


@pytest.mark.parametrize(
    "change",
    [
        lambda node, pid, mark, start: f"elsewhere:{pid}:{mark}:{start}",
        lambda node, pid, mark, start: f"{node}:{pid}:00000000.1:{start}",
        lambda node, pid, mark, start: f"{node}:{pid}::{start}",
        lambda node, pid, mark, start: f"{node}:x:{mark}:{start}",
        lambda node, pid, mark, start: "by hand",
        lambda node, pid, mark, start: "",
    ],
)
def test_of_others_nothing_is_known(change):
    assert processes.alive(change(*processes.me().rsplit(":", 3))) is None
