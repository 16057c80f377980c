"""What docs/explanation/capacity.md counts with: the commits and rows of a task on PostgreSQL, the mirror's documents.

PostgreSQL does the counting: it gives a number to each transaction that writes, and keeps how many rows were written.
"""

import contextlib
import time
from collections import Counter

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_bgtasks import BackgroundTasks, current_task, step
from tests.support.waiting import PATIENCE, until

TASKS = 20
STRAY = 0.5
"""For each task, at most: what PostgreSQL itself writes meanwhile (statistics), and what a look at lost work costs."""


@pytest.fixture
def store(new_postgresql_database):
    pytest.importorskip("psycopg")
    return new_postgresql_database()


def make(store, folder, **settings):
    app, bgtasks = Flask("app", instance_path=str(folder)), BackgroundTasks()
    bgtasks.init_app(app, store=store, announcements="off", **settings)

    @bgtasks.task
    def steps(count):
        for number in range(count):
            with step(f"Step {number}"):
                pass

    @bgtasks.task
    def report(seconds):
        stop = time.monotonic() + seconds
        with step("Draw"):
            while (left := stop - time.monotonic()) > 0:
                current_task.update(fraction=1 - left / seconds)

    app.steps, app.report = steps, report
    return app


@contextlib.contextmanager
def opened(app):
    with app.app_context():
        yield
    app.extensions["bgtasks"].close(grace=PATIENCE)


def counted(store):
    """Transactions that wrote, and rows that were written, once nobody has the database open."""
    url = sa.make_url(store)
    engine = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as db:
        name = {"name": url.database}
        until(lambda: not db.scalar(sa.text("SELECT count(*) FROM pg_stat_activity WHERE datname = :name"), name))
        commits = db.scalar(sa.text("SELECT CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)"))
        rows = db.scalar(
            sa.text("SELECT tup_inserted + tup_updated + tup_deleted FROM pg_stat_database WHERE datname = :name"), name
        )
    engine.dispose()
    return Counter(commits=int(commits), rows=int(rows))


def spent(store, work):
    before = counted(store)
    work()
    after = counted(store)
    return {key: after[key] - before[key] for key in after}


def in_this_process(store, folder, count, steps):
    app = make(store, folder)
    with opened(app):
        for _ in range(count):
            app.steps.submit(steps).wait(timeout=PATIENCE)


def in_a_worker(store, folder, count):
    web, worker = make(store, folder, runner="external"), make(store, folder)
    with opened(web), opened(worker):
        with web.app_context():
            handles = [web.steps.submit(0) for _ in range(count)]
        worker.extensions["bgtasks"].lifecycle.start()
        for handle in handles:
            handle.wait(timeout=PATIENCE)


@pytest.mark.slow
def test_a_task_is_two_commits_where_it_begins_at_once_and_three_in_a_worker(store, tmp_path):
    in_this_process(store, tmp_path, 1, 0)  # makes the tables

    here = spent(store, lambda: in_this_process(store, tmp_path, TASKS, 0))
    there = spent(store, lambda: in_a_worker(store, tmp_path, TASKS))

    assert 2 <= here["commits"] / TASKS < 2 + STRAY
    assert 3 <= there["commits"] / TASKS < 3 + STRAY
    assert 7 <= here["rows"] / TASKS < 7 + STRAY
    assert 8 <= there["rows"] / TASKS < 8 + STRAY


@pytest.mark.slow
def test_a_step_is_three_rows_and_no_commit(store, tmp_path):
    in_this_process(store, tmp_path, 1, 10)

    none = spent(store, lambda: in_this_process(store, tmp_path, TASKS, 0))
    ten = spent(store, lambda: in_this_process(store, tmp_path, TASKS, 10))

    assert (ten["rows"] - none["rows"]) / TASKS == pytest.approx(30, abs=STRAY)
    assert (ten["commits"] - none["commits"]) / TASKS < 1 + STRAY  # what was reported before the end is one at most


@pytest.mark.slow
def test_reports_are_at_most_four_commits_a_second(store, tmp_path):
    in_this_process(store, tmp_path, 1, 0)
    seconds = 3

    def report():
        app = make(store, tmp_path)
        with opened(app):
            app.report.submit(seconds).wait(timeout=PATIENCE)

    assert spent(store, report)["commits"] <= 2 + 4 * seconds + TASKS * STRAY


@pytest.mark.slow
def test_the_mirror_writes_two_documents_at_each_of_three_changes(firestore_project, tmp_path, monkeypatch):
    batches = pytest.importorskip("google.cloud.firestore_v1.batch")
    sizes, commit = [], batches.WriteBatch.commit

    def noted(batch, *arguments, **options):
        sizes.append(len(batch))
        return commit(batch, *arguments, **options)

    monkeypatch.setattr(batches.WriteBatch, "commit", noted)
    app = make("memory://", tmp_path, sinks=["firestore"], firebase_project=firestore_project)
    with opened(app):
        app.steps.submit(10).wait(timeout=PATIENCE)
        until(lambda: not app.extensions["bgtasks"].store.stats().deliveries_pending)

    assert sum(sizes) == 6
