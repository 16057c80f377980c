"""PostgreSQL behind PgBouncer: what an app does, and does not do, with sessions that are others' too."""

import pytest

from flask_bgtasks import StoreUnavailable
from flask_bgtasks.announcements import postgresql as channel_module
from flask_bgtasks.stores.sql import SqlStore
from flask_bgtasks.stores.sql.drivers import postgresql
from tests.support.announcing import stream, submit
from tests.support.tasks import new_task
from tests.support.waiting import until

psycopg = pytest.importorskip("psycopg")


@pytest.fixture
def direct(new_postgresql_database):
    return new_postgresql_database()


@pytest.fixture
def impatient(monkeypatch):
    """What a pooler swallows is not waited for long."""
    monkeypatch.setattr(channel_module, "ANSWER_SECONDS", 0.5)


def test_in_transaction_mode_tasks_run_and_streams_work_by_polling(make, pgbouncer, direct, impatient, caplog):
    through = pgbouncer.url(direct)
    web, other = make(through, runner="external"), make(through)

    text = stream(web, submit(web, 3))

    assert "event: output" in text
    assert "event: completed" in text
    until(lambda: caplog.text.count("give the database's own address in BGTASKS_ANNOUNCEMENTS") == 2)
    assert not web.state.exchange.holds()
    assert not other.state.exchange.holds()


def test_the_databases_own_address_is_for_announcements(make, pgbouncer, direct, rare_polls):
    through = pgbouncer.url(direct)
    web, other = make(through, direct, runner="external"), make(through, direct)
    until(lambda: web.state.exchange.holds() and other.state.exchange.holds())

    assert "event: completed" in stream(web, submit(web, 3))


def test_what_is_announced_through_a_pooler_is_heard_by_who_has_the_databases_own_address(
    make, pgbouncer, direct, impatient, rare_polls
):
    other = make(direct)
    until(other.state.exchange.holds)
    web = make(pgbouncer.url(direct), runner="external")

    submit(web, 2)

    until(lambda: other.ran)


def test_in_session_mode_announcements_are_heard(make, session_pgbouncer, direct, rare_polls):
    through = session_pgbouncer.url(direct)
    web, other = make(through, runner="external"), make(through)
    until(lambda: web.state.exchange.holds() and other.state.exchange.holds())

    assert "event: completed" in stream(web, submit(web, 3))


@pytest.fixture
def store(pgbouncer, direct):
    store = SqlStore(pgbouncer.url(direct))
    yield store
    store.close()


def test_sessions_are_left_as_they_were(store, pgbouncer, direct):
    for _ in range(10):
        store.create(new_task(at=store.now()), input={})

    with psycopg.connect(pgbouncer.url(direct).replace("+psycopg", ""), autocommit=True) as other:
        assert other.execute("SHOW statement_timeout").fetchone() == ("0",)
        assert other.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


def test_a_statement_that_takes_too_long_is_ended_by_the_server(store, monkeypatch):
    monkeypatch.setattr(postgresql, "STATEMENT_SECONDS", 0.2)
    monkeypatch.setattr(postgresql, "TRIES", 1)

    with pytest.raises(StoreUnavailable, match="statement timeout"):
        store._database.write(lambda connection: connection.execute("SELECT pg_sleep(30)").fetchone(), durable=False)
