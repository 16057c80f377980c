"""The reader without a backend: over REST, with an ID token, under the rules."""

import pytest

from flask_bgtasks.client import FirestoreReader, FirestoreUnavailable
from tests.integration.test_firestore_sink import db, ended, make, run, token, until  # noqa: F401 - fixtures

pytestmark = pytest.mark.slow


@pytest.fixture
def ruled(make, db, firestore_emulator, firestore_project):  # noqa: F811
    app = make()
    printed = app.test_cli_runner().invoke(args=["bgtasks", "firestore", "rules"]).output
    firestore_emulator.set_rules(firestore_project, printed)
    return app


@pytest.fixture
def reader(firestore_project):
    return lambda uid: FirestoreReader(
        firestore_project, token=None if uid is None else lambda: token(uid, firestore_project)
    )


RESULTS = {
    "small": {"text": "ü", "n": [1, 2.5, None, True, {"a": -1}]},
    "large": {"text": "é" * 600_000},
    "unusual": {"rows": [[1, 2], [3]]},
}


@pytest.mark.parametrize("what", RESULTS)
def test_an_owner_reads_both_documents_and_the_whole_result(ruled, reader, db, what):  # noqa: F811
    handle = run(ruled, lambda: RESULTS[what])
    ended(db, handle.request_id)
    ada = reader("ada")

    task = ada.task(handle.request_id)
    progress = until(lambda: (p := ada.progress(handle.request_id))["status"] == "completed" and p)

    assert (task["status"], task["owner_uid"], task["created_at"]) == ("completed", "ada", handle.task.created_at)
    assert progress["progress_percentage"] == 100
    assert ada.result(handle.request_id) == RESULTS[what]


@pytest.mark.parametrize("who", ["eve", None])
def test_to_everybody_else_there_is_nothing(ruled, reader, db, who):  # noqa: F811
    handle = run(ruled, lambda: 1)
    ended(db, handle.request_id)

    assert reader(who).task(handle.request_id) is None
    assert reader(who).progress(handle.request_id) is None
    with pytest.raises(LookupError, match="not there"):
        reader(who).result(handle.request_id)


def test_a_task_that_is_not_there_yet_reads_as_none(ruled, reader):
    assert reader("ada").task("00000000-0000-4000-8000-000000000000") is None


def test_a_failed_task_has_no_result(ruled, reader, db):  # noqa: F811
    def fail():
        raise RuntimeError("no")

    handle = run(ruled, fail)
    ended(db, handle.request_id)

    with pytest.raises(LookupError, match="failed"):
        reader("ada").result(handle.request_id)


def test_without_a_network_it_says_so(monkeypatch):
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:9")

    with pytest.raises(FirestoreUnavailable, match="cannot be read"):
        FirestoreReader("p", token="t", timeout=2).task("0c9b4f0e-6a52-4d0e-9f0a-2f6c1f9f4b7d")
