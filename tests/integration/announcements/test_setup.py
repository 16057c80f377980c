"""What `BGTASKS_ANNOUNCEMENTS` may be, what is missing, and what doctor says of it."""

import sys

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, ConfigurationError
from flask_bgtasks.announcements import postgresql as channel_module
from flask_bgtasks.cli.doctor import examine


def init(tmp_path, **settings):
    app = Flask("app", instance_path=str(tmp_path))
    BackgroundTasks().init_app(app, **settings)
    return app.extensions["bgtasks"]


@pytest.mark.parametrize("wrong", ["", 7, "on", "memcached://host", "host:6379", "redis", "postgresql"])
def test_what_cannot_be_announced_by_is_refused(tmp_path, wrong):
    with pytest.raises(ConfigurationError, match="BGTASKS_ANNOUNCEMENTS"):
        init(tmp_path, announcements=wrong)


@pytest.mark.parametrize(
    ("scheme", "wrong"), [("redis", "redis://host:port/0"), ("psycopg", "postgresql://host:port/app")]
)
def test_an_address_that_is_none_is_refused_before_anything_connects(tmp_path, scheme, wrong):
    pytest.importorskip(scheme)

    with pytest.raises(ConfigurationError, match="BGTASKS_ANNOUNCEMENTS"):
        init(tmp_path, announcements=wrong)


@pytest.mark.parametrize(
    "address",
    [
        "amqp://user:secret@host",
        "redis:/:secret@host/0",
        "redis://:secret/1@host/0",
        "redis://:secret#1@host:x/0",
        "postgresql://user:secret/app",
        "postgresql://user:secret@host:secret/app",
    ],
)
def test_a_password_is_not_in_the_message(tmp_path, address):
    with pytest.raises(ConfigurationError) as raised:
        init(tmp_path, announcements=address)

    assert "secret" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize("option", ["timeout=5", "ssl_cert_reqs=none", "nothing=1"])
def test_an_option_that_a_connection_does_not_take_is_refused_at_once(tmp_path, option):
    pytest.importorskip("redis")

    with pytest.raises(ConfigurationError, match="BGTASKS_ANNOUNCEMENTS: expected an address that redis-py takes"):
        init(tmp_path, announcements=f"redis://localhost/0?{option}")


@pytest.mark.parametrize("option", ["decode_responses=true", "encoding=utf-16"])
def test_how_an_app_reads_its_own_texts_changes_nothing_here(tmp_path, redis, option):
    state = init(tmp_path, announcements=f"{redis.url}?{option}")

    assert [(level, what.split(":")[0]) for level, what, _ in announcements_of(state)] == [("ok", "announcements")]
    state.close(grace=0)


@pytest.mark.parametrize(
    ("package", "url", "extra"), [("redis", "redis://h/0", "redis"), ("psycopg", "postgresql://h/app", "postgresql")]
)
def test_a_package_that_is_missing_is_named_with_its_extra(tmp_path, monkeypatch, package, url, extra):
    for name in [*sys.modules]:
        if name == f"flask_bgtasks.announcements.{extra}":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    import flask_bgtasks.announcements as folder

    monkeypatch.delattr(folder, extra, raising=False)

    with pytest.raises(ConfigurationError, match=rf"{package}' is not installed: pip install 'flask-bgtasks\[{extra}]"):
        init(tmp_path, announcements=url)


@pytest.mark.parametrize("store", ["memory://", "sqlite:///tasks.sqlite3"])
def test_by_default_only_postgresql_announces(tmp_path, store):
    state = init(tmp_path, store=store)

    assert not state.exchange.active
    assert announcements_of(state) == [
        ("ok", "announcements: none, processes find by polling what others stored", None)
    ]
    state.close(grace=0)


def announcements_of(state):
    found = [(one.level, one.what, one.mend) for one in examine(state)]
    return [one for one in found if one[1].startswith("announcements")]


def test_doctor_says_after_how_long_an_announcement_is_heard(make, carrier):
    app = make(carrier.store, carrier.announcements, serve=False)

    ((level, what, _),) = announcements_of(app.state)

    assert level == "ok"
    assert what.startswith("announcements: heard after ")


def test_doctor_says_that_a_server_is_away(make, carrier):
    app = make(carrier.store, carrier.announcements, serve=False)
    carrier.go_away()

    ((level, _, mend),) = announcements_of(app.state)

    assert level == "warn"
    assert mend.startswith("processes poll instead: ")


def test_doctor_says_that_a_pooler_swallows_announcements(make, pgbouncer, new_postgresql_database, monkeypatch):
    pytest.importorskip("psycopg")
    monkeypatch.setattr(channel_module, "ANSWER_SECONDS", 0.5)
    app = make(pgbouncer.url(new_postgresql_database()), serve=False)

    ((level, _, mend),) = announcements_of(app.state)

    assert level == "warn"
    assert "BGTASKS_ANNOUNCEMENTS" in mend
