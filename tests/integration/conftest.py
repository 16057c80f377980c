"""An app with tasks, as a user would write it."""

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, Backoff
from flask_bgtasks.delivery import circuit_breaker, retry, sink_worker
from flask_bgtasks.delivery.dispatcher import DEFAULT_RULES, Dispatcher
from flask_bgtasks.plugins import Plugins
from tests.support.sinks.contexts import context_of
from tests.support.waiting import PATIENCE


@pytest.fixture
def bg():
    """The extension object of a test."""
    return BackgroundTasks()


@pytest.fixture
def make_app(tmp_path, bg):
    """Makes apps on a store of their own; closes what it made."""
    made = []

    def make(*, init=True, **settings):
        app = Flask("app_under_test", instance_path=str(tmp_path / "instance"))
        app.config.update(TESTING=False, SECRET_KEY="for tests")
        settings = {
            "store": "memory://",
            "sinks": ["memory"],
            "progress_interval": 0.02,
            "show_errors": True,
            **settings,
        }
        if init:
            bg.init_app(app, **settings)
        made.append(app)
        return app

    yield make
    for app in made:
        if "bgtasks" in app.extensions:
            app.extensions["bgtasks"].close(grace=10)


@pytest.fixture
def impatient(monkeypatch):
    """Deliveries that fail are retried at once, so that no test waits for them."""
    monkeypatch.setattr(retry, "backoff", lambda tries: 0.0)
    monkeypatch.setattr(sink_worker, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(circuit_breaker, "PAUSES", Backoff(0))


@pytest.fixture
def make_dispatcher(store):
    """Makes dispatchers over a module's own `store`, each with these sinks; stops what it made."""
    made = []

    def make(*sinks, notify=None, rules=DEFAULT_RULES):
        plugins = Plugins()
        for sink in sinks:
            plugins.register(sink)
        app = Flask("app_with_sinks")
        context = context_of(store)
        deliveries = Dispatcher(app, store, plugins, context=context, notify_of=lambda name: notify, rules=rules)
        deliveries.app = app  # kept alive for the test
        made.append(deliveries)
        return deliveries

    yield make
    for deliveries in made:
        deliveries.stop(5)


@pytest.fixture
def state():
    """The parts of an app."""
    return lambda app: app.extensions["bgtasks"]


@pytest.fixture
def finished(state):
    """Waits for the task that a response started, and gives it."""
    from flask_bgtasks import TaskHandle

    def wait(app, response):
        return TaskHandle(state(app), response.headers["Task-Id"]).wait_until_done(timeout=PATIENCE)

    return wait
