"""Real servers, ill-treated at random; afterwards every promise has to hold. The long form runs with `make soak`."""

import functools
import os

import pytest

from tests.chaos.checker import digest
from tests.chaos.driver import Run
from tests.chaos.stores import Firestore, Postgresql, Sqlite

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]  # on Firestore, beside other tests, it takes four minutes

LONG_SECONDS = float(os.environ.get("CHAOS_SECONDS", "600"))
MINIMUM = {Sqlite: (2000, 200), Postgresql: (800, 100)}  # tasks and faults in ten minutes
RATES = {Sqlite: 9.0, Postgresql: 4.0}  # tasks asked for in a second: two cores do the hurting and the looking too
SEED = int(os.environ["CHAOS_SEED"]) if "CHAOS_SEED" in os.environ else None  # a soak's is another one each time
SHORT_SEED = SEED or 1481071889  # the same faults in the same order, so that two runs of the suite say the same


@pytest.mark.slow
@pytest.mark.parametrize(("store", "external"), [(Sqlite, False), (Postgresql, True)])
def test_whatever_breaks_every_accepted_task_ends_once(tmp_path, store, external):
    _need(store)
    run = Run(tmp_path / "run", store, seed=SHORT_SEED, external=external)

    violations = run.go(10, tasks=20, besides=["deploys"])  # which takes as long as all the others

    print(run.summary())
    assert digest(violations) == [], run.summary()
    assert run.tasks >= 20, run.summary()


@pytest.mark.slow
def test_the_same_holds_where_firestore_is_the_store(tmp_path, firestore_project):
    from google.cloud import firestore

    client = firestore.Client(project=firestore_project)
    run = Run(tmp_path / "run", functools.partial(Firestore, client=client), seed=SHORT_SEED, rate=2.0, external=True)

    violations = run.go(12, tasks=10)
    client.close()

    print(run.summary())
    assert digest(violations) == [], run.summary()
    assert run.tasks >= 10, run.summary()


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("store", [Sqlite, Postgresql])
def test_for_ten_minutes_whatever_breaks_every_accepted_task_ends_once(tmp_path, store, capsys):
    _need(store)
    run = Run(tmp_path / "run", store, seed=SEED, rate=RATES[store])

    violations = run.go(LONG_SECONDS)

    with capsys.disabled():
        print(f"\n{run.summary()}; {len(violations)} violations")
    assert digest(violations) == [], run.summary()
    tasks, faults = MINIMUM[store]
    assert run.stored >= LONG_SECONDS / 600 * tasks, run.summary()  # with those of bursts: all are checked alike
    assert run.injuries.total() >= LONG_SECONDS / 600 * faults, run.summary()


def _need(store):
    if store is Postgresql:
        pytest.importorskip("psycopg")
