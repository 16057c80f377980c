"""What only Celery has: green threads, and signals to all of a worker's processes at once."""

import os
import signal

import pytest

from tests.support.waiting import PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.slow]


def test_tasks_run_in_green_threads(shop, worker):
    pytest.importorskip("gevent")
    handles = [shop.draw.submit(f"tree {number}") for number in range(10)]
    worker("celery-gevent")

    assert [handle.wait(timeout=PATIENCE) for handle in handles] == [f"tree {n}, drawn" for n in range(10)]


def test_a_signal_to_all_of_a_workers_processes_loses_nothing(shop, worker, waiting, tmp_path):
    handle = shop.lesson.submit("lesson")
    first = worker()
    waiting()

    os.killpg(first.pid, signal.SIGTERM)  # as systemd does
    first.wait(PATIENCE)
    (tmp_path / "go").touch()
    worker()

    assert handle.wait(timeout=PATIENCE) == "lesson"
