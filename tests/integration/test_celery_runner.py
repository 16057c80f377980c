"""What the Celery runner asks of the app, and what it makes of Celery; without a broker."""

import sys

import pytest

from flask_bgtasks import ConfigurationError

celery = pytest.importorskip("celery")


@pytest.fixture
def instance():
    instance = celery.Celery("shop", broker="memory://")
    yield instance
    instance.close()


@pytest.fixture
def app(make_app, bg):
    app = make_app(runner="celery", sinks=[])

    @bg.task
    def draw():
        return "a tree"

    app.draw = draw
    return app


def test_an_app_without_celery_is_told_so_before_anything_is_stored(app, state):
    with app.app_context(), pytest.raises(ConfigurationError, match=r'app\.extensions\["celery"\]'):
        app.draw.submit()

    assert state(app).store.stats().by_status == {}


def test_a_missing_package_is_named_with_what_installs_it(make_app, monkeypatch):
    monkeypatch.setitem(sys.modules, "celery", None)
    monkeypatch.delitem(sys.modules, "flask_bgtasks.runners.celery", raising=False)

    with pytest.raises(ConfigurationError, match=r"pip install 'flask-bgtasks\[celery\]'"):
        make_app(runner="celery")


def test_what_is_no_celery_instance_is_named(app):
    app.extensions["celery"] = "redis://localhost"

    with app.app_context(), pytest.raises(ConfigurationError, match="expected a Celery instance, not str"):
        app.draw.submit()


def test_celery_may_be_made_after_the_app(app, instance):
    app.extensions["celery"] = instance

    with app.app_context():
        app.draw.submit()

    assert "flask_bgtasks.wake.app_under_test" in instance.tasks


def test_an_app_that_is_made_again_gets_the_messages(make_app, instance):
    from flask_bgtasks import BackgroundTasks

    instance.conf.task_always_eager = True
    for _ in range(3):
        app, again = make_app(init=False), BackgroundTasks()
        again.init_app(app, store="memory://", runner="celery", celery=instance, sinks=[])
        draw = again.task(_tree)
        with app.app_context():
            assert draw.submit().wait(timeout=0) == "a tree"


def _tree():
    return "a tree"


def test_an_app_whose_instance_is_none_does_not_keep_others_from_their_messages(make_app, bg, instance, state):
    from flask_bgtasks.runners.celery import _Worker

    wrong, right = make_app(runner="celery", celery="redis://"), make_app(runner="celery", celery=instance)

    worker = _Worker()
    worker.init(instance)

    assert worker.runners == [state(right).runner]
    assert state(wrong).runner not in worker.runners


def test_celerys_own_proxy_is_the_instance_that_it_stands_for(make_app, instance, state):
    instance.set_current()
    app = make_app(runner="celery", celery=celery.current_app)

    assert state(app).runner.celery() is instance


def test_the_setting_wins_over_the_apps_own(make_app, instance, state):
    app = make_app(runner="celery", celery=instance)
    app.extensions["celery"] = celery.Celery("another", broker="memory://")

    assert state(app).runner.celery() is instance


def test_a_message_carries_an_id_and_a_queue_and_wants_no_result(app, instance):
    sent = []
    app.extensions["celery"] = instance
    task = app.extensions["bgtasks"].runner.task()
    task.apply_async = lambda args, **options: sent.append((args, options))

    with app.app_context():
        handle = app.draw.submit()

    ((args, options),) = sent
    assert args == (handle.request_id, "default")
    assert (options["retry"], "queue" in options) == (False, False)
    assert (task.ignore_result, task.acks_late, task.serializer) == (True, False, "json")


def test_the_doctor_says_what_is_missing(make_app, instance, tmp_path):
    app = make_app(runner="celery", store=f"sqlite:///{tmp_path}/tasks.sqlite3")
    run = app.test_cli_runner().invoke
    assert "the app has no Celery instance" in run(args=["bgtasks", "doctor"]).output

    app.extensions["celery"] = instance
    assert "runner: celery, nothing to do" in run(args=["bgtasks", "doctor"]).output


def test_the_doctor_refuses_a_store_that_workers_cannot_see(app, instance):
    app.extensions["celery"] = instance

    assert "a worker process does not see" in app.test_cli_runner().invoke(args=["bgtasks", "doctor"]).output


def test_tasks_that_submit_others_may_all_run_at_once_in_eager_mode(make_app, bg, instance):
    """Each holds what it publishes by, if anything, until those inside it have run: the pool has ten."""
    instance.conf.task_always_eager = True
    app = make_app(runner="celery", sinks=[], celery=instance)
    ran = []

    @bg.task
    def nested(depth):
        ran.append(depth)
        if depth:
            nested.submit(depth - 1)

    with app.app_context():
        nested.submit(12)

    assert ran == list(range(12, -1, -1))


@pytest.fixture
def over_redis(redis):
    pytest.importorskip("redis")
    instance = celery.Celery("shop", broker=redis.url)
    yield instance
    instance.close()


def test_a_redis_that_accepts_and_never_answers_costs_a_request_a_moment_and_no_task(
    make_app, bg, over_redis, redis, monkeypatch, state
):
    from flask_bgtasks.runners import celery as runners

    monkeypatch.setitem(runners.LIMITS, "redis", {"socket_timeout": 0.2, "socket_connect_timeout": 0.2})
    app = make_app(runner="celery", sinks=[], celery=over_redis)
    draw = bg.task(name="draw")(lambda: "a tree")
    redis.freeze()
    try:
        with app.app_context():  # each would wait for ever
            handles = [draw.submit() for _ in range(3)]
    finally:
        redis.thaw()

    assert [handle.status.value for handle in handles] == ["started"] * 3


def test_a_limit_that_the_app_has_set_itself_stays(make_app, over_redis, state):
    over_redis.conf.broker_transport_options = {"socket_timeout": 77}
    runner = state(make_app(runner="celery", celery=over_redis)).runner

    options = runner._connection(over_redis).transport_options

    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (77, 5.0)


def test_the_doctor_asks_whether_the_broker_answers(make_app, over_redis, redis, tmp_path):
    app = make_app(runner="celery", store=f"sqlite:///{tmp_path}/tasks.sqlite3", celery=over_redis)

    well = app.test_cli_runner().invoke(args=["bgtasks", "doctor"])
    redis.kill()
    unwell = app.test_cli_runner().invoke(args=["bgtasks", "doctor"])

    assert "ok    queue: redis://" in well.output
    assert "FAIL  queue: redis://" in unwell.output
