"""What the client refuses, and in which words; and what its names look like to a reader."""

import inspect
import json
import os
import subprocess
import sys

import pytest

from flask_bgtasks import ConfigurationError, NotSerializable
from flask_bgtasks.client import AsyncClient, AsyncTask, Client, Outcome, Task
from flask_bgtasks.client.io.effects import Answer
from flask_bgtasks.client.pending.registry import default_path

FOREVER = "http://127.0.0.1:9"


def test_both_clients_have_the_same_methods_parameters_and_words():
    for one, other in ((Client, AsyncClient), (Task, AsyncTask)):
        names = {n for n in dir(one) if not n.startswith("_")} - {"close", "events"}
        assert names == {n for n in dir(other) if not n.startswith("_")} - {"aclose", "events"}
        for name in names:
            first, second = getattr(one, name), getattr(other, name)
            if callable(first):
                assert inspect.signature(first) == inspect.signature(second)
                assert first.__doc__ == second.__doc__
                assert inspect.iscoroutinefunction(second)


def test_an_address_without_a_scheme_is_refused():
    with pytest.raises(ConfigurationError, match="http://"):
        Client("localhost:5000")


def test_what_is_no_json_is_refused_before_anything_is_stored():
    with Client(FOREVER, store=":memory:") as client:
        with pytest.raises(NotSerializable, match="json="):
            client.submit("/process", json={"when": object()})
        with pytest.raises(TypeError, match="either json"):
            client.submit("/process")
        assert client.pending() == []


def test_a_missing_extra_is_named():
    code = """
import sys
sys.modules["httpx"] = None
from flask_bgtasks.client import Client, FirestoreReader
try:
    Client("http://127.0.0.1:9")
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip().endswith("pip install 'flask-bgtasks[client]'")
    assert done.stdout.startswith("ConfigurationError")


def test_importing_the_client_loads_no_httpx():
    code = "import sys, json, flask_bgtasks.client; print(json.dumps('httpx' in sys.modules))"

    assert json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) is False


def test_the_default_file_is_in_the_users_state(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "flask-bgtasks/pending.sqlite3"

    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert str(default_path()).startswith(os.path.expanduser("~"))


HOMELESS = """
import os, pwd, sys
from flask_bgtasks.client import Client
def nobody(uid):
    raise KeyError(uid)
pwd.getpwuid = nobody  # a container whose user is not in /etc/passwd
try:
    Client("http://127.0.0.1:9").pending()
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("home", "error"),
    [
        (None, "ConfigurationError"),  # no HOME
        ("/proc/1/nowhere", "StoreUnavailable"),  # nothing can be made there
        ("/dev/null", "StoreUnavailable"),  # no folder
        ("/sys", "StoreUnavailable"),  # read-only
    ],
)
def test_without_a_home_that_can_be_written_the_error_names_store(home, error):
    env = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_STATE_HOME")}
    env |= {} if home is None else {"HOME": home}

    done = subprocess.run([sys.executable, "-c", HOMELESS], env=env, capture_output=True, text=True, timeout=60)

    said = done.stdout.strip()
    assert said.startswith(error), done.stderr
    for words in ("store='/data/pending.sqlite3'", "BGTASKS_CLIENT_STORE", "store=':memory:'"):
        assert words in said


def test_with_a_store_of_its_own_a_client_needs_no_home(tmp_path):
    env = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_STATE_HOME")}
    code = HOMELESS.replace('9")', f'9", store={str(tmp_path / "p.sqlite3")!r})')

    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)

    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_a_problem_is_told_in_its_own_words():
    assert Answer(422, {}, b'{"detail": "the key was used"}').complaint() == "the key was used (422)"
    assert Answer(500, {}, b"<html>").complaint() == "the server answered 500"
    assert Answer(503, {"retry-after": "7"}).retry_after == 7.0


@pytest.mark.parametrize("status", ["failed", "cancelled", "rejected", "gone"])
def test_an_outcome_that_is_no_result_is_an_error_of_its_own(status):
    outcome = Outcome(key="k", request_id="id", path="/", status=status, error_message="because")

    with pytest.raises(Exception, match="because|cancelled") as caught:
        outcome.unwrap()

    assert status[:4] in type(caught.value).__name__.lower()
