"""Two apps on one store that stand for two processes, and tell each other what they stored."""

import os
import time

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, current_task
from flask_bgtasks.app import watcher as watcher_module
from flask_bgtasks.execution.finding import look_times
from tests.support.waiting import PATIENCE, until

NEVER = 3600.0


@pytest.fixture
def make_polls_rare(monkeypatch):
    """Call it, and no poll begins for an hour."""

    def make():
        for name in ("QUERY_LOOK_SECONDS", "TOKEN_LOOK_SECONDS", "NET_LOOK_SECONDS"):
            monkeypatch.setattr(watcher_module, name, NEVER)
        monkeypatch.setattr(look_times, "NET_SECONDS", NEVER)

    return make


@pytest.fixture
def rare_polls(make_polls_rare):
    """No poll for an hour, from the beginning on."""
    make_polls_rare()


class Postgres:
    """Announcements by the store's own database, as a user who can be kept out while the store goes on."""

    def __init__(self, url):
        self.store = url
        self._role = f"listener_{os.getpid()}_{time.monotonic_ns()}"
        self._execute(f"CREATE ROLE {self._role} LOGIN")
        self.announcements = url.replace("postgres@", f"{self._role}@")

    def _execute(self, sql):
        import psycopg

        with psycopg.connect(self.store.replace("+psycopg", ""), autocommit=True) as connection:
            return connection.execute(sql)

    def go_away(self):
        self._execute(f"ALTER ROLE {self._role} NOLOGIN")
        self._execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{self._role}'")

    def come_back(self):
        self._execute(f"ALTER ROLE {self._role} LOGIN")


class ByRedis:
    """Announcements by a Redis, beside an SQLite file."""

    def __init__(self, redis, folder):
        self._redis, self.announcements = redis, redis.url
        self.store = f"sqlite:///{folder}/tasks.sqlite3"

    def go_away(self):
        self._redis.kill()

    def come_back(self):
        self._redis.start()


@pytest.fixture(params=["postgresql", "redis"])
def carrier(request, tmp_path):
    pytest.importorskip("psycopg" if request.param == "postgresql" else "redis")
    if request.param == "postgresql":
        return Postgres(request.getfixturevalue("new_postgresql_database")())
    return ByRedis(request.getfixturevalue("redis"), tmp_path)


@pytest.fixture
def make(tmp_path):
    """Makes an app, with the same tasks in each, and has it serve."""
    made = []

    def build(store, announcements="auto", *, serve=True, **settings):
        app, bgtasks = Flask("app", instance_path=str(tmp_path)), BackgroundTasks()
        ran = app.ran = []

        @bgtasks.task(retries=1)
        def work(n):
            ran.append((n, current_task.attempt))
            for chunk in range(n):
                current_task.emit(str(chunk))
            return n

        @bgtasks.task(max_concurrency=1)
        def narrow(n):
            ran.append(n)
            return n

        app.work, app.narrow = work, narrow
        bgtasks.init_app(app, store=store, announcements=announcements, progress_interval=0.02, **settings)
        app.state = app.extensions["bgtasks"]
        made.append(app)
        if serve:
            app.state.lifecycle.start()
        return app

    yield build
    for app in made:
        app.state.close(grace=PATIENCE)


@pytest.fixture
def two(carrier, make):
    """A web process that runs nothing, and one that runs tasks; each hears the other."""

    def build(**settings):
        web = make(carrier.store, carrier.announcements, runner="external")
        other = make(carrier.store, carrier.announcements, **settings)
        until(lambda: web.state.exchange.holds() and other.state.exchange.holds(), says=lambda: "nothing is heard")
        if look_times.NET_SECONDS == NEVER:  # the look that follows, at what was not heard before, would explain much
            for app in (web, other):
                until(lambda times=app.state.lifecycle.recovery._times: times._look_by > time.monotonic() + NEVER / 2)
        return web, other

    return build
