"""Real servers, ill-treated at random; afterwards every promise has to hold. The long form runs with `make soak`."""

import os

import pytest

from tests.chaos.driver import Run

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]  # what is left settles within two minutes, at the latest

LONG_SECONDS = float(os.environ.get("CHAOS_SECONDS", "600"))


@pytest.mark.slow
@pytest.mark.parametrize("external", [False, True], ids=["threads", "external"])
def test_whatever_dies_every_accepted_task_ends_once(tmp_path, external):
    run = Run(tmp_path / "run", external=external)

    violations = run.go(15, kills=3, tasks=30)

    print(run.summary())
    assert violations == [], run.summary()
    assert run.tasks >= 30, run.summary()
    assert run.kills >= 3, run.summary()


@pytest.mark.slow
def test_the_same_holds_where_firestore_is_the_store(tmp_path, firestore_project):
    from google.cloud import firestore

    client = firestore.Client(project=firestore_project)
    run = Run(tmp_path / "run", rate=2.0, external=True, firestore=client)

    violations = run.go(15, kills=3, tasks=10)
    client.close()

    print(run.summary())
    assert violations == [], run.summary()
    assert run.tasks >= 10, run.summary()
    assert run.kills >= 3, run.summary()


@pytest.mark.soak
def test_for_ten_minutes_whatever_dies_every_accepted_task_ends_once(tmp_path, capsys):
    run = Run(tmp_path / "run")

    violations = run.go(LONG_SECONDS)

    with capsys.disabled():
        print(f"\n{run.summary()}, {len(violations)} violations")
    assert violations == [], run.summary()
    assert run.tasks >= LONG_SECONDS / 600 * 2000, run.summary()
    assert run.kills >= LONG_SECONDS / 600 * 200, run.summary()
