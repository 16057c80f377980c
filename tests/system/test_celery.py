"""Tasks that run in Celery's own worker processes over Redis: pools, deaths, a broker that forgets or is away."""

import importlib
import os
import signal
import subprocess
import sys

import pytest

from flask_bgtasks import Status
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE, until

pytest.importorskip("celery")
pytestmark = [pytest.mark.system, pytest.mark.slow]

SHOP = "tests.support.processes.celery_shop"


@pytest.fixture
def store():
    """Where tasks are kept, if a test names nothing else."""
    return "sqlite:///tasks.sqlite3"


@pytest.fixture
def shop(redis, store, tmp_path, monkeypatch):
    """The app in this process, as a web process has it."""
    monkeypatch.setenv("SHOP_FOLDER", str(tmp_path))
    monkeypatch.setenv("SHOP_STORE", store)
    monkeypatch.setenv("SHOP_BROKER", redis.url)
    monkeypatch.setenv("SHOP_ID", "shop")
    sys.modules.pop(SHOP, None)
    shop = importlib.import_module(SHOP)
    with shop.app.app_context():
        yield shop
    shop.app.extensions["bgtasks"].close(grace=0)
    sys.modules.pop(SHOP, None)


@pytest.fixture
def worker(shop, tmp_path):
    """Starts Celery workers."""
    started = []

    def start(pool="threads", *, concurrency=2, queues=None):
        log = tmp_path / f"worker-{len(started)}.log"
        quiet = ["--without-mingle", "--without-gossip", "--without-heartbeat", "--loglevel", "INFO"]
        words = ["worker", "--pool", pool, "--concurrency", str(concurrency), *quiet]
        with log.open("w") as out:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "celery",
                    "--app",
                    f"{SHOP}:workers",
                    *words,
                    *(["-Q", queues] if queues else []),
                ],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "C_FORCE_ROOT": "1"},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        _kill(process)
    for log in tmp_path.glob("worker-*.log"):
        print(log.name, log.read_text()[-4000:])  # shown where the test fails


def _kill(process):
    """Kill a worker and the processes that it has forked."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)


def _waits(shop, name="lesson"):
    until(lambda: any(line.startswith(f"{name}: waits") for line in shop.diary()), every=0.05)


POOLS = ["prefork", "threads", "solo"]


@pytest.mark.parametrize("pool", POOLS)
def test_tasks_run_in_celerys_workers(shop, worker, pool):
    handle = shop.draw.submit("a tree")
    worker(pool)

    assert handle.wait(timeout=PATIENCE) == "a tree, drawn"


def test_tasks_run_in_green_threads(shop, worker):
    pytest.importorskip("gevent")
    handles = [shop.draw.submit(f"tree {number}") for number in range(10)]
    worker("gevent")

    assert [handle.wait(timeout=PATIENCE) for handle in handles] == [f"tree {n}, drawn" for n in range(10)]


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_that_is_stopped_hands_back_what_does_not_finish(shop, worker, tmp_path, pool):
    handle = shop.lesson.submit("lesson")
    first = worker(pool)
    _waits(shop)

    first.terminate()
    until(lambda: handle.task.worker is None, every=0.05)
    (tmp_path / "go").touch()  # Celery lets what runs finish, before it ends
    worker(pool)

    assert handle.wait(timeout=PATIENCE) == "lesson"
    assert handle.task.attempt == 2
    assert [line for line in shop.diary() if "waits" not in line] == ["lesson: outline", "lesson: text"]
    assert first.wait(PATIENCE) == 0


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_that_is_killed_loses_nothing(shop, worker, tmp_path, pool):
    _killed_and_gone_on(shop, worker, tmp_path, pool)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_signal_to_all_of_a_workers_processes_loses_nothing(shop, worker, tmp_path, number):
    handle = shop.lesson.submit("lesson")
    first = worker("prefork")
    _waits(shop)

    os.killpg(first.pid, number)  # as systemd does; SIGQUIT is Celery's cold shutdown
    first.wait(PATIENCE)
    (tmp_path / "go").touch()
    worker("prefork")

    assert handle.wait(timeout=PATIENCE) == "lesson"


class TestOnPostgresql:
    """The same with a store that several machines may share."""

    @pytest.fixture
    def store(self, new_postgresql_database):
        return new_postgresql_database()

    @pytest.mark.parametrize("pool", ["prefork", "gevent"])
    def test_a_worker_that_is_killed_loses_nothing(self, shop, worker, tmp_path, pool):
        _killed_and_gone_on(shop, worker, tmp_path, pool)


def _killed_and_gone_on(shop, worker, tmp_path, pool):
    handle = shop.lesson.submit("lesson")
    first = worker(pool)
    _waits(shop)

    _kill(first)
    (tmp_path / "go").touch()
    worker(pool)

    assert handle.wait(timeout=PATIENCE) == "lesson"
    assert handle.task.attempt == 2
    assert [line for line in shop.diary() if "waits" not in line] == ["lesson: outline", "lesson: text"]


def test_the_stores_order_holds(shop, worker):
    handles = [shop.draw.submit("a tree"), shop.draw.submit("a house"), shop.urgent.submit("a fire")]
    worker("solo", concurrency=1)
    for handle in handles:
        handle.wait(timeout=PATIENCE)

    assert shop.diary() == ["a fire", "a tree", "a house"]


def test_a_queue_has_workers_of_its_own(shop, worker):
    image, tree = shop.render.submit("an image"), shop.draw.submit("a tree")
    worker(queues="images")
    image.wait(timeout=PATIENCE)
    assert tree.status is Status.STARTED

    worker()

    assert tree.wait(timeout=PATIENCE) == "a tree, drawn"


def test_a_broker_that_forgets_everything_loses_no_task(shop, worker, redis):
    shop.app.test_client().get("/tasks/health")  # from now on this process looks after the store
    handles = [shop.draw.submit(f"tree {number}") for number in range(20)]
    redis.empty()
    worker()

    assert [handle.wait(timeout=PATIENCE) for handle in handles] == [f"tree {n}, drawn" for n in range(20)]
    assert sorted(shop.diary()) == sorted(f"tree {number}" for number in range(20))


def test_a_broker_that_is_away_costs_no_request(shop, worker, redis):
    shop.app.test_client().get("/tasks/health")
    worker()
    shop.draw.submit("the first").wait(timeout=PATIENCE)
    redis.kill()

    handles = [shop.draw.submit(f"tree {number}") for number in range(5)]
    assert {handle.status for handle in handles} == {Status.STARTED}
    redis.start()

    assert [handle.wait(timeout=PATIENCE) for handle in handles] == [f"tree {n}, drawn" for n in range(5)]


def test_two_apps_share_a_broker(shop, worker, tmp_path, monkeypatch):
    handle = shop.draw.submit("a tree")
    monkeypatch.setenv("SHOP_ID", "another")
    worker()
    until(lambda: "ready" in (tmp_path / "worker-0.log").read_text(), every=0.05)
    assert handle.status is Status.STARTED

    monkeypatch.setenv("SHOP_ID", "shop")
    worker()

    assert handle.wait(timeout=PATIENCE) == "a tree, drawn"
