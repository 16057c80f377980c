"""What holds with every queue beside the store, run over the real workers of each.

Kinds of workers that differ in how they begin and end are in :data:`KINDS`; what has nothing to do with that is run
over one kind of each in :data:`ENGINES`.
"""

import os
import signal

import pytest

from flask_bgtasks import Status
from tests.support.waiting import PATIENCE, until
from tests.system.engines.conftest import kill

pytestmark = [pytest.mark.system, pytest.mark.slow]

ENGINES = ["celery", "rq", "dramatiq", "huey"]
KINDS = ["celery", "celery-threads", "celery-solo", "rq", "dramatiq", "huey", "huey-process"]

every_engine = pytest.mark.parametrize("engine", ENGINES)
every_kind = pytest.mark.parametrize("engine", KINDS)

WARM = {"huey": signal.SIGINT}  # the others: SIGTERM


def _warm(engine):
    return WARM.get(engine.partition("-")[0], signal.SIGTERM)


@every_engine
def test_tasks_run_in_its_workers_whoever_comes_first(shop, worker):
    before = shop.draw.submit("a tree")
    worker()
    assert before.wait(timeout=PATIENCE) == "a tree, drawn"

    after = shop.draw.submit("a house")
    assert after.wait(timeout=PATIENCE) == "a house, drawn"


@every_kind
def test_a_worker_that_is_stopped_hands_back_what_does_not_finish(shop, worker, waiting, steps, engine, tmp_path):
    handle = shop.lesson.submit("lesson")
    first = worker()
    waiting()

    first.send_signal(_warm(engine))
    until(lambda: handle.task.worker is None, every=0.05)
    (tmp_path / "go").touch()
    worker()

    assert handle.wait(timeout=PATIENCE) == "lesson"
    assert handle.task.attempt == 2
    assert steps() == ["lesson: outline", "lesson: text"]
    assert first.wait(PATIENCE) == 0


@every_kind
def test_a_worker_that_is_killed_loses_nothing(shop, worker, waiting, steps, tmp_path):
    _killed_and_gone_on(shop, worker, waiting, steps, tmp_path)


class TestOnPostgresql:
    """The same with a store that several machines may share."""

    @pytest.fixture
    def store(self, new_postgresql_database):
        return new_postgresql_database()

    @pytest.mark.parametrize("engine", [*ENGINES, "celery-gevent"])
    def test_a_worker_that_is_killed_loses_nothing(self, shop, worker, waiting, steps, tmp_path):
        _killed_and_gone_on(shop, worker, waiting, steps, tmp_path)


def _killed_and_gone_on(shop, worker, waiting, steps, tmp_path):
    shop.app.test_client().get("/tasks/health")  # from now on this process looks after the store
    handle = shop.lesson.submit("lesson")
    first = worker()

    kill(first, waiting())
    (tmp_path / "go").touch()
    worker()

    assert handle.wait(timeout=PATIENCE) == "lesson"
    assert handle.task.attempt == 2
    assert steps() == ["lesson: outline", "lesson: text"]


@every_engine
def test_a_task_that_kills_its_process_fails_and_the_others_are_run(shop, worker):
    shop.app.test_client().get("/tasks/health")
    poison = shop.poison.submit()
    worker(kept=True)
    until(lambda: poison.status is Status.FAILED, every=0.05)

    assert len(shop.diary()) == 3  # max_attempts
    assert shop.draw.submit("a tree").wait(timeout=PATIENCE) == "a tree, drawn"


@every_engine
def test_the_stores_order_holds(shop, worker):
    handles = [shop.draw.submit("a tree"), shop.draw.submit("a house"), shop.urgent.submit("a fire")]
    worker(concurrency=1)
    for handle in handles:
        handle.wait(timeout=PATIENCE)

    assert shop.diary()[0] == "a fire"


@every_engine
def test_a_queue_has_workers_of_its_own(shop, worker):
    image, tree = shop.render.submit("an image"), shop.draw.submit("a tree")
    worker(queue="images")
    image.wait(timeout=PATIENCE)
    assert tree.status is Status.STARTED

    worker()

    assert tree.wait(timeout=PATIENCE) == "a tree, drawn"


@every_engine
def test_a_waiting_task_is_cancelled_and_never_begun(shop, worker):
    cancelled, other = shop.draw.submit("a tree"), shop.draw.submit("a house")
    cancelled.cancel()
    worker()
    other.wait(timeout=PATIENCE)

    assert (cancelled.status, shop.diary()) == (Status.CANCELLED, ["a house"])


@every_engine
def test_a_running_task_is_cancelled_and_stops(shop, worker, waiting, steps):
    handle = shop.lesson.submit("lesson")
    worker()
    waiting()
    handle.cancel()
    until(lambda: handle.status is Status.CANCELLED, every=0.05)

    assert steps() == ["lesson: outline"]


@every_engine
def test_a_second_try_waits_in_the_store(shop, worker):
    shop.app.test_client().get("/tasks/health")
    handle = shop.second_try.submit()
    worker()

    assert handle.wait(timeout=PATIENCE) == "in the end"
    assert shop.diary() == ["try 1", "try 2"]


@every_engine
def test_a_limit_of_running_tasks_is_kept_and_all_are_run(shop, worker):
    handles = [shop.alone.submit(number) for number in range(6)]
    worker()
    worker()

    assert [handle.wait(timeout=PATIENCE) for handle in handles] == list(range(6))
    assert shop.diary() == ["begins", "ends"] * 6


@every_engine
def test_a_message_that_comes_twice_while_the_first_attempt_lives_begins_no_other(
    shop, worker, waiting, steps, tmp_path
):
    handle, runner = shop.lesson.submit("lesson"), shop.app.extensions["bgtasks"].runner
    worker()
    worker()
    waiting()

    for _ in range(3):
        runner.publish(handle.request_id, "default")
    assert shop.draw.submit("a tree").wait(timeout=PATIENCE) == "a tree, drawn"  # they were read meanwhile
    (tmp_path / "go").touch()

    assert handle.wait(timeout=PATIENCE) == "lesson"
    assert handle.task.attempt == 1


@every_engine
def test_a_broker_that_forgets_everything_loses_no_task(shop, worker, redis):
    shop.app.test_client().get("/tasks/health")
    handles = [shop.draw.submit(f"tree {number}") for number in range(10)]
    redis.empty()
    worker()

    assert [handle.wait(timeout=PATIENCE) for handle in handles] == [f"tree {n}, drawn" for n in range(10)]
    assert sorted(shop.diary()) == sorted(f"tree {number}" for number in range(10))


@every_engine
def test_a_broker_that_is_away_costs_no_task(shop, worker, redis):
    shop.app.test_client().get("/tasks/health")
    worker(kept=True)
    shop.draw.submit("the first").wait(timeout=PATIENCE)
    redis.kill()

    handles = [shop.draw.submit(f"tree {number}") for number in range(5)]  # none is refused
    redis.start()

    assert [handle.wait(timeout=PATIENCE) for handle in handles] == [f"tree {n}, drawn" for n in range(5)]


@every_engine
def test_two_apps_share_a_broker(shop, worker, tmp_path, monkeypatch, engine):
    handle = shop.draw.submit("a tree")
    monkeypatch.setenv("SHOP_ID", "another")
    worker()
    ready = {"celery": "ready", "rq": "Listening on", "dramatiq": "ready for action", "huey": "consumer started"}
    until(lambda: ready[engine] in (tmp_path / "worker-0.log").read_text(), every=0.05)
    assert handle.status is Status.STARTED

    monkeypatch.setenv("SHOP_ID", "shop")
    worker()

    assert handle.wait(timeout=PATIENCE) == "a tree, drawn"


COLD = {
    "celery": [signal.SIGQUIT],
    "rq": [signal.SIGTERM, signal.SIGTERM],
    "dramatiq": [signal.SIGTERM, signal.SIGTERM],
    "huey": [signal.SIGTERM],
    "huey-process": [signal.SIGTERM],
}


@pytest.mark.parametrize("engine", COLD)
def test_a_worker_that_is_stopped_at_once_loses_nothing(shop, worker, waiting, steps, engine, tmp_path):
    handle = shop.lesson.submit("lesson")
    first = worker()
    waiting()

    for number in COLD[engine]:
        if first.poll() is None:
            os.killpg(first.pid, number)  # as systemd does
    until(lambda: first.poll() is not None, every=0.05)
    (tmp_path / "go").touch()
    worker()

    assert handle.wait(timeout=PATIENCE) == "lesson"
    assert steps() == ["lesson: outline", "lesson: text"]
