"""Settings: what is read, and what a wrong one says."""

from datetime import timedelta

import pytest

from flask_bgtasks import ConfigurationError
from flask_bgtasks.settings import Settings, described


def test_the_defaults_need_no_setting():
    settings = Settings.from_config({"SECRET_KEY": "x"})

    assert settings.store == "sqlite:///bgtasks.sqlite3"
    assert settings.expires_after == timedelta(days=7)


def test_an_unknown_setting_is_named_with_the_nearest_known_one():
    with pytest.raises(ConfigurationError, match="BGTASKS_WORKRES.*Did you mean 'BGTASKS_WORKERS'"):
        Settings.from_config({"BGTASKS_WORKRES": 3})


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("WORKERS", "four", "a whole number of at least 1"),
        ("WORKERS", 0, "a whole number of at least 1"),
        ("WORKERS", True, "a whole number of at least 1"),
        ("PROGRESS_INTERVAL", -1, "a number of at least 0.01"),
        ("PROGRESS_INTERVAL", float("nan"), "a number of at least 0.01"),
        ("LEASE_SECONDS", float("inf"), "a number of at least 1"),
        ("STORE", 7, "expected a non-empty string"),
        ("STORE", "  ", "expected a non-empty string"),
        ("URL_PREFIX", "tasks", "a path such as '/tasks'"),
        ("URL_PREFIX", "/", "a path such as '/tasks'"),
        ("SQLITE_SYNCHRONOUS", "OFF", "FULL"),
        ("SINKS", 3, "expected a list"),
        ("RUN_URL", "https://[::1", "expected an address"),
        ("RUN_URL", "https://a.run.app:notaport", "expected an address"),
        ("RUN_URL", "https://a b", "expected an address"),
        ("RUN_URL", "https://user:word@a.run.app", "expected an address"),
        ("ENDPOINTS", [print], "is not the name of an endpoint"),
        ("EXPIRES_AFTER", "soon", "a number of at least 1"),
        ("EXPIRES_AFTER", 1e30, "beyond what a date can hold"),
        ("MAX_STREAMS", "many", "a whole number of at least 0"),
        ("APP_ID", "", "1 to 100 printable characters"),
        ("APP_ID", "   ", "1 to 100 printable characters"),
        ("APP_ID", "a" * 101, "1 to 100 printable characters"),
        ("APP_ID", "shop\n", "1 to 100 printable characters"),
        ("APP_ID", "shop\x00", "1 to 100 printable characters"),
        ("APP_ID", "half an emoji \ud83d", "1 to 100 printable characters"),
        ("APP_ID", "turned \u202e round", "1 to 100 printable characters"),
        ("APP_ID", 7, "1 to 100 printable characters"),
    ],
)
def test_a_wrong_value_is_refused_with_the_setting_and_what_is_wanted(name, value, says):
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_config({f"BGTASKS_{name}": value})

    assert f"BGTASKS_{name}" in str(refused.value)
    assert says in str(refused.value)


def test_lists_may_come_from_the_environment_as_text():
    settings = Settings.from_config({"BGTASKS_SINKS": "memory, other", "BGTASKS_ENDPOINTS": "process"})

    assert settings.sinks == ("memory", "other")
    assert dict(settings.endpoints) == {"process": {}}


def test_durations_are_seconds_or_time_spans():
    for value in (3600, 3600.0, timedelta(hours=1)):
        assert Settings.from_config({"BGTASKS_EXPIRES_AFTER": value}).expires_after == timedelta(hours=1)


def test_what_init_app_is_given_wins_over_the_config():
    assert Settings.from_config({"BGTASKS_WORKERS": 2}, workers=8).workers == 8


def test_every_setting_says_what_it_means():
    assert all(name.startswith("BGTASKS_") and doc.endswith(".") for name, _, doc in described())
