"""Every implementation of the store protocol, behind one fixture."""

from datetime import timedelta

import pytest

from flask_bgtasks.core.transitions.attempt import Claim
from flask_bgtasks.stores.memory.store import MemoryStore
from flask_bgtasks.stores.sql import SqlStore
from tests.support.stores import Bench, FakeClock, firestore_store, lapse_by_clock, lapse_by_sql

THROUGH_A_POOLER = ("test_claims", "test_creating", "test_outbox", "test_leases", "test_queue_limits")
"""The modules that run once more on PostgreSQL behind PgBouncer: what locks, waits, and sends ahead of answers."""


def pytest_collection_modifyitems(config, items):
    def is_superfluous(item):
        pooled = hasattr(item, "callspec") and item.callspec.params.get("bench") == "pgbouncer"
        return pooled and item.path.stem not in THROUGH_A_POOLER

    superfluous = [item for item in items if is_superfluous(item)]
    config.hook.pytest_deselected(items=superfluous)
    items[:] = [item for item in items if item not in superfluous]


@pytest.fixture(params=["memory", "sqlite", "postgresql", "firestore", "pgbouncer"])
def bench(request, tmp_path):
    clock, opened = FakeClock(), []
    if request.param == "memory":
        yield Bench(MemoryStore(app_id="shop", clock=clock, max_events=300), clock, lapse_by_clock)
        return
    if request.param == "firestore":
        pytest.importorskip("google.cloud.firestore")
        project = request.getfixturevalue("firestore_project")

        def make(app_id):
            return firestore_store(project, clock, app_id)
    else:
        url, times = f"sqlite:///{tmp_path}/tasks.sqlite3", {"clock": clock}
        if request.param in ("postgresql", "pgbouncer"):
            url, times = request.getfixturevalue("new_postgresql_database")(), {}
        if request.param == "pgbouncer":
            url = request.getfixturevalue("pgbouncer").url(url)

        def make(app_id):
            return SqlStore(url, app_id=app_id, max_events=300, **times)

    def open_store(app_id):
        opened.append(make(app_id))
        return opened[-1]

    if request.param in ("postgresql", "pgbouncer"):
        yield Bench(open_store("shop"), None, lapse_by_sql, open_store)
    else:
        yield Bench(open_store("shop"), clock, lapse_by_clock, open_store)
    for store in opened:
        store.close()


@pytest.fixture
def store(bench):
    return bench.store


@pytest.fixture
def claim_change():
    return Claim("worker", timedelta(seconds=60))
