"""A dispatcher over a store in memory, whose clock a test moves."""

import pytest
from flask import Flask

from flask_bgtasks.delivery.dispatcher import Dispatcher
from flask_bgtasks.delivery.notifier import NotifyPolicy
from flask_bgtasks.plugins import Plugins
from flask_bgtasks.stores.memory.store import MemoryStore
from tests.support.sinks.contexts import context_of
from tests.support.sinks.notified_tasks import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock):
    return MemoryStore(clock=clock)


@pytest.fixture
def make(store, impatient):
    made = []

    def build(*sinks, notify="Ready", rules=None):
        plugins = Plugins()
        for sink in sinks:
            plugins.register(sink)
        app = Flask("notifications")
        deliveries = Dispatcher(
            app, store, plugins, context=context_of(store), notify_of=lambda name: notify, rules=rules or NotifyPolicy()
        )
        deliveries.app = app  # kept alive for the test
        made.append(deliveries)
        return deliveries

    yield build
    for deliveries in made:
        deliveries.stop(5)
