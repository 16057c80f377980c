"""A dispatcher over a store in memory, whose clock a test moves."""

import functools

import pytest

from flask_bgtasks.stores.memory.store import MemoryStore
from tests.support.sinks.notified_tasks import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock):
    return MemoryStore(clock=clock)


@pytest.fixture
def make(make_dispatcher, impatient):
    return functools.partial(make_dispatcher, notify="Ready")
