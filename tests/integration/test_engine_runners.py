"""What the runners over RQ, Dramatiq and Huey ask of the app, and what they make of these; without a worker."""

import inspect
import sys
import threading

import pytest

from flask_bgtasks import BackgroundTasks, ConfigurationError

rq = pytest.importorskip("rq")
dramatiq = pytest.importorskip("dramatiq")
huey = pytest.importorskip("huey")

from dramatiq.brokers.redis import RedisBroker  # noqa: E402
from dramatiq.brokers.stub import StubBroker  # noqa: E402
from redis import Redis  # noqa: E402

from flask_bgtasks.runners.rq import wake  # noqa: E402

NAMES = ["rq", "dramatiq", "huey"]
WHAT = {"rq": "RQ queue", "dramatiq": "Dramatiq broker", "huey": "Huey instance"}


@pytest.fixture(autouse=True)
def no_broker(monkeypatch):
    """Dramatiq has one for the whole process."""
    monkeypatch.setattr(dramatiq.broker, "global_broker", None)


@pytest.fixture
def shop(make_app, bg):
    """Makes an app with a task for each of two queues."""

    def make(runner, **settings):
        app = make_app(runner=runner, sinks=[], **settings)
        app.draw = bg.task(name="draw")(_tree)
        app.render = bg.task(name="render", queue="images")(_tree)
        return app

    return make


def _tree():
    return "a tree"


@pytest.mark.parametrize("name", NAMES)
def test_an_app_without_the_queue_is_told_so_when_it_is_made(make_app, name):
    with pytest.raises(ConfigurationError, match=f"the app has no {WHAT[name]}.* Set BGTASKS_{name.upper()}"):
        make_app(runner=name)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_none_is_named(make_app, name):
    with pytest.raises(ConfigurationError, match=rf"BGTASKS_{name.upper()}: expected a {WHAT[name]}.*, not int"):
        make_app(runner=name, **{name: 7})


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_package_is_named_with_what_installs_it(make_app, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"flask_bgtasks.runners.{name}", raising=False)

    with pytest.raises(ConfigurationError, match=rf"pip install 'flask-bgtasks\[{name}\]'"):
        make_app(runner=name)


def _over(name, url):
    """What the setting of a runner takes, for a Redis."""
    return {"rq": lambda: url, "dramatiq": lambda: RedisBroker(url=url), "huey": lambda: huey.RedisHuey("h", url=url)}[
        name
    ]()


@pytest.mark.parametrize("name", NAMES)
def test_the_doctor_asks_whether_the_queue_answers(make_app, redis, tmp_path, name):
    app = make_app(runner=name, store=f"sqlite:///{tmp_path}/tasks.sqlite3", **{name: _over(name, redis.url)})
    doctor = ["bgtasks", "doctor"]

    well = app.test_cli_runner().invoke(args=doctor)
    redis.kill()
    unwell = app.test_cli_runner().invoke(args=doctor)

    assert "ok    queue: " in well.output
    assert f"runner: {name}, nothing to do" in well.output
    assert "FAIL  queue: " in unwell.output
    assert unwell.exit_code == 1


@pytest.mark.parametrize("name", ["dramatiq", "huey"])
def test_an_app_that_is_made_again_gets_the_messages(make_app, name):
    made = StubBroker() if name == "dramatiq" else huey.MemoryHuey()
    for _ in range(3):
        app, again = make_app(init=False), BackgroundTasks()
        again.init_app(app, store="memory://", runner=name, sinks=[], **{name: made})
        draw = again.task(_tree)
        with app.app_context():
            handle = draw.submit()
            _deliver(made)
            assert handle.wait(timeout=0) == "a tree"


def _deliver(made):
    """Have a message that waits there run, in this thread."""
    if isinstance(made, huey.Huey):
        made.execute(made.dequeue())
    else:
        message = dramatiq.Message.decode(made.queues["default"].get_nowait())
        made.get_actor(message.actor_name)(*message.args)


# -- RQ


@pytest.fixture
def connection(redis):
    with Redis.from_url(redis.url) as connection:
        yield connection


def test_a_job_of_rq_names_the_app_and_has_no_limit_and_no_result(shop, redis, connection):
    app = shop("rq", rq=redis.url)
    with app.app_context():
        handle = app.draw.submit()

    (job,) = rq.Queue("default", connection=connection).jobs
    assert job.func_name == "flask_bgtasks.runners.rq.wake"
    assert job.args == ("app_under_test", handle.request_id, "default")
    assert (job.timeout, job.result_ttl, job.retries_left) == (-1, 0, None)


def test_other_queues_of_rq_are_beside_the_one_that_is_given(shop, connection):
    app = shop("rq", rq=rq.Queue("shop", connection=connection))
    with app.app_context():
        app.draw.submit()
        app.render.submit()

    counts = {name: rq.Queue(name, connection=connection).count for name in ("shop", "images", "default")}
    assert counts == {"shop": 1, "images": 1, "default": 0}


def test_a_queue_of_rq_that_is_not_asynchronous_runs_at_once(shop, connection):
    app = shop("rq", rq=rq.Queue(connection=connection, is_async=False))
    with app.app_context():
        assert app.draw.submit().wait(timeout=0) == "a tree"


def test_other_queues_of_rq_are_like_the_one_that_is_given(shop, connection):
    app = shop("rq", rq=rq.Queue(connection=connection, is_async=False))
    with app.app_context():
        assert app.render.submit().wait(timeout=0) == "a tree"


WRONG = [
    "localhost",
    "redis://:hunter2@localhost:port/0",
    "redis://:hunter2/x@localhost/0",
    "http://:hunter2@localhost",
]


@pytest.mark.parametrize("address", WRONG)
def test_an_address_that_is_none_of_a_redis_is_refused_without_its_password(make_app, address):
    with pytest.raises(ConfigurationError, match=r"BGTASKS_RQ: expected an address .*redis://:password@host") as raised:
        make_app(runner="rq", rq=address)

    assert "hunter2" not in str(raised.value)
    assert raised.value.__suppress_context__


def test_an_rq_worker_without_the_app_says_how_it_gets_it(monkeypatch):
    monkeypatch.delenv("RQ_CONFIG", raising=False)
    with pytest.raises(ConfigurationError, match="does not have the app 'nobody': .*rq worker --config MODULE"):
        wake("nobody", "id", "default")


def test_a_horse_that_knows_nothing_imports_its_workers_module_of_settings(redis, tmp_path, monkeypatch):
    (tmp_path / "shop_of_a_horse.py").write_text(
        f"""
from flask import Flask
from flask_bgtasks import BackgroundTasks

app = Flask(__name__, instance_path={str(tmp_path)!r})
bgtasks = BackgroundTasks(app, store="memory://", runner="rq", rq={redis.url!r}, app_id="shop of a horse")


@bgtasks.task
def draw():
    return "a tree"
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("RQ_CONFIG", "shop_of_a_horse")
    wake("shop of a horse", "id", "default")

    shop = sys.modules.pop("shop_of_a_horse")
    with shop.app.app_context():
        handle = shop.draw.submit()
        wake("shop of a horse", handle.request_id, "default")
        assert handle.wait(timeout=0) == "a tree"
    shop.app.extensions["bgtasks"].close(grace=0)


# -- Dramatiq


def test_the_broker_that_dramatiq_was_given_is_used(make_app, state):
    dramatiq.set_broker(StubBroker())

    assert state(make_app(runner="dramatiq")).runner.broker is dramatiq.get_broker()


def test_a_broker_that_has_to_know_a_queue_first_is_told_of_it(shop):
    made = StubBroker()
    app = shop("dramatiq", dramatiq=made)
    with app.app_context():
        app.render.submit()

    assert made.queues["images"].qsize() == 1


def test_an_actor_has_no_limit_and_no_retries(make_app):
    broker = StubBroker()
    make_app(runner="dramatiq", dramatiq=broker)

    options = broker.get_actor("flask_bgtasks.wake.app_under_test").options
    assert (options["max_retries"], options["time_limit"]) == (0, float("inf"))


def test_a_broker_without_the_usual_middleware_will_do(shop):
    broker = StubBroker(middleware=[])
    app = shop("dramatiq", dramatiq=broker)
    with app.app_context():
        app.draw.submit()

    assert broker.queues["default"].qsize() == 1


def test_a_worker_of_dramatiq_takes_from_the_apps_queues_and_begins(shop, state):
    broker = StubBroker()
    app = shop("dramatiq", dramatiq=broker)
    worker = dramatiq.Worker(broker, worker_threads=1)
    worker.start()
    try:
        assert set(worker.consumers) >= {"default", "images"}
        assert any(thread.name == "bgtasks-recovery" for thread in threading.enumerate())
        with app.app_context():
            assert app.render.submit().wait(timeout=20) == "a tree"
    finally:
        worker.stop()
    assert state(app).runner.draining


def test_two_apps_with_one_broker_are_both_told(make_app, state):
    broker = StubBroker()
    apps = [make_app(runner="dramatiq", dramatiq=broker, app_id=name) for name in ("one", "two")]
    broker.emit_before("worker_shutdown", None)

    for app in apps:
        state(app).lifecycle.drain(grace=0)
        assert state(app).runner.draining
    assert sum(type(each).__name__ == "_Workers" for each in broker.middleware) == 1


# -- Huey


def test_huey_keeps_no_result(shop):
    instance = huey.MemoryHuey()
    app = shop("huey", huey=instance)
    with app.app_context():
        app.draw.submit()
    _deliver(instance)

    assert (instance.pending_count(), instance.result_count()) == (0, 0)


def test_what_runs_at_once_runs_one_after_the_other_and_not_one_inside_the_other(make_app, bg):
    app, depths = make_app(runner="huey", sinks=[], huey=huey.MemoryHuey(immediate=True)), []

    @bg.task(max_concurrency=1)
    def alone(others):
        depths.append(len(inspect.stack(0)))
        handles.extend(alone.submit(0) for _ in range(others))  # they wait until this one has ended

    handles = []
    with app.app_context():
        alone.submit(80)

    assert {handle.status.value for handle in handles} == {"completed"}
    assert len(depths) == 81
    assert max(depths) - min(depths) < 60


def test_each_queue_may_have_a_huey_of_its_own(shop):
    default, images = huey.MemoryHuey("default"), huey.MemoryHuey("images")
    app = shop("huey", huey={"default": default, "images": images})
    with app.app_context():
        app.draw.submit()
        app.render.submit()

    assert (default.pending_count(), images.pending_count()) == (1, 1)


def test_one_huey_serves_all_queues(shop):
    instance = huey.MemoryHuey()
    app = shop("huey", huey=instance)
    with app.app_context():
        app.draw.submit()
        app.render.submit()

    assert instance.pending_count() == 2


def test_several_hueys_need_one_for_the_queue_default(make_app):
    with pytest.raises(ConfigurationError, match="Huey instance for the queue 'default'"):
        make_app(runner="huey", huey={"images": huey.MemoryHuey()})
